package airflowctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/hook"
	"github.com/duoflow/duoflow/airflowctl/shim"
)

// importWithin bounds a cold start's imports, rowWithin the time from go to the scheduler's job row. Both were
// measured at 2 to 3 s on two busy cores; these are for hosts that are much worse off.
const (
	importWithin = 2 * time.Minute
	rowWithin    = time.Minute
)

// Start gives the credentials of the epoch to one process life and lets it run. A life that was started and failed
// is never started again: an error means that this epoch is used up.
func (j *Job) Start(ctx context.Context, claim fence.Claim) error {
	// gofail: var jobBeforeStart struct{}
	if err := j.hooks.Ask(ctx, hook.PreStart, claim.Epoch); err != nil {
		return fmt.Errorf("start job %s: %w: %w", j.cfg.Name, ErrRefused, err)
	}
	j.hooks.Expect(hook.PostStart, claim.Epoch)
	began := sinceBoot()
	err := j.start(ctx, claim)
	if j.holds(claim.Epoch) { // also when it failed: its process may have begun
		j.ledger.tell(fence.Note{Epoch: claim.Epoch, Node: j.cfg.Node, Moment: fence.Started}, began)
	}
	if err != nil {
		j.hooks.Forget(hook.PostStart, claim.Epoch)
		return err
	}
	j.hooks.Tell(hook.PostStart, claim.Epoch)
	return nil
}

func (j *Job) start(ctx context.Context, claim fence.Claim) error {
	j.setBusy(false, importWithin+rowWithin)
	defer j.setBusy(false, j.pace.calm)
	j.mu.Lock()
	credentials := j.credentials
	j.mu.Unlock()
	if j.cfg.Kind == Command {
		return j.startCommand(ctx, claim, credentials)
	}
	user, fenced, err := j.awaitBroker(ctx, claim)
	if err != nil {
		return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
	}
	l, err := j.takeSpare(ctx, claim.Epoch)
	if err != nil {
		return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
	}
	if err := j.writeService(l.dir+"/service", credentials); err != nil {
		return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
	}
	if fenced {
		if err := j.writeBroker(l, user); err != nil {
			return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
		}
	}
	// gofail: var jobBeforeGo struct{}
	if err := l.Send(shim.Go(claim.Epoch)); err != nil {
		return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
	}
	if err := l.await(ctx, l.running, rowWithin); err != nil {
		return fmt.Errorf("start job %s: scheduler's job row: %w", j.cfg.Name, err)
	}
	return nil
}

func (j *Job) startCommand(ctx context.Context, claim fence.Claim, credentials fence.Credentials) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil { // given up meanwhile: no process may come of it any more
		return fmt.Errorf("start job %s: %w", j.cfg.Name, err)
	}
	l, err := j.newCommand(claim, credentials)
	if err != nil {
		return fmt.Errorf("start job %s: %w: %w", j.cfg.Name, ErrRefused, err)
	}
	l.epoch.Store(claim.Epoch)
	j.current = l
	return nil
}

// takeSpare makes the waiting life the current one, or starts one that will be warm in seconds.
func (j *Job) takeSpare(ctx context.Context, epoch uint64) (*life, error) {
	j.mu.Lock()
	if err := ctx.Err(); err != nil { // given up meanwhile: the standby stays one
		j.mu.Unlock()
		return nil, err
	}
	l := j.spare
	j.spare = nil
	if l == nil || l.over() {
		fresh, err := j.newScheduler()
		if err != nil {
			j.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		l = fresh
	}
	l.epoch.Store(epoch)
	j.current = l
	j.mu.Unlock()
	if err := l.await(ctx, l.warm, importWithin); err != nil {
		return nil, fmt.Errorf("import Airflow: %w", err)
	}
	return l, nil
}

// holds tells whether a process life here was given the epoch.
func (j *Job) holds(epoch uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current != nil && j.current.epoch.Load() == epoch
}

func (l *life) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// Stop ends the process tree of the epoch: SIGTERM, grace, kill. nil only when the tree is empty; a life that never
// began is. A grace of 0 is for a life that went wrong: if its main process still runs, what it does at that moment is
// written to the job's output first, which takes at most about half a second more (see dump).
func (j *Job) Stop(ctx context.Context, epoch uint64, grace time.Duration) error {
	j.mu.Lock()
	l := j.current
	j.mu.Unlock()
	// gofail: var jobBeforeStop struct{}
	if l != nil && l.epoch.Load() == epoch {
		if grace == 0 {
			l.dump(ctx)
		}
		j.hooks.Expect(hook.PostStop, epoch)
		j.beforeStop(ctx, l, epoch, grace)
		if err := l.Stop(ctx, grace); err != nil {
			return fmt.Errorf("stop job %s: %w", j.cfg.Name, err)
		}
		// gofail: var jobStopped struct{}
		<-l.told // its last words are in; at once, for the tree is empty
		j.bury(l)
		j.ledger.tell(fence.Note{Epoch: epoch, Node: j.cfg.Node, Moment: fence.Stopped}, sinceBoot())
		j.hooks.Tell(hook.PostStop, epoch)
	}
	j.endTurn(epoch)
	j.closeMetastore()
	j.setBusy(false, 0)
	return nil
}

// beforeStop gives the operator's command as long as the job will get to end. There is nothing left to veto.
func (j *Job) beforeStop(ctx context.Context, l *life, epoch uint64, grace time.Duration) {
	if grace == 0 || l.over() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := j.hooks.Ask(ctx, hook.PreStop, epoch); err != nil {
		j.logger.Warn("the job is stopped all the same", "err", err)
	}
}

// bury forgets a life whose tree is empty, keeps its last words, and takes its credentials off the disk.
func (j *Job) bury(l *life) {
	j.mu.Lock()
	if j.current == l {
		j.current = nil
	}
	j.lastLines[l.epoch.Load()] = l.said.Tail(keptLines)
	for epoch := range j.lastLines {
		if epoch+keptLives <= l.epoch.Load() {
			delete(j.lastLines, epoch)
		}
	}
	j.mu.Unlock()
	if err := os.RemoveAll(l.dir); err != nil {
		j.logger.Warn("remove service file", "err", err)
	}
}

// lifeEnded tells the observer of the current life, and clears up after a standby, which the keeper then replaces.
func (j *Job) lifeEnded(l *life) {
	j.mu.Lock()
	if j.spare == l {
		j.spare = nil
	}
	current, epoch := j.current == l, l.epoch.Load()
	j.mu.Unlock()
	switch {
	case current:
		j.cfg.Observer.Exited(epoch, l.last())
	case epoch == 0:
		if !l.retired.Load() {
			j.logger.Warn("standby process ended", "reason", l.last())
		}
		if err := errors.Join(l.Kill(context.Background()), os.RemoveAll(l.dir)); err != nil {
			j.logger.Warn("clean up standby", "err", err)
		}
	}
}

func (j *Job) noteJobRow(l *life, row int64) {
	j.mu.Lock()
	store := j.metastore
	j.mu.Unlock()
	j.logger.Info("scheduler runs", "epoch", l.epoch.Load(), "row", row)
	if store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := store.SetJob(ctx, row); err != nil {
		j.logger.Warn("note job row", "err", err)
	}
}
