package backup_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
)

var token = lease.Token(strings.Repeat("ab", 16))

// week is a cluster as it was: a job that a holds, with a wish, a plan or a pause, and one that was never granted.
func week(t *testing.T, more ...lease.Command) lease.State {
	t.Helper()
	var s lease.State
	for i, c := range append([]lease.Command{
		{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}, Jobs: []lease.JobName{"scheduler", "etl"}}},
		{Grant: &lease.Grant{Job: "scheduler", Next: 7, Node: "a", Token: token, Cause: lease.CauseFirst, At: 1000}},
	}, more...) {
		if out := s.ApplyAt(uint64(i+2), c); !out.Accepted {
			t.Fatal(out.Why)
		}
	}
	return s
}

func picture(s lease.State) backup.Picture {
	return backup.Picture{Cluster: "prod", Life: "0", Node: "a", Version: "v1", Index: 30, Term: 4, At: 2000, State: s.Snapshot()}
}

func encoded(t *testing.T, p backup.Picture) []byte {
	t.Helper()
	text, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFileIsWhatWasWritten(t *testing.T) {
	want := picture(week(t))
	got, state, err := backup.Decode(encoded(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, got), encoded(t, want)) || !bytes.Equal(state.Snapshot(), want.State) {
		t.Errorf("got %+v", got)
	}
}

// TestDamageIsSeen: every byte of the file counts but the line end.
func TestDamageIsSeen(t *testing.T) {
	file := encoded(t, picture(week(t)))
	for i := range len(file) - 1 {
		bad := slices.Clone(file)
		bad[i] ^= 4
		if _, _, err := backup.Decode(bad); err == nil {
			t.Errorf("byte %d, %q, may be %q", i, file[i], bad[i])
		}
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut short": file[:len(file)/2], "two": append(slices.Clone(file), file...), "other": []byte(`{"a": 1}`),
	} {
		if _, _, err := backup.Decode(bad); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	impossible := picture(week(t))
	impossible.State = []byte("\x01{}")
	if _, _, err := backup.Decode(encoded(t, impossible)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a state that no cluster is in: %v", err)
	}
}

func begin(t *testing.T, s lease.State, o backup.Order) lease.State {
	t.Helper()
	p, err := picture(s).Begin("1-0123456789abcdef", o)
	if err != nil {
		t.Fatal(err)
	}
	got, state, err := backup.Decode(encoded(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if job, _ := s.Job("scheduler"); job.Token != token {
		t.Errorf("the state of then is changed: %+v", job)
	}
	if got.Begins != "1-0123456789abcdef" || got.Index <= 30 || got.Term <= 4 || !slices.Equal(got.Members, []string{"a", "b", "t"}) {
		t.Errorf("%+v", got)
	}
	if _, err := got.Begin("2-0123456789abcdef", o); err == nil {
		t.Error("a file that begins a life began another")
	}
	return state
}

func begunJob(t *testing.T, s lease.State, o backup.Order) lease.Job {
	t.Helper()
	s = begin(t, s, o)
	job, _ := s.Job("scheduler")
	return job
}

var members = []string{"t", "b", "a"}

// TestAnOldEpochIsLeftBehind: nobody holds the job, and no command can bring back what was granted, nor what the skip left out.
func TestAnOldEpochIsLeftBehind(t *testing.T) {
	s := begin(t, week(t), backup.Order{Skip: 100, Members: members})
	job, _ := s.Job("scheduler")
	if job.Epoch != 107 || job.Phase != lease.Released || job.Token == token || job.HeldBy("a", token) {
		t.Errorf("%+v", job)
	}
	if last := job.History[len(job.History)-1]; last.Kind != lease.KindRestore || last.Epoch != 107 || !strings.Contains(last.Detail, "epoch 7") {
		t.Errorf("history ends with %+v", last)
	}
	for _, next := range []lease.Epoch{7, 8, 107} {
		if out := s.Apply(lease.Command{Grant: &lease.Grant{Job: "scheduler", Expect: 107, Next: next, Node: "b", Token: token}}); out.Accepted {
			t.Errorf("epoch %d is granted", next)
		}
	}
	if out := s.Apply(lease.Command{Grant: &lease.Grant{Job: "scheduler", Expect: 107, Next: 108, Node: "b", Token: token}}); !out.Accepted {
		t.Error(out.Why)
	}
	if etl, _ := s.Job("etl"); etl.Phase != lease.Vacant || etl.Epoch != 0 {
		t.Errorf("a job that was never granted: %+v", etl)
	}
}

// TestWhatOperatorsWantedThenIsDropped, but for a pause: to hold back is the safe side.
func TestWhatOperatorsWantedThenIsDropped(t *testing.T) {
	paused := week(t,
		lease.Command{Hold: &lease.Hold{Job: "scheduler", Pause: &lease.Pause{Level: lease.PauseGrants}, Cause: lease.CauseOperator}},
		lease.Command{Ask: &lease.Ask{Job: "scheduler", Epoch: 7, Move: lease.Move{To: "b"}}},
		lease.Command{Ask: &lease.Ask{Job: "scheduler", Epoch: 7, Move: lease.Move{To: "b"}, In: 1e9}})
	before, _ := paused.Job("scheduler")
	job := begunJob(t, paused, backup.Order{Members: members})
	if job.Move != nil || job.Plan != nil || job.Paused() != lease.PauseGrants || job.Order <= before.Order {
		t.Errorf("%+v", job)
	}
	job = begunJob(t, paused, backup.Order{Members: members, Stopped: true})
	if !job.Stopped() || job.Order <= before.Order {
		t.Errorf("%+v", job)
	}
}

// TestARemovalOfThenIsForgotten: the nodes are those of the configuration, and each may be granted a job.
func TestARemovalOfThenIsForgotten(t *testing.T) {
	s := week(t, lease.Command{Retire: &lease.Retire{Node: "b"}})
	if node, _ := s.Node("b"); !node.Leaving {
		t.Fatal("b is not leaving")
	}
	begun := begin(t, s, backup.Order{Members: members})
	if node, ok := begun.Node("b"); !ok || node.Leaving {
		t.Errorf("%+v", begun.Nodes)
	}
}

func TestALongHistoryStaysBounded(t *testing.T) {
	s := week(t)
	for epoch := lease.Epoch(7); epoch < 300; epoch++ {
		s.Apply(lease.Command{Grant: &lease.Grant{Job: "scheduler", Expect: epoch, Next: epoch + 1, Node: "b", Token: token}})
	}
	job := begunJob(t, s, backup.Order{Members: members})
	if len(job.History) != lease.HistoryCap || job.History[lease.HistoryCap-1].Kind != lease.KindRestore {
		t.Errorf("%d entries", len(job.History))
	}
}

func TestEpochsDoNotRunOut(t *testing.T) {
	s := week(t)
	for _, skip := range []uint64{backup.MaxEpoch, 1<<64 - 1} {
		if _, err := picture(s).Begin("1-0123456789abcdef", backup.Order{Skip: skip, Members: members}); err == nil {
			t.Errorf("%d epochs are left out", skip)
		}
	}
}

// TestTheSameOnEveryNode: who restores the same file with the same order has the same to the byte, and only those have the same mark.
func TestTheSameOnEveryNode(t *testing.T) {
	s := week(t)
	p, order := picture(s), backup.Order{Skip: 5, Members: members}
	one, err := p.Begin("1-0123456789abcdef", order)
	if err != nil {
		t.Fatal(err)
	}
	order.Members = []string{"a", "b", "t"}
	two, err := p.Begin("1-0123456789abcdef", order)
	if err != nil || !bytes.Equal(encoded(t, one), encoded(t, two)) {
		t.Errorf("two restores differ: %v", err)
	}
	mark := markOf(t, p, order)
	if markOf(t, p, backup.Order{Skip: 5, Members: members}) != mark {
		t.Error("the order of the names counts")
	}
	later := p
	later.Index++
	for name, other := range map[string]string{
		"another file": markOf(t, later, order), "another skip": markOf(t, p, backup.Order{Skip: 6, Members: members}),
		"stopped": markOf(t, p, backup.Order{Skip: 5, Stopped: true, Members: members}), "other nodes": markOf(t, p, backup.Order{Skip: 5, Members: []string{"a", "b"}}),
	} {
		if other == mark {
			t.Errorf("%s has the same mark", name)
		}
	}
}

func markOf(t *testing.T, p backup.Picture, o backup.Order) string {
	t.Helper()
	mark, err := p.Mark(o)
	if err != nil || len(mark) != 8 {
		t.Fatalf("mark %q, %v", mark, err)
	}
	return mark
}

func TestReplay(t *testing.T) {
	want := week(t)
	configure := lease.Command{Configure: &lease.Configure{Nodes: want.Nodes, Jobs: []lease.JobName{"scheduler", "etl"}}}
	var half lease.State
	half.ApplyAt(2, configure)
	grant := lease.Command{Grant: &lease.Grant{Job: "scheduler", Next: 7, Node: "a", Token: token, Cause: lease.CauseFirst, At: 1000}}
	got, err := backup.Replay(half.Snapshot(), func(yield func(uint64, []byte) bool) { yield(3, grant.Encode()) })
	if err != nil || !bytes.Equal(got.Snapshot(), want.Snapshot()) {
		t.Errorf("%s, %v", got.Snapshot(), err)
	}
	if _, err := backup.Replay(nil, func(yield func(uint64, []byte) bool) { yield(2, []byte("\x02{}")) }); err == nil {
		t.Error("a command of a later version is passed over")
	}
	if _, err := backup.Replay([]byte("nonsense"), func(func(uint64, []byte) bool) {}); err == nil {
		t.Error("a damaged snapshot is taken")
	}
}

// FuzzDecode: a file of anybody's is refused or is what a cluster may be in.
func FuzzDecode(f *testing.F) {
	var s lease.State
	s.Apply(lease.Command{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}}, Jobs: []lease.JobName{"scheduler"}}})
	file, err := picture(s).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"format":"duoflow-backup/1","sum":"","picture":null}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, _, err := backup.Decode(file)
		if err != nil {
			return
		}
		begun, err := p.Begin("1-0123456789abcdef", backup.Order{Skip: 3, Members: members})
		if p.Begins == "" && err == nil {
			if _, _, err := backup.Decode(encoded(t, begun)); err != nil {
				t.Error(err)
			}
		}
	})
}
