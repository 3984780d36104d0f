package airflowctl

import (
	"context"
	"time"
)

const (
	// spareEvery is how often a missing standby process is looked for.
	spareEvery = 250 * time.Millisecond
	// sparePause keeps a new standby's imports from competing with a takeover for the processor.
	sparePause = 10 * time.Second
	// spareRetryMax bounds the doubling pause after a standby that died while it warmed up.
	spareRetryMax = time.Minute
	// progressEvery is how often the database is asked whether the scheduler moves.
	progressEvery = 2 * time.Second
	// collectEvery is how often the active host drops the roles of epochs long over.
	collectEvery = 30 * time.Second
)

// keepSpare keeps one standby process warm beside whatever runs.
func (j *Job) keepSpare(ctx context.Context) {
	if j.cfg.Kind != Airflow || !j.cfg.Warm {
		return
	}
	select {
	case <-j.cleared:
	case <-ctx.Done():
		return
	}
	pause := spareEvery
	for sleep(ctx, pause) {
		pause = spareEvery
		if j.hasSpare() || !sleep(ctx, j.quiet()) {
			continue
		}
		if err := j.makeSpare(ctx); err != nil {
			j.logger.Warn("make standby process", "err", err)
			pause = spareRetryMax / 4
		}
	}
}

func (j *Job) hasSpare() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spare != nil
}

// quiet is how long to leave the processor to a life that has just begun.
func (j *Job) quiet() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current != nil {
		return sparePause
	}
	return 0
}

func (j *Job) makeSpare(ctx context.Context) error {
	j.mu.Lock()
	if j.spare != nil {
		j.mu.Unlock()
		return nil
	}
	l, err := j.newScheduler()
	if err == nil {
		j.spare = l
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return l.await(ctx, l.warm, importWithin)
}

// watchProgress reports for how long the scheduler has not moved. Time in which the database could not be asked does
// not count: a metastore outage is not a dead scheduler.
func (j *Job) watchProgress(ctx context.Context) {
	var since time.Time
	for sleep(ctx, progressEvery) {
		epoch, idle, ok := j.progress(ctx)
		switch {
		case !ok:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		default:
			j.cfg.Observer.Idle(epoch, min(idle, time.Since(since)))
		}
	}
}

func (j *Job) progress(ctx context.Context) (epoch uint64, idle time.Duration, ok bool) {
	j.mu.Lock()
	store, l := j.metastore, j.current
	j.mu.Unlock()
	if store == nil || l == nil {
		return 0, 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, progressEvery)
	defer cancel()
	idle, _, ok, err := store.Progress(ctx)
	return l.epoch.Load(), idle, ok && err == nil
}

// collectRoles drops roles of old epochs, far from any takeover.
func (j *Job) collectRoles(ctx context.Context) {
	for sleep(ctx, collectEvery) {
		j.mu.Lock()
		active := j.current != nil
		j.mu.Unlock()
		if !active {
			continue
		}
		if n, err := j.fencer.Collect(ctx); err != nil && ctx.Err() == nil {
			j.logger.Warn("collect roles", "err", err)
		} else if n > 0 {
			j.logger.Debug("collected roles", "count", n)
		}
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
