package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// TestOwnStallIsNotSilence: a leader that was not running has not listened, so the holder gets the whole detection time
// again, and the time that others need to find the leader. A holder that then stays silent is suspected all the same.
func TestOwnStallIsNotSilence(t *testing.T) {
	timing := control.DefaultTiming()
	g := control.NewGranter(control.GranterConfig{Job: jobName, Self: "t", Timing: timing})
	now := control.Instant(time.Second)
	step := func(after time.Duration, in control.Input) []control.Effect {
		now = now.Add(after)
		return g.Step(now, in)
	}
	tokens := map[lease.NodeID]lease.Token{"a": lease.Token(strings.Repeat("a", 32)), "b": lease.Token(strings.Repeat("b", 32))}
	beat := func(id lease.NodeID, state control.State) control.Beat {
		return control.Beat{From: id, Said: control.Report{Token: tokens[id], State: state, Healthy: true, Hears: []lease.NodeID{"t"}}}
	}
	step(0, control.Members{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}})
	step(0, control.Leading{On: true})
	step(0, control.Lease{Job: lease.Job{Name: jobName, Epoch: 1, Holder: "a", Token: tokens["a"], Phase: lease.Granted}})
	step(0, beat("a", control.Active))
	step(0, beat("b", control.Standby))

	if effects := step(2*time.Second, control.Tick{}); len(effects) != 0 || g.Suspicion().Cause != "" {
		t.Fatalf("suspected %+v after a stall of the leader's own", g.Suspicion())
	}
	granted := false
	for range 90 {
		step(0, beat("b", control.Standby))
		granted = granted || len(step(25*time.Millisecond, control.Tick{})) != 0
	}
	if !granted {
		t.Error("a holder that stays silent was never replaced")
	}
}

// TestLeaderAlone: a leader that hears nobody suspects nobody, nor does it when the first to be heard again is another than the
// holder. A holder that then stays silent is suspected all the same.
func TestLeaderAlone(t *testing.T) {
	g := control.NewGranter(control.GranterConfig{Job: jobName, Self: "a", Timing: control.DefaultTiming()})
	now := control.Instant(time.Second)
	life := func(id lease.NodeID) lease.Token { return lease.Token(strings.Repeat(string(id), 32)) }
	states := map[lease.NodeID]control.State{"a": control.Standby, "b": control.Active, "c": control.Witness}
	// pass lets time go by in which these nodes are heard, and returns what was proposed.
	pass := func(d time.Duration, heard ...lease.NodeID) (proposed []control.Effect) {
		for end := now.Add(d); now < end; {
			now = now.Add(10 * time.Millisecond)
			proposed = append(proposed, g.Step(now, control.Tick{})...)
			if time.Duration(now)%beatEvery != 0 {
				continue
			}
			for _, id := range append(heard, "a") {
				said := control.Report{Token: life(id), State: states[id], Healthy: true, Hears: []lease.NodeID{"a", "b", "c"}}
				proposed = append(proposed, g.Step(now, control.Beat{From: id, Said: said})...)
			}
		}
		return proposed
	}
	g.Step(now, control.Members{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "c", Witness: true}}})
	g.Step(now, control.Leading{On: true})
	g.Step(now, control.Lease{Job: lease.Job{Name: jobName, Epoch: 1, Holder: "b", Token: life("b"), Phase: lease.Granted}})
	for _, alone := range []time.Duration{250, 310, 600} {
		if got := pass(time.Second, "b", "c"); len(got) > 0 {
			t.Fatalf("while all is well: %+v", got[0].Command)
		}
		if got := pass(alone*time.Millisecond, []lease.NodeID{}...); len(got) > 0 {
			t.Errorf("alone for %d ms: %+v", alone, got[0].Command.Grant)
		}
		if got := pass(100*time.Millisecond, "c"); len(got) > 0 {
			t.Errorf("heard again, after %d ms, by another than the holder: %+v", alone, got[0].Command.Grant)
		}
	}
	if got := pass(3*time.Second, "c"); len(got) == 0 {
		t.Error("a holder that stays silent is never replaced")
	}
}
