package control_test

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// TestAPlanThatCannotBeIsTakenBack: the log would refuse the move, and the raft leader would ask for it for ever.
func TestAPlanThatCannotBeIsTakenBack(t *testing.T) {
	job := lease.Job{Name: jobName, Phase: lease.Granted, Epoch: 3, Holder: "a", Token: tokenOf("a"), Order: 1}
	for _, one := range []struct {
		name   string
		to     lease.NodeID
		cancel bool
	}{
		{"anywhere", "", false}, {"there", "b", false}, {"a witness since", "t", true}, {"gone since", "c", true}, {"where it is", "a", true},
	} {
		t.Run(one.name, func(t *testing.T) {
			g := control.NewGranter(control.GranterConfig{Job: jobName, Self: "a", Timing: control.DefaultTiming()})
			now := control.Instant(time.Hour)
			job.Plan = &lease.Plan{Move: lease.Move{To: one.to}, In: time.Second, By: "vera"}
			g.Step(now, control.Members{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}})
			g.Step(now, control.Leading{On: true})
			g.Step(now, control.Lease{Job: job})
			if early := g.Step(now.Add(999*time.Millisecond), control.Tick{}); len(early) > 0 {
				t.Fatalf("before its time: %+v", early)
			}
			effects := g.Step(now.Add(time.Second), control.Tick{})
			if len(effects) != 1 || effects[0].Command.Ask == nil {
				t.Fatalf("when it is due: %+v", effects)
			}
			if ask := effects[0].Command.Ask; ask.Cancel != one.cancel || ask.Move.To != one.to || ask.Epoch != job.Epoch || ask.By != "vera" {
				t.Errorf("asked for: %+v", ask)
			}
		})
	}
}
