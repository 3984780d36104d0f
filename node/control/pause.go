package control

import (
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// noteOrder starts the clock of a pause or plan when it is first seen. Every node counts, so that a new leader need not begin
// anew; one that has restarted does, and lets it last longer.
func (g *Granter) noteOrder(j lease.Job) {
	if j.Order != g.view.Order {
		g.orderedAt = g.now
	}
}

// Ordered says which the job's last pause or plan is (lease.Job.Order), and how long ago this node learnt of it.
func (g *Granter) Ordered() (order uint64, ago time.Duration) { return g.view.Order, g.orderAge() }

func (g *Granter) orderAge() time.Duration { return g.now.Since(g.orderedAt) }

// orderDue returns what ends a pause whose time is over, or begins a move that was planned.
func (g *Granter) orderDue() (lease.Command, bool) {
	pause, plan := g.view.Pause, g.view.Plan
	switch {
	case plan != nil && g.orderAge() >= plan.In:
		ask := &lease.Ask{Job: g.cfg.Job, Epoch: g.view.Epoch, Move: plan.Move, By: plan.By}
		if !g.movable(plan.Move.To) {
			ask.Cancel = true // or it would be asked for, and refused, for ever
		}
		return lease.Command{Ask: ask}, true
	case pause != nil && pause.For > 0 && g.orderAge() >= pause.For:
		return lease.Command{Hold: &lease.Hold{Job: g.cfg.Job, Order: g.view.Order, Cause: lease.CauseExpired}}, true
	}
	return lease.Command{}, false
}

// movable reports whether the log would accept a move to there.
func (g *Granter) movable(to lease.NodeID) bool {
	if to == "" {
		return true
	}
	return g.known(to) && !g.witness(to) && !(g.view.Phase == lease.Granted && g.view.Holder == to)
}

// heldBack reports whether a pause forbids what nobody has asked for.
func (g *Granter) heldBack() bool {
	level := g.view.Paused()
	return g.view.Move == nil && (level == lease.PauseGrants || level == lease.PauseStopped)
}

// keptAway reports whether a pause keeps the job from a node: it stays where it is, or was.
func (g *Granter) keptAway(id lease.NodeID) bool {
	return g.view.Paused() == lease.PauseMoves && g.view.Move == nil && g.view.Phase != lease.Vacant && id != g.view.Holder
}

// waitsForResume says what a pause holds back now; empty when nothing.
func (g *Granter) waitsForResume() string {
	if g.view.Pause == nil || g.view.Move != nil {
		return ""
	}
	pause := *g.view.Pause
	until := "until it is resumed"
	if pause.For > 0 {
		until = fmt.Sprintf("for another %s", max(0, pause.For-g.orderAge()).Round(time.Second))
	}
	return fmt.Sprintf("paused (%s) %s", pause.Level, until)
}

// newest is the last entry that is about an epoch: what operators have ordered since stands between.
func newest(history []lease.Entry) (lease.Entry, bool) {
	for _, e := range slices.Backward(history) {
		if e.Kind.Begins() || e.Kind == lease.KindRelease {
			return e, true
		}
	}
	return lease.Entry{}, false
}

// toBeStopped: the log has the job stopped by a pause, and it is ours.
func toBeStopped(m *Machine, _ Input) bool {
	return m.mine() && m.view.Epoch == m.epoch && m.view.Paused() == lease.PauseStopped
}

func (m *Machine) halted(Input) {
	m.end(lease.CausePaused, "an operator wants it stopped", m.cfg.Timing.PlannedGrace)
}
