package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Times of airflowctl/fence.
const (
	firstPause  = 2 * time.Millisecond
	lastPause   = 200 * time.Millisecond
	drainPause  = 4 * time.Millisecond
	probeEvery  = 250 * time.Millisecond
	probeWithin = time.Second
)

// fencer does what airflowctl/fence.Fencer does: the loops of take.go, drain.go and watch.go around one statement each.
type fencer struct {
	d *daemon
}

func (f *fencer) dial(ctx context.Context) (*session, error) {
	return f.d.h.c.db.connect(ctx, f.d.h, 0, false)
}

// take mirrors Fencer.Take and insist.
func (f *fencer) take(ctx context.Context, claim fence.Claim) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		outcome, row, err := f.takeOnce(ctx, claim)
		switch {
		case err == nil && (outcome == "taken" || outcome == "done"):
			f.d.say("fence of epoch %d %s", claim.Epoch, outcome)
			return nil
		case err == nil:
			return fmt.Errorf("%w: %s, row is %s", airflowctl.ErrSuperseded, outcome, row)
		}
		if ctx.Err() != nil || !f.d.w.sleep(ctx, pause) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (f *fencer) takeOnce(ctx context.Context, claim fence.Claim) (outcome string, row fenceRow, err error) {
	s, err := f.dial(ctx)
	if err != nil {
		return "", row, err
	}
	defer s.close()
	outcome, row, _, err = s.take(ctx, claim.Epoch, claim.Node, claim.Token)
	return outcome, row, err
}

// drain mirrors Fencer.Drain.
func (f *fencer) drain(ctx context.Context, claim fence.Claim) error {
	for {
		holds, remain, err := f.drainOnce(ctx, claim)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err == nil && !holds:
			return fmt.Errorf("%w: drain of epoch %d", airflowctl.ErrSuperseded, claim.Epoch)
		case err == nil && remain == 0:
			f.d.say("drained below epoch %d", claim.Epoch)
			return nil
		}
		f.d.w.sleep(ctx, drainPause)
	}
}

func (f *fencer) drainOnce(ctx context.Context, claim fence.Claim) (holds bool, remain int, err error) {
	s, err := f.dial(ctx)
	if err != nil {
		return false, 0, err
	}
	defer s.close()
	return s.drain(ctx, claim.Epoch, claim.Token)
}

// release mirrors Fencer.Release.
func (f *fencer) release(ctx context.Context, claim fence.Claim) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		held, err := f.releaseOnce(ctx, claim)
		switch {
		case err == nil && held:
			return nil
		case err == nil:
			return fmt.Errorf("%w: release of epoch %d", airflowctl.ErrSuperseded, claim.Epoch)
		case !f.d.w.sleep(ctx, pause):
			return err
		}
	}
}

func (f *fencer) releaseOnce(ctx context.Context, claim fence.Claim) (bool, error) {
	s, err := f.dial(ctx)
	if err != nil {
		return false, err
	}
	defer s.close()
	return s.release(ctx, claim.Epoch, claim.Token)
}

// watch mirrors Fencer.watch: it tells the node of the row and of the server.
func (f *fencer) watch() {
	events := f.d.wire.Job(jobName)
	for {
		_ = f.watchSession(events.Health)
		events.Health(fence.Health{Err: "lost"})
		f.d.w.sleep(f.d.parts, probeEvery)
	}
}

func (f *fencer) watchSession(observe func(fence.Health)) error {
	s, err := f.dial(f.d.parts)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		ctx, cancel := f.d.w.within(f.d.parts, probeWithin)
		row, highest, err := s.probe(ctx)
		cancel()
		if err != nil {
			return err
		}
		observe(fence.Health{
			Reachable: true, Writable: true, HighestRole: highest,
			Row: fence.Row{Epoch: row.epoch, Node: row.node, Token: row.token},
		})
		f.awaitNotice()
	}
}

func (f *fencer) awaitNotice() {
	j := f.d.job
	due := false
	e := f.d.w.in(probeEvery, f.d.actor, func() { due = true })
	f.d.w.wait(func() bool { return due || j.noticed })
	j.noticed = false
	f.d.w.cancel(e)
}
