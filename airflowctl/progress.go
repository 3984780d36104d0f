package airflowctl

import (
	"context"
	"time"
)

const (
	// progressEvery is how often the database is asked whether the scheduler moves.
	progressEvery = 2 * time.Second
	// collectEvery is how often the active host drops the roles of epochs long over.
	collectEvery = 30 * time.Second
)

// watchProgress reports for how long the scheduler has not moved.
func (j *Job) watchProgress(ctx context.Context) {
	var seen witnessed
	for sleep(ctx, progressEvery) {
		epoch, idle, ok := j.progress(ctx)
		if counts, judged := seen.count(time.Now(), epoch, idle, ok); judged {
			j.cfg.Observer.Idle(epoch, counts)
		}
	}
}

// witnessed is since when the database has answered about one epoch without a gap.
type witnessed struct {
	epoch uint64
	since time.Time
}

// count returns how much of the time a scheduler was idle counts: only that in which the database could be asked all
// the while. A metastore outage is not a dead scheduler, and after one it gets as much time as after a start.
func (w *witnessed) count(now time.Time, epoch uint64, idle time.Duration, answered bool) (counts time.Duration, judged bool) {
	if !answered {
		w.since = time.Time{}
		return 0, false
	}
	if w.since.IsZero() || w.epoch != epoch {
		w.since, w.epoch = now, epoch
		return 0, false
	}
	return min(idle, now.Sub(w.since)), true
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
