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

// watchProgress reports for how long the scheduler has not moved. Time in which the database could not be asked does
// not count: a metastore outage is not a dead scheduler.
func (j *Job) watchProgress(ctx context.Context) {
	var since time.Time
	var of uint64
	for sleep(ctx, progressEvery) {
		epoch, idle, ok := j.progress(ctx)
		switch {
		case !ok:
			since = time.Time{}
		case since.IsZero() || of != epoch:
			since, of = time.Now(), epoch
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
