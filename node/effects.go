package node

import (
	"context"
	"errors"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// proposeWithin bounds one try to get a command agreed on. Whoever proposed it decides again when it fails.
const proposeWithin = 2 * time.Second

// proposeAgainAfter is the least time between two proposals of one decision when the log takes none.
const proposeAgainAfter = 50 * time.Millisecond

// carryOut starts what a machine has decided. Results come back through the mailbox.
func (n *Node) carryOut(parts context.Context, s *seat, e control.Effect) {
	switch e.Kind {
	case control.Moved:
		n.moved(parts, s, e)
	case control.Propose:
		n.proposeFor(parts, s, *e.Command)
	case control.Clear:
		n.do(parts, s, e, s.hosted.Clear)
	case control.Take:
		s.abandon()
		s.takeover, s.abandon = context.WithCancel(parts)
		n.claimed(s.takeover, s, e, s.hosted.Take)
	case control.Drain:
		n.claimed(s.takeover, s, e, s.hosted.Drain)
	case control.Adopt:
		n.claimed(s.takeover, s, e, s.hosted.Adopt)
	case control.Start:
		n.claimed(s.takeover, s, e, s.hosted.Start)
	case control.Stop:
		s.abandon()
		before := s.out
		n.do(parts, s, e, func(ctx context.Context) error {
			n.machine.Wait(before)
			return s.hosted.Stop(ctx, uint64(e.Epoch), e.Grace)
		})
	case control.Surrender:
		n.aside(parts, s, e, s.hosted.Surrender)
	case control.Mirror:
		n.aside(parts, s, e, s.hosted.Mirror)
	}
}

// do carries out one effect and posts how it ended.
func (n *Node) do(ctx context.Context, s *seat, e control.Effect, run func(context.Context) error) {
	returned := make(chan struct{})
	s.out = returned
	n.machine.Go(func() {
		defer close(returned)
		err := run(ctx)
		if ctx.Err() != nil {
			return // given up: nobody waits for the answer
		}
		done := control.Done{Of: e.Kind, Epoch: e.Epoch, Outcome: outcome(err)}
		if err != nil {
			done.Detail = err.Error()
			n.logger.Warn("effect not done", "job", s.name, "effect", e.Kind, "epoch", e.Epoch, "err", err)
		}
		n.wire.mail.post(s.name, done)
	})
}

func (n *Node) claimed(
	ctx context.Context, s *seat, e control.Effect, run func(context.Context, fence.Claim) error,
) {
	n.do(ctx, s, e, func(ctx context.Context) error { return run(ctx, n.claim(e.Epoch)) })
}

// aside carries out an effect that no machine waits for.
func (n *Node) aside(
	ctx context.Context, s *seat, e control.Effect, run func(context.Context, fence.Claim) error,
) {
	n.machine.Go(func() {
		ctx, cancel := n.machine.Within(ctx, proposeWithin)
		defer cancel()
		if err := run(ctx, n.claim(e.Epoch)); err != nil {
			n.logger.Warn("effect not done", "job", s.name, "effect", e.Kind, "epoch", e.Epoch, "err", err)
		}
	})
}

func (n *Node) claim(epoch lease.Epoch) fence.Claim {
	return fence.Claim{Epoch: uint64(epoch), Node: string(n.self), Token: string(n.token)}
}

// outcome sorts an error by what trying again would help.
func outcome(err error) control.Outcome {
	switch {
	case err == nil:
		return control.OK
	case errors.Is(err, airflowctl.ErrSuperseded):
		return control.Superseded
	case errors.Is(err, airflowctl.ErrRefused):
		return control.Refused
	}
	return control.Failed
}

// proposeFor puts what a machine decided to the log and answers it. How long a grant took to be agreed on is a phase
// of the takeover that only this node can measure.
func (n *Node) proposeFor(parts context.Context, s *seat, c lease.Command) {
	began := n.machine.Boot()
	if c.Grant != nil {
		s.account.decide(c.Grant, began)
	}
	n.propose(parts, c, func(err error) {
		if c.Release != nil {
			return // the machine's own, and it looks at the log
		}
		took := n.machine.Boot().Since(began)
		if err != nil {
			n.machine.Pause(parts, proposeAgainAfter)
		}
		n.wire.mail.post(s.name, control.Proposed{})
		if g := c.Grant; g != nil && n.wire.ledger.job(s.name).HeldBy(g.Node, g.Token) {
			report := &lease.Report{Job: s.name, Epoch: g.Next, Phases: []lease.Timing{{Name: "grant", Took: took}}}
			n.propose(parts, lease.Command{Report: report}, nil)
		}
	})
}

// propose puts a command to the log with this host's wall clock, for people to read, and calls then when it ended.
func (n *Node) propose(ctx context.Context, c lease.Command, then func(error)) {
	stamp(&c, n.machine.Wall().UnixMilli())
	n.machine.Go(func() {
		ctx, cancel := n.machine.Within(ctx, proposeWithin)
		defer cancel()
		err := n.log.Propose(ctx, c.Encode())
		if err != nil {
			n.logger.Warn("proposal not agreed on", "err", err)
		}
		if then != nil {
			then(err)
		}
	})
}

func stamp(c *lease.Command, at int64) {
	switch {
	case c.Grant != nil:
		c.Grant.At = at
	case c.Release != nil:
		c.Release.At = at
	case c.Observe != nil:
		c.Observe.At = at
	case c.Ask != nil:
		c.Ask.At = at
	case c.Hold != nil:
		c.Hold.At = at
	}
}

// moved tells people and the history about a transition.
func (n *Node) moved(parts context.Context, s *seat, e control.Effect) {
	m := e.Move
	n.logger.Info("transition", "job", s.name, "epoch", e.Epoch, "from", m.From, "to", m.To,
		"say", m.Say, "cause", m.Cause, "reason", m.Detail)
	n.metrics.transition(s.name, m)
	s.phases.note(m)
	if m.To == control.Active {
		n.beatAt = m.At // due: who waits for it need not wait for a beat
		report := lease.Command{Report: &lease.Report{Job: s.name, Epoch: e.Epoch, Phases: s.phases.timings()}}
		n.metrics.takeover(s.name, s.phases.timings())
		n.propose(parts, report, nil)
	}
}
