package node

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

const otherLife = lease.Token("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")

// TestAccount: what is measured begins with the first sign that the epoch before was over, and ends with the beat that says that
// the job runs under the next one.
func TestAccount(t *testing.T) {
	at := func(millis int) control.Instant { return control.Instant(time.Duration(millis) * time.Millisecond) }
	active := control.Beat{From: "b", Said: control.Report{Token: otherLife, State: control.Active, Epoch: 2}}
	held := lease.Job{Name: "scheduler", Epoch: 1, Holder: "a", Phase: lease.Granted}
	moving, over := held, held
	moving.Move, over.Phase = &lease.Move{}, lease.Released
	overAndMoving := moving
	overAndMoving.Phase = lease.Released
	for _, test := range []struct {
		name   string
		log    []lease.Job // at 100, 110 and so on
		detect time.Duration
		want   []lease.Timing
	}{
		{name: "silence", log: []lease.Job{held}, detect: 300 * time.Millisecond, want: []lease.Timing{{Name: "whole", Took: 350 * time.Millisecond}}},
		{name: "switchover", log: []lease.Job{held, moving, overAndMoving},
			want: []lease.Timing{{Name: "stop", Took: 90 * time.Millisecond}, {Name: "whole", Took: 140 * time.Millisecond}}},
		{name: "it ended", log: []lease.Job{held, over},
			want: []lease.Timing{{Name: "wait", Took: 90 * time.Millisecond}, {Name: "whole", Took: 140 * time.Millisecond}}},
		{name: "a wish that was taken back", log: []lease.Job{held, moving, held, over},
			want: []lease.Timing{{Name: "wait", Took: 70 * time.Millisecond}, {Name: "whole", Took: 120 * time.Millisecond}}},
		{name: "failover", log: []lease.Job{held, moving}, want: []lease.Timing{{Name: "whole", Took: 140 * time.Millisecond}}},
		{name: "proof", log: []lease.Job{held}, want: []lease.Timing{{Name: "whole", Took: 50 * time.Millisecond}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &seat{name: "scheduler"}
			for i, j := range test.log {
				s.reckon(at(100+10*i), control.Lease{Job: j})
			}
			s.account.decide(&lease.Grant{
				Job: "scheduler", Expect: 1, Next: 2, Node: "b", Token: otherLife, Detect: lease.Timing{Name: "detect", Took: test.detect},
			}, at(200))
			s.reckon(at(210), control.Lease{Job: lease.Job{Name: "scheduler", Epoch: 2, Holder: "b", Phase: lease.Granted}})
			for what, said := range map[string]control.Report{
				"still starting": {Token: otherLife, State: control.Starting, Epoch: 2}, "of an older epoch": {Token: otherLife, State: control.Active, Epoch: 1},
				"of another life": {Token: "c", State: control.Active, Epoch: 2},
			} {
				if r, ok := s.reckon(at(240), control.Beat{From: "b", Said: said}); ok {
					t.Errorf("%s: %+v", what, r)
				}
			}
			got, ok := s.reckon(at(250), active)
			if !ok || got.Epoch != 2 || len(got.Phases) != len(test.want) {
				t.Fatalf("%+v, %v, want %+v", got, ok, test.want)
			}
			for i, p := range got.Phases {
				if p != test.want[i] {
					t.Errorf("%+v, want %+v", p, test.want[i])
				}
			}
			if again, ok := s.reckon(at(260), active); ok {
				t.Errorf("told twice: %+v", again)
			}
		})
	}
}

// TestAccountOfAnotherLeader: who does not lead any more says nothing.
func TestAccountOfAnotherLeader(t *testing.T) {
	s := &seat{name: "scheduler"}
	s.account.decide(&lease.Grant{Job: "scheduler", Next: 2, Node: "b", Token: otherLife}, 1)
	s.reckon(2, control.Leading{On: false})
	if r, ok := s.reckon(3, control.Beat{From: "b", Said: control.Report{Token: otherLife, State: control.Active, Epoch: 2}}); ok {
		t.Errorf("%+v", r)
	}
}
