package node

import (
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// account is what the raft leader can say of a transition that no other node can, for it alone sees the end of the epoch before
// and the beginning of the next, on one clock.
type account struct {
	// asked and released are when the log first said that the present epoch is to be moved, and that it is over; 0 = it has not.
	asked, released control.Instant
	epoch           lease.Epoch // of the log, to which these belong

	// granted is the grant whose beginning is awaited; nil = none.
	granted *lease.Grant
	began   control.Instant
	before  lease.Timing // how long it took until the grant was decided on
}

// read takes in what the log says of the job.
func (a *account) read(j lease.Job, now control.Instant) {
	if j.Epoch != a.epoch {
		a.epoch, a.asked, a.released = j.Epoch, 0, 0
	}
	switch {
	case j.Move == nil:
		a.asked = 0
	case a.asked == 0:
		a.asked = now
	}
	if j.Phase == lease.Released && a.released == 0 {
		a.released = now
	}
}

// decide begins to measure. How long a silence had lasted is in the grant already.
func (a *account) decide(g *lease.Grant, now control.Instant) {
	a.granted, a.before = g, lease.Timing{}
	switch {
	case g.Detect.Took > 0:
		a.began = now.Add(-g.Detect.Took)
		return
	case a.asked != 0 && a.released != 0:
		a.began, a.before.Name = a.asked, phaseStop
	case a.asked != 0:
		a.began = a.asked
		return
	case a.released != 0:
		a.began, a.before.Name = a.released, phaseWait
	default:
		a.began = now
		return
	}
	a.before.Took = now.Since(a.began)
}

// hear returns the report that a beat of the new holder completes, and whether there is one.
func (a *account) hear(b control.Beat, now control.Instant) (lease.Report, bool) {
	g := a.granted
	if g == nil || b.From != g.Node || b.Said.Token != g.Token || b.Said.Epoch != g.Next || b.Said.State != control.Active {
		return lease.Report{}, false
	}
	a.granted = nil
	r := lease.Report{Job: g.Job, Epoch: g.Next}
	if a.before.Name != "" {
		r.Phases = append(r.Phases, a.before)
	}
	r.Phases = append(r.Phases, lease.Timing{Name: lease.PhaseWhole, Took: now.Since(a.began)})
	return r, true
}

// forget gives up a measurement that cannot be completed: another leads, or has decided otherwise.
func (a *account) forget() { a.granted = nil }

// reckon keeps the job's account, and has the log told when a transition is complete.
func (s *seat) reckon(now control.Instant, in control.Input) (lease.Report, bool) {
	switch in := in.(type) {
	case control.Lease:
		if in.Job.Name == s.name {
			s.account.read(in.Job, now)
		}
	case control.Leading:
		if !in.On {
			s.account.forget()
		}
	case control.Beat:
		return s.account.hear(in, now)
	}
	return lease.Report{}, false
}
