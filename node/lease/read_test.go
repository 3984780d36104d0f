package lease

import (
	"fmt"
	"reflect"
	"testing"
)

// readable is a state with one job of some history and one without.
func readable(t *testing.T) State {
	t.Helper()
	var s State
	s.Apply(Command{Configure: &Configure{Nodes: []Node{{ID: "a"}, {ID: "b"}}, Jobs: []JobName{"etl", "scheduler"}}})
	for epoch := range Epoch(3) {
		out := s.Apply(Command{Grant: &Grant{
			Job: "scheduler", Expect: epoch, Next: epoch + 1, Node: "a", Token: Token(fmt.Sprintf("%032x", 1)), Cause: CauseFirst,
		}})
		if !out.Accepted {
			t.Fatal(out.Why)
		}
	}
	return s
}

func TestAgreedIsTheJobWithoutItsHistory(t *testing.T) {
	s := readable(t)
	s.Apply(Command{Ask: &Ask{Job: "scheduler", Epoch: 3, Move: Move{To: "b"}}})
	for _, name := range []JobName{"etl", "scheduler", "unknown"} {
		want, known := s.Job(name)
		want.History = nil
		if got := s.Agreed(name); !reflect.DeepEqual(got, want) || s.Knows(name) != known {
			t.Errorf("%s: %+v, known %v; want %+v, %v", name, got, s.Knows(name), want, known)
		}
	}
	s.Agreed("scheduler").Move.To = "a"
	if job, _ := s.Job("scheduler"); job.Move.To != "b" {
		t.Error("who reads a job can change it")
	}
}

func TestNewest(t *testing.T) {
	s := readable(t)
	all, _ := s.Job("scheduler")
	for n, want := range map[int][]Entry{0: {}, 2: all.History[1:], 3: all.History, 9: all.History} {
		if got := s.Newest("scheduler", n); len(got) != len(want) || (len(want) > 0 && !reflect.DeepEqual(got, want)) {
			t.Errorf("the newest %d: %+v, want %+v", n, got, want)
		}
	}
	if got := s.Newest("unknown", 5); len(got) > 0 {
		t.Errorf("of an unknown job: %+v", got)
	}
}

// TestTry says what Apply says, and changes nothing.
func TestTry(t *testing.T) {
	for _, c := range []Command{
		{Ask: &Ask{Job: "scheduler", Epoch: 3, Move: Move{To: "b"}}},
		{Ask: &Ask{Job: "scheduler", Epoch: 2, Move: Move{To: "b"}}},
		{Ask: &Ask{Job: "scheduler", Epoch: 3, Move: Move{To: "z"}}},
		{Ask: &Ask{Job: "unknown", Epoch: 3}},
		{Hold: &Hold{Job: "etl", Cause: CauseOperator, Pause: &Pause{Level: PauseStopped}}},
		{Configure: &Configure{Nodes: []Node{{ID: "a", Witness: true}}, Jobs: []JobName{"etl"}}},
		{Configure: &Configure{Nodes: []Node{{ID: "a"}}, Jobs: []JobName{"more"}}},
		{Retire: &Retire{Node: "a"}},
		{Retire: &Retire{Node: "b"}},
		{},
	} {
		s := readable(t)
		before := string(s.Snapshot())
		got := s.Try(c)
		if after := string(s.Snapshot()); after != before {
			t.Errorf("%+v changed the state", c)
		}
		if want := s.Apply(c); got != want {
			t.Errorf("%+v: %+v, and then %+v", c, got, want)
		}
	}
}
