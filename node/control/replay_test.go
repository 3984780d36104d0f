package control_test

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// TestReplayIsNotNews: a restarted leader replays the log. What happened days ago must not damp what happens now.
func TestReplayIsNotNews(t *testing.T) {
	c := newCourt(t)
	c.change("a", func(r *control.Report) { r.Row = control.Row{Epoch: 5, Node: "b", Token: tokenOf("b")} })
	c.beats()
	for e := lease.Epoch(1); e <= 5; e++ { // the replay: silences of last week
		id := ids[e%2]
		c.log.Apply(lease.Command{Grant: &lease.Grant{Job: jobName, Expect: e - 1, Next: e, Node: id, Token: tokenOf(id), Cause: lease.CauseSilent, At: 1}})
		job, _ := c.log.Job(jobName)
		c.g.Step(c.now, control.Lease{Job: job})
	}
	c.step(control.Proposed{}) // of the row that was ahead of the log before the replay
	c.change("b", func(r *control.Report) { r.State, r.Epoch = control.Active, 5 })
	c.beats()
	c.quiet["b"] = true
	effects := c.pass(10 * time.Second)
	if took := effects[0].Command.Grant.Detect.Took; took > 400*time.Millisecond {
		t.Errorf("detection took %s, want 300ms", took)
	}
}

// TestRowOfAWitness: a row whose owner the log refuses is not observed, for that would never end.
func TestRowOfAWitness(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.change("b", func(r *control.Report) { r.Row = control.Row{Epoch: 7, Node: "t", Token: tokenOf("t")} })
	effects := c.pass(5 * time.Second)
	for i := range 1000 {
		if effects[0].Command.Observe == nil {
			return
		}
		if out := c.log.Apply(*effects[0].Command); out.Accepted {
			return
		} else if i == 999 {
			t.Errorf("1000 times, at once: %s: %s", proposal(effects), out.Why)
		}
		effects = c.step(control.Proposed{})
		if len(effects) == 0 {
			effects = c.pass(5 * time.Second)
		}
	}
}

// TestStallsAddUp: a leader that stalls again and again still suspects by silence, after the time it has listened.
func TestStallsAddUp(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	c.quiet["a"] = true
	for range 100 { // 25 s, in which it listened for 17
		if effects := c.pass(170 * time.Millisecond); len(effects) > 0 {
			return
		}
		c.now = c.now.Add(80 * time.Millisecond)
		if effects := c.beats(); len(effects) > 0 {
			return
		}
	}
	t.Errorf("not heard for 25 s, suspicion %+v", c.g.Suspicion())
}
