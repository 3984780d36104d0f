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
