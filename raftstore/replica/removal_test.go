package replica

import (
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// TestRemovedGivesItsLastVotes: whoever has the entry that removes it, and does not know yet that it is agreed on, counts on them.
func TestRemovedGivesItsLastVotes(t *testing.T) {
	for _, in := range []struct {
		name  string
		by    []uint64
		later int // ticks
		over  bool
	}{
		{"nobody says so", nil, 2 * removalWait, false},
		{"one of two does, twice", []uint64{2, 2}, 0, false},
		{"one of two does, and the other is gone for good", []uint64{2}, removalWait, true},
		{"one of two does, and one that does not vote", []uint64{2, 4}, 0, false},
		{"both do", []uint64{3, 2}, 0, true},
	} {
		r := alone(t)
		for _, peer := range in.by { // it heard its leader a moment ago, and its time stands still from the first word
			step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(2)), Commit: new(uint64(SeedIndex))})
			r.PeerRemoved(peer)
		}
		for range in.later * r.cfg.ElectionTicks {
			r.Tick()
			flush(t, r)
		}
		if got := r.State().Removed; got != in.over {
			t.Errorf("%s: it is over: %v", in.name, got)
		}
		flush(t, r)
		step(t, r, &pb.Message{Type: pb.MsgPreVote.Enum(), Term: new(uint64(99)), Index: new(uint64(99)), LogTerm: new(uint64(99))})
		if notes := flush(t, r); slices.Contains(notes, "send MsgPreVoteResp to 2") == in.over {
			t.Errorf("%s: asked for its vote it does %v", in.name, notes)
		}
	}
}
