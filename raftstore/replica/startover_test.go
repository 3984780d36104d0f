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
