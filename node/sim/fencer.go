package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/sim/metastore"
)

// Times of airflowctl/fence: take.go, drain.go, watch.go, session.go.
const (
	firstPause    = 2 * time.Millisecond
	lastPause     = 200 * time.Millisecond
	lockTimeout   = 300 * time.Millisecond
	drainPause    = 4 * time.Millisecond
	unlistedGrace = 250 * time.Millisecond
	probeEvery    = 250 * time.Millisecond
	probeWithin   = time.Second
	spareEvery    = 4 * probeEvery
	breakPause    = 10 * time.Millisecond
	collectEvery  = 30 * time.Second
	keepEpochs    = 8
	collectBatch  = 20
	fencerApp     = "duoflow/" + jobName + "/fencer"
)

// fencer does what airflowctl/fence.Fencer does. The functions of the same names there are what these mirror, loop for
// loop; the statements themselves are the model's.
type fencer struct {
	d     *daemon
	spare *session
	// secrets are the passwords of claims: a repeated take gives the same one.
	secrets map[fence.Claim]string
}

func newFencer(d *daemon) *fencer { return &fencer{d: d, secrets: map[fence.Claim]string{}} }

// dial mirrors Fencer.dial.
func (f *fencer) dial(ctx context.Context) (*session, error) {
	return f.d.h.c.pg.login(ctx, f.d.h, metastore.Login{
		Role: "fencer_" + f.d.h.name, Password: fencerPW, As: metastore.Fencer, Application: fencerApp, LockTimeout: lockTimeout,
	})
}

// command mirrors Fencer.command.
func (f *fencer) command(ctx context.Context) (*session, error) {
	if s := f.spare; s != nil {
		f.spare = nil
		return s, nil
	}
	return f.dial(ctx)
}

// giveBack mirrors Fencer.giveBack.
func (f *fencer) giveBack(s *session) {
	switch {
	case s.closed:
	case f.spare == nil:
		f.spare = s
	default:
		s.close()
	}
}

// keepSpare mirrors Fencer.keepSpare.
func (f *fencer) keepSpare() {
	for {
		f.checkSpare()
		f.d.w.sleep(f.d.parts, spareEvery)
	}
}

func (f *fencer) checkSpare() {
	ctx, cancel := f.d.w.within(f.d.parts, 2*dialTimeout)
	defer cancel()
	s := f.spare
	f.spare = nil
	if s == nil {
		var err error
		if s, err = f.dial(ctx); err != nil {
			return
		}
	} else if _, err := s.ask(ctx); err != nil {
		s.close()
		return
	}
	f.giveBack(s)
}

// repeatable mirrors fence.repeatable.
func repeatable(err error) bool {
	switch code := codeOf(err); code {
	case "", metastore.CodeLockTimeout, metastore.CodeSerialization, metastore.CodeDeadlock, metastore.CodeTooMany,
		metastore.CodeCancelled, "XX000":
		return true
	default:
		return strings.HasPrefix(string(code), "57P")
	}
}

// secretFor mirrors Fencer.secretFor.
func (f *fencer) secretFor(claim fence.Claim) string {
	if known, ok := f.secrets[claim]; ok {
		return known
	}
	f.secrets[claim] = fmt.Sprintf("%016x", f.d.w.rand.Uint64())
	return f.secrets[claim]
}

// take mirrors Fencer.Take and insist, and airflowctl.Job.Take's verdict on them.
func (f *fencer) take(ctx context.Context, claim fence.Claim) (password string, err error) {
	secret := f.secretFor(claim)
	pause, breaking := firstPause, false
	for {
		taken, err := f.takeOnce(ctx, claim, secret, breaking)
		switch {
		case err == nil && (taken.Outcome == "taken" || taken.Outcome == "done"):
			return secret, nil
		case err == nil:
			return "", fmt.Errorf("%w: %s, the row is at %d", airflowctl.ErrSuperseded, taken.Outcome, taken.Row.Epoch)
		case !repeatable(err) && ctx.Err() == nil:
			return "", fmt.Errorf("%w: %w", airflowctl.ErrRefused, err)
		}
		breaking = codeOf(err) == metastore.CodeLockTimeout
		if ctx.Err() != nil || !f.d.w.sleep(ctx, pause) {
			return "", errors.Join(ctx.Err(), err)
		}
		pause = min(2*pause, lastPause)
	}
}

func (f *fencer) takeOnce(ctx context.Context, claim fence.Claim, secret string, breaking bool) (metastore.Taken, error) {
	s, err := f.command(ctx)
	if err != nil {
		return metastore.Taken{}, err
	}
	defer f.giveBack(s)
	if breaking {
		defer f.breakLocks(ctx, s.pid)()
	}
	value, err := s.ask(ctx, metastore.Take{
		Job: jobName, Group: group, Epoch: claim.Epoch, Node: claim.Node, Token: claim.Token, Password: secret,
		Without: f.d.h.c.faulty.take,
	})
	if err != nil {
		return metastore.Taken{}, err
	}
	return value.(metastore.Taken), nil
}

// breakLocks mirrors Fencer.breakLocks and breakUntil.
func (f *fencer) breakLocks(ctx context.Context, pid metastore.PID) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	f.d.w.spawn(0, f.d.actor, func() {
		s, err := f.dial(ctx)
		if err != nil {
			return
		}
		defer s.close()
		for ctx.Err() == nil {
			if _, err := s.ask(ctx, metastore.Unblock{PID: pid, Application: fencerApp}); err != nil && s.closed {
				return
			}
			f.d.w.sleep(ctx, breakPause)
		}
	})
	return cancel
}

// drain mirrors Fencer.Drain.
func (f *fencer) drain(ctx context.Context, claim fence.Claim) error {
	began := f.d.w.now
	var suspects []metastore.PID
	for {
		left, err := f.drainOnce(ctx, claim, suspects, f.d.w.now-began > unlistedGrace)
		switch {
		case err != nil && (!repeatable(err) || ctx.Err() != nil):
			return errors.Join(ctx.Err(), err)
		case err == nil && !left.Holds:
			return fmt.Errorf("%w: drain below epoch %d", airflowctl.ErrSuperseded, claim.Epoch)
		case err == nil && (left.Empty() || f.d.h.c.faulty.drainsOnce):
			return nil
		case err == nil:
			suspects = append([]metastore.PID{}, left.Unlisted...)
		}
		f.d.w.sleep(ctx, drainPause)
	}
}

func (f *fencer) drainOnce(ctx context.Context, claim fence.Claim, suspects []metastore.PID, force bool) (metastore.Left, error) {
	s, err := f.command(ctx)
	if err != nil {
		return metastore.Left{}, err
	}
	defer f.giveBack(s)
	value, err := s.ask(ctx, metastore.Drain{
		Job: jobName, Group: group, Epoch: claim.Epoch, Token: claim.Token, Unlisted: suspects, Force: force,
	})
	if err != nil {
		return metastore.Left{}, err
	}
	return value.(metastore.Left), nil
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
		case !repeatable(err) || !f.d.w.sleep(ctx, pause):
			return err
		}
	}
}

func (f *fencer) releaseOnce(ctx context.Context, claim fence.Claim) (bool, error) {
	s, err := f.command(ctx)
	if err != nil {
		return false, err
	}
	defer f.giveBack(s)
	value, err := s.ask(ctx, metastore.Release{Job: jobName, Group: group, Epoch: claim.Epoch, Token: claim.Token})
	if err != nil {
		return false, err
	}
	return value.(bool), nil
}

// watch mirrors Fencer.watch.
func (f *fencer) watch() {
	events := f.d.wire.Job(jobName)
	for {
		err := f.watchSession(events.Health)
		events.Health(fence.Health{Err: err.Error()})
		f.d.w.sleep(f.d.parts, probeEvery)
	}
}

// watchSession mirrors Fencer.watchSession.
func (f *fencer) watchSession(observe func(fence.Health)) error {
	ctx, cancel := f.d.w.within(f.d.parts, 2*dialTimeout)
	s, err := f.dial(ctx)
	if err == nil {
		defer s.close()
		_, err = s.ask(ctx, metastore.Listen{})
	}
	cancel()
	if err != nil {
		return err
	}
	var last *fence.Health
	for {
		health, err := f.probe(s)
		if codeOf(err) == metastore.CodeLockTimeout && last != nil {
			health, err = *last, nil // probeLocked
		}
		if err != nil {
			return err
		}
		last = &health
		observe(health)
		if err := f.awaitNotice(s); err != nil {
			return err
		}
	}
}

func (f *fencer) probe(s *session) (fence.Health, error) {
	ctx, cancel := f.d.w.within(f.d.parts, probeWithin)
	defer cancel()
	value, err := s.ask(ctx, metastore.Probe{Job: jobName, Group: group})
	if err != nil {
		return fence.Health{}, err
	}
	h := value.(metastore.Health)
	return fence.Health{
		Reachable: true, Writable: true, HighestRole: h.HighestRole, ServerVersion: h.Version,
		Row: fence.Row{Epoch: h.Row.Epoch, Node: h.Row.Node, Token: h.Row.Token},
	}, nil
}

// awaitNotice mirrors Fencer.awaitNotice.
func (f *fencer) awaitNotice(s *session) error {
	due := false
	e := f.d.w.in(f.d.w.span(probeEvery/2, probeEvery*3/2), f.d.actor, func() { due = true })
	f.d.w.wait(func() bool { return due || s.notices > 0 || s.closed })
	f.d.w.cancel(e)
	s.notices = 0
	if s.closed {
		return errConn
	}
	return nil
}

// collect mirrors airflowctl.Job.collectRoles.
func (f *fencer) collect() {
	for f.d.w.sleep(f.d.parts, collectEvery) {
		if f.d.job.current == nil {
			continue
		}
		s, err := f.command(f.d.parts)
		if err != nil {
			continue
		}
		_, _ = s.ask(f.d.parts, metastore.Collect{Job: jobName, Group: group, Keep: keepEpochs, Most: collectBatch}) // next time
		f.giveBack(s)
	}
}
