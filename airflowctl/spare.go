package airflowctl

import (
	"context"
	"strings"
	"time"
)

// pace is how a standby process is looked after; only tests have another than the usual one.
type pace struct {
	// every is the time between two looks at the process, look between two at what it was made from.
	every, look time.Duration
	// calm keeps a new standby's imports from competing for the processor with a life that has just begun.
	calm time.Duration
	// retry is the first pause after a standby that died, retryMax the longest; it doubles in between.
	retry, retryMax time.Duration
}

func usualPace() pace {
	return pace{
		every: 250 * time.Millisecond, look: 5 * time.Second, calm: 10 * time.Second,
		retry: time.Second, retryMax: time.Minute,
	}
}

// keeper keeps one standby process warm beside whatever runs, made from what is installed now. It has one goroutine.
type keeper struct {
	job *Job
	pace
	// made is the last process made, until it is known what became of it.
	made *life
	// fresh will take the spare's place once it is warm; nil: none is being made.
	fresh *life
	// fails counts those that died since one lived, retryAt is when the next may be made.
	fails   int
	retryAt time.Time
	// lookedAt and looked are the last look at what is installed.
	lookedAt time.Time
	looked   fingerprint
}

// keepSpare runs a keeper until ctx ends.
func (j *Job) keepSpare(ctx context.Context) {
	if j.cfg.Kind != Airflow || !j.cfg.Warm {
		return
	}
	select {
	case <-j.cleared:
	case <-ctx.Done():
		return
	}
	k := &keeper{job: j, pace: j.pace}
	for sleep(ctx, k.every) {
		k.tick(ctx, time.Now())
	}
}

// tick is one look at the standby, and at most one step towards a warm and recent one.
func (k *keeper) tick(ctx context.Context, now time.Time) {
	k.settle(ctx, now)
	taking, calm := k.job.busy(now)
	spare := k.job.waiting()
	switch {
	case calm, taking && spare != nil:
		k.giveUp(ctx)
	case spare == nil && k.fresh != nil:
		k.promote(ctx)
	case spare == nil:
		k.make(now)
		k.promote(ctx)
	case k.fresh != nil && k.fresh.isWarm():
		k.promote(ctx)
	case k.fresh == nil && spare.isWarm() && now.Sub(k.lookedAt) >= k.look:
		k.inspect(ctx, spare, now)
	}
}

// settle counts what became of the last process made: a standby that dies is made again after ever longer pauses,
// one that was used or has lasted ends the count.
func (k *keeper) settle(ctx context.Context, now time.Time) {
	l := k.made
	switch {
	case l == nil:
	case l.retired.Load():
		k.made = nil
	case l.epoch.Load() != 0:
		k.made, k.fails = nil, 0
	case l.over():
		k.made = nil
		k.failed(now)
	case l.isWarm() && now.Sub(l.began) > k.retryMax:
		k.fails = 0
	case !l.isWarm() && now.Sub(l.began) > importWithin:
		k.job.logger.Warn("standby does not get warm", "took", now.Sub(l.began))
		k.job.kill(ctx, l) // counted at the next look
	}
	if k.fresh != nil && k.fresh.over() {
		k.fresh = nil // the spare stays, old as it is
	}
}

func (k *keeper) failed(now time.Time) {
	k.retryAt = now.Add(min(k.retry<<min(k.fails, 20), k.retryMax))
	k.fails++
}

// make starts a process; it is warm in some seconds, if it does not die.
func (k *keeper) make(now time.Time) {
	if now.Before(k.retryAt) {
		return
	}
	seen := findInstall(k.job.cfg).fingerprint() // before it reads any of it
	l, err := k.job.newScheduler()
	if err != nil {
		k.job.logger.Warn("make standby process", "err", err)
		k.failed(now)
		return
	}
	l.from = seen
	k.made, k.fresh = l, l
}

// promote makes the fresh process the spare; the one before is ended only then, so that there always is one.
func (k *keeper) promote(ctx context.Context) {
	if k.fresh == nil {
		return
	}
	k.job.mu.Lock()
	old := k.job.spare
	k.job.spare = k.fresh
	k.job.mu.Unlock()
	k.fresh = nil
	if old != nil {
		k.job.retire(ctx, old)
	}
}

// giveUp ends a replacement that is not warm yet: a takeover needs the processor, and has the old one.
func (k *keeper) giveUp(ctx context.Context) {
	if k.fresh != nil {
		k.job.retire(ctx, k.fresh)
		k.fresh = nil
	}
}

// inspect starts a replacement when what the spare was made from has changed, and the change is over: two looks in a
// row see the same. A package that is just being installed is no use yet.
func (k *keeper) inspect(ctx context.Context, spare *life, now time.Time) {
	k.lookedAt = now
	before, seen := k.looked, k.job.look(ctx).learn(spare.from, schemaKey)
	k.looked = seen
	// Airflow itself writes an airflow.cfg where there is none, and the schema is not always known.
	spare.from = spare.from.learn(seen, schemaKey, findInstall(k.job.cfg).config)
	changed := spare.from.changes(seen)
	if len(changed) == 0 || len(before.changes(seen)) > 0 || now.Before(k.retryAt) {
		return
	}
	k.job.logger.Info("standby is made anew", "reason", strings.Join(changed, ", "))
	k.make(now)
}

// waiting is the spare, warm or not; nil when there is none.
func (j *Job) waiting() *life {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spare
}

// busy tells whether a takeover is under way that has no process yet, and whether one has only just got it.
func (j *Job) busy(now time.Time) (taking, calm bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.taking, now.Before(j.calmAt)
}

// setBusy says how a takeover goes on: it is under way, or the processor is a new life's for so long.
func (j *Job) setBusy(taking bool, calm time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.taking, j.calmAt = taking, time.Now().Add(calm)
}

// retire ends a standby that nobody wants any more. Its directory goes when its end has been seen (lifeEnded).
func (j *Job) retire(ctx context.Context, l *life) {
	l.retired.Store(true)
	j.kill(ctx, l)
}

func (j *Job) kill(ctx context.Context, l *life) {
	if err := l.Kill(ctx); err != nil && ctx.Err() == nil {
		j.logger.Warn("end standby process", "err", err)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
