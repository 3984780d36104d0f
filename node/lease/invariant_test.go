package lease

import (
	"fmt"
	"strings"
	"testing"
)

// TestInvariantsCanFail breaks every one of them on purpose: a check that cannot fail proves nothing.
func TestInvariantsCanFail(t *testing.T) {
	s := &State{Nodes: []Node{{ID: "a"}, {ID: "t", Witness: true}}}
	held := Job{Name: "scheduler", Epoch: 3, Holder: "a", Token: "x", Phase: Granted}
	with := func(change func(*Job)) Job {
		j := held
		change(&j)
		return j
	}
	released := with(func(j *Job) { j.Phase = Released })
	tests := []struct {
		name          string
		before, after Job
		want          string
	}{
		{"epoch goes back", held, with(func(j *Job) { j.Epoch = 2 }), "I1: epoch went from 3 back to 2"},
		{"epoch is forgotten", held, Job{Name: "scheduler", Phase: Vacant}, "I1: epoch went from 3 back to 0"},
		{"holder changes within an epoch", held, with(func(j *Job) { j.Holder = "b" }), "I1: epoch 3 changed its owner"},
		{"life changes within an epoch", held, with(func(j *Job) { j.Token = "y" }), "I1: epoch 3 changed its owner"},
		{"released epoch is held again", released, held, "I4: epoch 3 was granted twice"},
		{"witness holds", held, with(func(j *Job) { j.Epoch, j.Holder = 4, "t" }), "I7: witness t holds epoch 4"},
		{"vacant with an epoch", held, with(func(j *Job) { j.Phase = Vacant }), "phase vacant at epoch 3"},
		{"granted without an epoch", Job{Name: "scheduler", Phase: Vacant}, Job{Name: "scheduler", Phase: Granted}, "phase granted at epoch 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := panics(func() { s.mustHold(tt.before, tt.after) })
			if !strings.HasPrefix(got, "lease: job scheduler: "+tt.want) {
				t.Errorf("panic = %q, want %q", got, tt.want)
			}
		})
	}
	for _, fine := range [][2]Job{
		{held, held}, {held, released}, {released, released},
		{released, with(func(j *Job) { j.Epoch = 4 })},
		{held, with(func(j *Job) { j.Epoch, j.Holder, j.Token = 4, "b", "y" })},
	} {
		if got := panics(func() { s.mustHold(fine[0], fine[1]) }); got != "" {
			t.Errorf("%+v -> %+v: %s", fine[0], fine[1], got)
		}
	}
}

func panics(f func()) (said string) {
	defer func() {
		if r := recover(); r != nil {
			said = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// TestApplyChecks shows that Apply really runs the checks: a state that is broken already is not gone on from.
func TestApplyChecks(t *testing.T) {
	s := &State{
		Nodes: []Node{{ID: "t", Witness: true}},
		Jobs:  []Job{{Name: "scheduler", Epoch: 3, Holder: "t", Token: "x", Phase: Granted}},
	}
	ask := Command{Ask: &Ask{Job: "scheduler", Epoch: 3}}
	if got := panics(func() { s.Apply(ask) }); !strings.Contains(got, "I7: witness t holds epoch 3") {
		t.Errorf("panic = %q, want I7", got)
	}
}
