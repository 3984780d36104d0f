package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	pb "go.etcd.io/raft/v3/raftpb"
)

// recorder is a Storage that writes down what it is asked to do.
type recorder struct {
	*Memory
	log  *[]string
	fail error
}

func (r *recorder) Save(b Batch) error {
	note := fmt.Sprintf("save %d entries", len(b.Entries))
	if b.Snapshot != nil {
		note += " and a snapshot"
	}
	if b.Sync {
		note += " sync"
	}
	*r.log = append(*r.log, note)
	return errors.Join(r.fail, r.Memory.Save(b))
}

// alone makes node 1 of three over a recorder; peers 2 and 3 are the test's.
func alone(t *testing.T, early bool) (*Replica, *recorder) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	snapshot, hard := Seed(ids)
	memory, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	storage := &recorder{Memory: memory, log: new([]string)}
	cfg := Config{ID: 1, Storage: storage, Machine: &machine{}, HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 100}
	if early {
		cfg.Early = func(messages []*pb.Message) { *storage.log = append(*storage.log, told("early", messages)...) }
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.PeerFresh(2, true)
	return r, storage
}

// told notes the types of messages.
func told(how string, messages []*pb.Message) []string {
	var notes []string
	for _, m := range messages {
		notes = append(notes, fmt.Sprintf("%s %s to %d", how, m.GetType(), m.GetTo()))
	}
	return notes
}

// flush runs Flush and notes what leaves.
func flush(t *testing.T, r *Replica, s *recorder) []string {
	t.Helper()
	out, err := r.Flush()
	if err != nil {
		t.Fatal(err)
	}
	notes := append(*s.log, told("send", out.Messages)...)
	*s.log = nil
	return notes
}

// elect makes node 1 the leader by the votes of node 2.
func elect(t *testing.T, r *Replica, s *recorder) []string {
	t.Helper()
	var notes []string
	for range 60 {
		r.Tick()
		notes = append(notes, flush(t, r, s)...)
		if slices.Contains(notes, "send MsgPreVote to 2") {
			break
		}
	}
	for _, kind := range []pb.MessageType{pb.MsgPreVoteResp, pb.MsgVoteResp} {
		m := &pb.Message{Type: kind.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2))}
		if err := r.Step(m); err != nil {
			t.Fatal(err)
		}
		notes = append(notes, flush(t, r, s)...)
	}
	if !r.State().Self {
		t.Fatalf("not elected: %q", notes)
	}
	return notes
}

// TestSaveComesBeforeMessages: a vote, and an entry, is durable before anyone hears of it; only a
// leader's entries may go out early, and only when the driver wants them.
func TestSaveComesBeforeMessages(t *testing.T) {
	for _, early := range []bool{false, true} {
		r, s := alone(t, early)
		got := elect(t, r, s)
		if err := r.Propose([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got = append(got, flush(t, r, s)...)
		got = slices.DeleteFunc(got, func(note string) bool { return note == "save 0 entries" })
		want := []string{
			"send MsgPreVote to 2", "send MsgPreVote to 3",
			"save 0 entries sync", "send MsgVote to 2", "send MsgVote to 3",
		}
		if early {
			want = append(want, "early MsgApp to 2", "early MsgApp to 3", "save 1 entries sync")
			want = append(want, "save 1 entries sync")
		} else {
			want = append(want, "save 1 entries sync", "send MsgApp to 2", "send MsgApp to 3")
			want = append(want, "save 1 entries sync")
		}
		if !slices.Equal(got, want) {
			t.Errorf("early=%v:\n got %q\nwant %q", early, got, want)
		}
	}
}

// TestSnapshotIsSynced: raft's MustSync is false for it, yet the answer promises it.
func TestSnapshotIsSynced(t *testing.T) {
	r, s := alone(t, false)
	snapshot, _ := Seed(ids)
	snapshot.Data = []byte("state")
	snapshot.Metadata.Index, snapshot.Metadata.Term = new(uint64(50)), new(uint64(1))
	beat := &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1))}
	if err := r.Step(beat); err != nil {
		t.Fatal(err)
	}
	flush(t, r, s)
	beat.Type, beat.Snapshot = pb.MsgSnap.Enum(), snapshot
	if err := r.Step(beat); err != nil {
		t.Fatal(err)
	}
	got := flush(t, r, s)
	if want := []string{"save 0 entries and a snapshot sync", "send MsgAppResp to 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if state := r.State(); state.Applied != 50 || r.cfg.Machine.(*machine).text != "state" {
		t.Errorf("got %+v", state)
	}
}

func TestSaveErrorSendsNothing(t *testing.T) {
	r, s := alone(t, false)
	s.fail = errors.New("disk full")
	for range 60 {
		r.Tick()
	}
	m := &pb.Message{Type: pb.MsgPreVoteResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2))}
	if err := r.Step(m); err != nil {
		t.Fatal(err)
	}
	if out, err := r.Flush(); !errors.Is(err, s.fail) || len(out.Messages) != 0 {
		t.Errorf("got %v and %d messages", err, len(out.Messages))
	}
}

func TestNewMemoryRefuses(t *testing.T) {
	entries := func(indexes ...uint64) []*pb.Entry {
		var list []*pb.Entry
		for _, index := range indexes {
			list = append(list, &pb.Entry{Index: new(index), Term: new(uint64(1))})
		}
		return list
	}
	for _, test := range []struct {
		snapshot, commit uint64
		log              []*pb.Entry
		want             string // "" = accepted
	}{
		{1, 1, nil, ""},
		{1, 3, entries(2, 3), ""},
		{5, 5, entries(3, 4, 5), ""},
		{5, 6, entries(5, 6), ""},
		{5, 5, entries(7), "does not join"},
		{5, 5, entries(2, 3), "does not join"},
		{1, 1, entries(2, 4), "holds index 4 where 3 belongs"},
		{5, 4, nil, "outside"},
		{5, 7, entries(6), "outside"},
	} {
		snapshot, hard := Seed(ids)
		snapshot.Metadata.Index, hard.Commit = new(test.snapshot), new(test.commit)
		_, err := NewMemory(snapshot, hard, test.log)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("snapshot %d commit %d log %v: got %v, want %q", test.snapshot, test.commit, test.log, err, test.want)
		}
	}
}
