package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	pb "go.etcd.io/raft/v3/raftpb"
)

// alone makes node 1 of three; peers 2 and 3 are the test's.
func alone(t *testing.T) *Replica {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	snapshot, hard := Seed(ids)
	memory, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{
		ID: 1, Storage: memory, Machine: &machine{}, HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.PeerFresh(2, true)
	r.PeerTerm(2, SeedTerm)
	r.PeerTerm(3, SeedTerm)
	expect(t, "the end of the doubt", flush(t, r), "save 0 entries")
	return r
}

// once runs Flush and notes what leaves, in the order that the driver owes: messages, then the save.
func once(t *testing.T, r *Replica) (notes []string, saving bool) {
	t.Helper()
	out, err := r.Flush()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range out.Messages {
		notes = append(notes, fmt.Sprintf("send %s to %d", m.GetType(), m.GetTo()))
	}
	if b := out.Save; b != nil {
		note := fmt.Sprintf("save %d entries", len(b.Entries))
		if b.Snapshot != nil {
			note += " and a snapshot"
		}
		if b.Compact != nil {
			note += fmt.Sprintf(" and compact to %d", b.Compact.Through)
		}
		notes = append(notes, note)
	}
	return notes, out.Save != nil
}

// saved tells the replica that its save is done.
func saved(t *testing.T, r *Replica) {
	t.Helper()
	if err := r.Saved(); err != nil {
		t.Fatal(err)
	}
}

// flush runs Flush with a disk that saves at once.
func flush(t *testing.T, r *Replica) []string {
	t.Helper()
	notes, saving := once(t, r)
	for saving {
		saved(t, r)
		var more []string
		more, saving = once(t, r)
		notes = append(notes, more...)
	}
	return notes
}

// step gives a message of node 2 to node 1.
func step(t *testing.T, r *Replica, m *pb.Message) {
	t.Helper()
	m.From, m.To = new(uint64(2)), new(uint64(1))
	if err := r.Step(m); err != nil {
		t.Fatal(err)
	}
}

// elect makes node 1 the leader by the votes of node 2.
func elect(t *testing.T, r *Replica) []string {
	t.Helper()
	var notes []string
	for range 60 {
		r.Tick()
		notes = append(notes, flush(t, r)...)
		if slices.Contains(notes, "send MsgPreVote to 2") {
			break
		}
	}
	for _, kind := range []pb.MessageType{pb.MsgPreVoteResp, pb.MsgVoteResp} {
		step(t, r, &pb.Message{Type: kind.Enum(), Term: new(uint64(2))})
		notes = append(notes, flush(t, r)...)
	}
	if !r.State().Self {
		t.Fatalf("not elected: %q", notes)
	}
	return notes
}

// expect compares notes.
func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// TestLeaderDoesNotWait: what a leader and a candidate send needs nothing of their own to be durable.
func TestLeaderDoesNotWait(t *testing.T) {
	r := alone(t)
	got := elect(t, r)
	if err := r.Propose([]byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, "a leader", append(got, flush(t, r)...),
		"send MsgPreVote to 2", "send MsgPreVote to 3",
		"send MsgVote to 2", "send MsgVote to 3", "save 0 entries",
		"send MsgApp to 2", "send MsgApp to 3", "save 1 entries",
		"save 1 entries", // both followers are being probed
	)
}

// TestAnswersWaitForTheDisk: an acknowledgement and a vote leave when what they promise is durable, and
// an answer to a heartbeat at once. One save is under way at a time, and the next one holds all that
// came meanwhile.
func TestAnswersWaitForTheDisk(t *testing.T) {
	r := alone(t)
	entry := func(index uint64) []*pb.Entry { return []*pb.Entry{{Index: new(index), Term: new(uint64(2))}} }
	app := &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1)), Entries: entry(2),
	}
	step(t, r, app)
	got, _ := once(t, r)
	expect(t, "an entry", got, "save 1 entries")
	app.Index, app.LogTerm, app.Entries, app.Commit = new(uint64(2)), new(uint64(2)), entry(3), new(uint64(3))
	step(t, r, app)
	app.Index, app.Entries = new(uint64(3)), entry(4)
	step(t, r, app)
	step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(2)), Commit: new(uint64(2))})
	got, _ = once(t, r)
	expect(t, "while it is saved", got, "send MsgHeartbeatResp to 2")
	if at := r.State(); at.Applied != 1 || at.Commit != 3 || at.Last != 4 {
		t.Errorf("unsaved entries were applied: %+v", at)
	}
	saved(t, r)
	got, _ = once(t, r)
	expect(t, "the first save is done", got, "send MsgAppResp to 2", "save 2 entries")
	if at := r.State(); at.Applied != 2 {
		t.Errorf("with the first entry saved: %+v", at)
	}
	step(t, r, &pb.Message{
		Type: pb.MsgVote.Enum(), Term: new(uint64(5)), Index: new(uint64(9)), LogTerm: new(uint64(4)),
		Context: []byte("CampaignTransfer"),
	})
	got, _ = once(t, r)
	expect(t, "a vote", got)
	saved(t, r)
	got, _ = once(t, r)
	expect(t, "the second save is done", got, "send MsgAppResp to 2", "send MsgAppResp to 2", "save 0 entries")
	saved(t, r)
	got, saving := once(t, r)
	expect(t, "the vote is saved", got, "send MsgVoteResp to 2")
	if at := r.State(); at.Applied != 3 || saving {
		t.Errorf("with all saved: %+v", at)
	}
	if err := r.Saved(); err == nil {
		t.Error("a save that nobody asked for was accepted")
	}
}

// TestSnapshotIsSaved: raft's MustSync is false for it, yet the answer promises it, and until it is
// saved the machine keeps its state.
func TestSnapshotIsSaved(t *testing.T) {
	r := alone(t)
	snapshot, _ := Seed(ids)
	snapshot.Data = []byte("state")
	snapshot.Metadata.Index, snapshot.Metadata.Term = new(uint64(50)), new(uint64(1))
	step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(1))})
	flush(t, r)
	step(t, r, &pb.Message{Type: pb.MsgSnap.Enum(), Term: new(uint64(1)), Snapshot: snapshot})
	got, _ := once(t, r)
	expect(t, "a snapshot", got, "save 0 entries and a snapshot")
	if text := r.cfg.Machine.(*machine).text; text != "" {
		t.Errorf("the machine has %q before the snapshot is durable", text)
	}
	saved(t, r)
	got, _ = once(t, r)
	expect(t, "the snapshot is saved", got, "send MsgAppResp to 2")
	if state := r.State(); state.Applied != 50 || r.cfg.Machine.(*machine).text != "state" {
		t.Errorf("got %+v", state)
	}
}

// TestAloneItCounts only its own disk, and only when that has saved.
func TestAloneItCounts(t *testing.T) {
	snapshot, hard := Seed([]uint64{1})
	memory, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{}
	r, err := New(Config{ID: 1, Storage: memory, Machine: m, HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 100})
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		r.Tick()
		flush(t, r)
	}
	if err := r.Propose([]byte("x")); err != nil {
		t.Fatal(err)
	}
	once(t, r)
	for range 1000 { // there is nobody to hand the leadership to
		r.Tick()
		once(t, r)
	}
	if at := r.State(); !at.Self || !at.Stuck || m.text != "" {
		t.Errorf("with the save under way: %+v, %q", at, m.text)
	}
	saved(t, r)
	flush(t, r)
	if at := r.State(); at.Stuck || m.text != "x" {
		t.Errorf("with all saved: %+v, %q", at, m.text)
	}
}

// TestRepeatedAnswerIsKeptOnce: a leader that probes a node with a stuck disk, for hours.
func TestRepeatedAnswerIsKeptOnce(t *testing.T) {
	r := alone(t)
	app := &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(2))}},
	}
	for range 1000 {
		step(t, r, app)
		once(t, r)
	}
	if got := len(r.waiting.answers); got > 3 {
		t.Errorf("%d answers wait", got)
	}
	saved(t, r)
	got, _ := once(t, r)
	expect(t, "the save is done", got, "send MsgAppResp to 2", "send MsgAppResp to 2")
}

// TestQuietTickAllocates nothing that this package could spare: raft's own share is what a bare
// RawNode needs.
func TestQuietTickAllocates(t *testing.T) {
	r := alone(t)
	step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(2))})
	flush(t, r)
	bare := testing.AllocsPerRun(10, func() { r.node.Tick(); r.node.HasReady() })
	if got := testing.AllocsPerRun(10, func() { r.Tick(); flush(t, r); r.State() }); got > bare {
		t.Errorf("%v allocations in a tick, raft alone makes %v", got, bare)
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
