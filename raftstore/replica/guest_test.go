package replica

import (
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// guest is heard by node 1 and is none of its members.
const guest = uint64(9)

func fromGuest(t *testing.T, r *Replica, m *pb.Message) {
	t.Helper()
	m.From, m.To = new(guest), new(uint64(1))
	_ = r.Step(m) // raft has no use for much of it, and says so
}

// said carries out what is to be done and returns the messages.
func said(t *testing.T, r *Replica) (all []*pb.Message) {
	t.Helper()
	for {
		out, err := r.Flush()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, out.Messages...)
		if out.Save == nil {
			return all
		}
		saved(t, r)
	}
}

// TestAGuestHasNoVote: neither its vote, nor its acknowledgement, nor its word that a leader still leads counts, and as a guest it cannot
// have the leader start over with it, for that would make it a voter.
func TestAGuestHasNoVote(t *testing.T) {
	r := alone(t)
	for range 2 * r.cfg.ElectionTicks {
		r.Tick()
		flush(t, r)
	}
	for _, kind := range []pb.MessageType{pb.MsgPreVoteResp, pb.MsgVoteResp} {
		fromGuest(t, r, &pb.Message{Type: kind.Enum(), Term: new(r.Term() + 1)})
		flush(t, r)
	}
	if r.Term() != SeedTerm || r.State().Self {
		t.Fatalf("elected by a guest, in term %d", r.Term())
	}

	r = leading(t)
	if err := r.Propose([]byte("x")); err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	before := r.State().Commit
	if err := r.Read(7); err != nil {
		t.Fatal(err)
	}
	beats := said(t, r)
	fromGuest(t, r, &pb.Message{Type: pb.MsgAppResp.Enum(), Term: new(r.Term()), Index: new(r.last)})
	for _, m := range beats {
		if m.GetType() == pb.MsgHeartbeat {
			fromGuest(t, r, &pb.Message{Type: pb.MsgHeartbeatResp.Enum(), Term: new(r.Term()), Context: m.GetContext()})
		}
	}
	fromGuest(t, r, &pb.Message{
		Type: pb.MsgAppResp.Enum(), Term: new(r.Term()), Reject: new(true), Index: new(r.last), RejectHint: new(r.last), Context: []byte(startOver),
	})
	flush(t, r)
	if got := r.State().Commit; got != before || r.matched(guest) != 0 || len(beats) == 0 {
		t.Errorf("agreed on %d, before on %d; the guest has acknowledged %d; %d beats", got, before, r.matched(guest), len(beats))
	}
	if voters := slices.Sorted(slices.Values(r.conf.GetVoters())); !slices.Equal(voters, ids) {
		t.Errorf("the voters are %v", voters)
	}
}

// TestAGuestEndsNoDoubt: that its disk is new, or which term it is in, is no word of a voter.
func TestAGuestEndsNoDoubt(t *testing.T) {
	snapshot, hard := Seed(ids)
	memory, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{ID: 1, Storage: memory, Machine: &machine{}, HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 100})
	if err != nil {
		t.Fatal(err)
	}
	for id := guest; id < guest+3; id++ {
		r.PeerFresh(id, true)
		r.PeerTerm(id, 5)
	}
	said(t, r) // an end of it would be told only when it is saved
	if r.Doubt() == "" || r.proven(5) {
		t.Errorf("doubt %q, a leader is proven: %v", r.Doubt(), r.proven(5))
	}
	r.PeerTerm(2, 5)
	r.PeerTerm(3, 5)
	if !r.proven(5) {
		t.Error("the voters prove nothing")
	}
}

// TestAGuestGetsNoPromiseForgotten: who voted in a term votes for no guest in it, and a guest of an older term changes nothing here.
func TestAGuestGetsNoPromiseForgotten(t *testing.T) {
	r := alone(t)
	for range 2 * r.cfg.ElectionTicks {
		r.Tick()
		flush(t, r)
	}
	step(t, r, &pb.Message{Type: pb.MsgVote.Enum(), Term: new(uint64(5)), Index: new(uint64(9)), LogTerm: new(uint64(4))})
	if !slices.Contains(flush(t, r), "send MsgVoteResp to 2") {
		t.Fatal("it does not vote")
	}
	for _, term := range []uint64{5, 4} {
		fromGuest(t, r, &pb.Message{Type: pb.MsgVote.Enum(), Term: new(term), Index: new(uint64(90)), LogTerm: new(uint64(4))})
		for _, m := range said(t, r) {
			if m.GetType() == pb.MsgVoteResp && !m.GetReject() {
				t.Errorf("a second vote in term %d: %v", term, m)
			}
		}
	}
	last := r.last
	fromGuest(t, r, &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(4)), Index: new(uint64(SeedIndex)), LogTerm: new(uint64(SeedTerm)), Commit: new(uint64(2)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(4)), Data: []byte("12345678x")}},
	})
	flush(t, r)
	if vote := r.node.BasicStatus().GetVote(); r.last != last || r.Term() != 5 || vote != 2 {
		t.Errorf("the log ends at %d, before at %d; term %d, vote for %d", r.last, last, r.Term(), vote)
	}
}
