package replica

import (
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// TestAsksToStartOverAfterEntries: a leader that has new entries for a node sends these before it beats, and they do not fit.
// Until it forgets what the node once had they never will.
func TestAsksToStartOverAfterEntries(t *testing.T) {
	r := alone(t)
	r.doubt.reason = "test"
	step(t, r, &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(3)), Index: new(uint64(6)), LogTerm: new(uint64(3)), Commit: new(uint64(6)),
		Entries: []*pb.Entry{{Index: new(uint64(7)), Term: new(uint64(3))}},
	})
	flush(t, r)
	step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(3)), Commit: new(uint64(6))})
	asks := slices.ContainsFunc(r.out.Messages, func(m *pb.Message) bool { return string(m.GetContext()) == startOver })
	if !asks {
		t.Error("it waits for entries that fit, for ever")
	}
}

// TestARejectionOfWhatWasAcknowledged: an answer of node 2's life before came late, so its leader counts on what is not there. To raft each
// rejection is a reason to send the same again at once, and the two would never stop.
func TestARejectionOfWhatWasAcknowledged(t *testing.T) {
	r := alone(t)
	elect(t, r)
	acknowledge := func() {
		step(t, r, &pb.Message{Type: pb.MsgAppResp.Enum(), Term: new(r.announced.Term), Index: new(r.last)})
		flush(t, r)
	}
	reject := func() (again bool) {
		step(t, r, &pb.Message{
			Type: pb.MsgAppResp.Enum(), Term: new(r.announced.Term), Reject: new(true), Index: new(r.last), LogTerm: new(uint64(1)), RejectHint: new(uint64(SeedIndex)),
		})
		return slices.Contains(flush(t, r), "send MsgApp to 2")
	}
	acknowledge()
	if reject(); r.matched(2) != 0 {
		t.Errorf("the leader counts on index %d, which was rejected", r.matched(2))
	}
	acknowledge()
	r.Unreachable(2) // raft then sends one thing at a time
	for range 5 {
		if reject() {
			t.Fatal("what was rejected is sent again at once")
		}
	}
	for range r.cfg.ElectionTicks {
		r.Tick()
	}
	if reject(); r.matched(2) != 0 {
		t.Errorf("after an election timeout the leader still counts on index %d", r.matched(2))
	}
}

// TestABeatAgreesOnNothingInDoubt: the end of a log that came back older than it was is one that a leader has replaced since, and the node
// has acknowledged what took its place. The next beat says that so much is agreed on; it is not this entry that is meant.
func TestABeatAgreesOnNothingInDoubt(t *testing.T) {
	r := alone(t)
	step(t, r, &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(uint64(SeedIndex)), LogTerm: new(uint64(SeedTerm)), Commit: new(uint64(SeedIndex)),
		Entries: []*pb.Entry{{Index: new(uint64(SeedIndex + 1)), Term: new(uint64(2))}},
	})
	flush(t, r)
	r.doubt.reason = "test"
	beat := &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(3)), Commit: new(uint64(SeedIndex + 1))}
	step(t, r, beat)
	flush(t, r)
	if commit := r.node.BasicStatus().HardState.GetCommit(); commit != SeedIndex {
		t.Errorf("entries up to %d are taken for agreed on", commit)
	}
	step(t, r, &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(3)), Index: new(uint64(SeedIndex)), LogTerm: new(uint64(SeedTerm)), Commit: new(uint64(SeedIndex + 1)),
		Entries: []*pb.Entry{{Index: new(uint64(SeedIndex + 1)), Term: new(uint64(3))}},
	})
	flush(t, r)
	if commit, term := r.node.BasicStatus().HardState.GetCommit(), r.appliedTerm; commit != SeedIndex+1 || term != 3 {
		t.Errorf("agreed on up to %d, of term %d", commit, term)
	}
}
