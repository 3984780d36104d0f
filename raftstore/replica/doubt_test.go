package replica

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// TestDoubtOutlastsStaleCommit: a new leader's commit index is older than what is committed. Only an
// entry of its own term shows that it knows everything, so until then the doubt stays.
func TestDoubtOutlastsStaleCommit(t *testing.T) {
	r := alone(t)
	r.doubt.reason = "test" // as if no peer were new
	entry := func(index, term uint64) *pb.Entry { return &pb.Entry{Index: new(index), Term: new(term)} }
	m := &pb.Message{
		Type: pb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(3)),
		Index: new(uint64(1)), LogTerm: new(uint64(1)), Commit: new(uint64(2)),
		Entries: []*pb.Entry{entry(2, 2), entry(3, 2), entry(4, 3)},
	}
	if err := r.Step(m); err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	if state := r.State(); state.Applied != 2 || state.Doubt == "" {
		t.Fatalf("with the stale commit index: %+v", state)
	}
	if got := votes(t, r); got != 0 {
		t.Errorf("voted %d times in doubt", got)
	}
	m.Index, m.LogTerm, m.Commit, m.Entries = new(uint64(4)), new(uint64(3)), new(uint64(4)), nil
	if err := r.Step(m); err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	if state := r.State(); state.Applied != 4 || state.Doubt != "" {
		t.Fatalf("with the leader's own entry: %+v", state)
	}
	if got := votes(t, r); got != 1 {
		t.Errorf("voted %d times without doubt", got)
	}
}

// votes asks for a vote in the way of a hand-off, which ignores the leader's lease.
func votes(t *testing.T, r *Replica) int {
	t.Helper()
	if err := r.Step(&pb.Message{
		Type: pb.MsgVote.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(9)),
		Index: new(uint64(9)), LogTerm: new(uint64(9)), Context: []byte("CampaignTransfer"),
	}); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, note := range flush(t, r) {
		if note == "send MsgVoteResp to 3" {
			count++
		}
	}
	return count
}

// TestEndOfDoubtIsDurableFirst: a node that has caught up is in doubt for everybody to see until a restart
// cannot bring the doubt back, and gives its vote no sooner.
func TestEndOfDoubtIsDurableFirst(t *testing.T) {
	r := alone(t)
	r.doubt.reason = "test"
	caughtUp := &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(3)), Index: new(uint64(1)), LogTerm: new(uint64(1)), Commit: new(uint64(2)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(3))}},
	}
	step(t, r, caughtUp)
	if _, saving := once(t, r); !saving || r.flying.batch.Doubt != "test" {
		t.Fatalf("saving %v with the doubt %q", saving, r.flying.batch.Doubt)
	}
	saved(t, r)
	if _, saving := once(t, r); !saving || r.flying.batch.Doubt != "" {
		t.Fatalf("the end of the doubt is not written: saving %v", saving)
	}
	if got := r.State().Doubt; got != "test" {
		t.Errorf("while its end is being written the doubt is %q", got)
	}
	ask := &pb.Message{
		Type: pb.MsgVote.Enum(), Term: new(uint64(9)), Index: new(uint64(9)), LogTerm: new(uint64(9)),
		Context: []byte("CampaignTransfer"),
	}
	step(t, r, ask)
	if notes, _ := once(t, r); slices.Contains(notes, "send MsgVoteResp to 2") {
		t.Error("the vote left before the end of the doubt was durable")
	}
	saved(t, r)
	if notes := flush(t, r); !slices.Contains(notes, "send MsgVoteResp to 2") {
		t.Errorf("no vote without doubt: %v", notes)
	}
	if got := r.State().Doubt; got != "" {
		t.Errorf("the doubt that ended is back: %s", got)
	}
}

// TestInDoubtNobodyCampaigns: a leader that is known to be gone is no reason for one that may have forgotten something.
func TestInDoubtNobodyCampaigns(t *testing.T) {
	for _, doubt := range []string{"", "test"} {
		r := alone(t)
		step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(3))})
		flush(t, r)
		r.doubt.reason = doubt
		r.Lost(2)
		notes, _ := once(t, r)
		asks := slices.ContainsFunc(notes, func(note string) bool { return strings.HasPrefix(note, "send MsgPreVote") })
		if asks != (doubt == "") {
			t.Errorf("with the doubt %q it campaigns: %v (%v)", doubt, asks, notes)
		}
	}
}

// TestInDoubtFollowsNoStaleLeader: node 2 led in term 3, stood still while 1 and 3 elected the next, and does not know that yet. Node 1,
// which has forgotten that, would make a majority with it.
func TestInDoubtFollowsNoStaleLeader(t *testing.T) {
	for _, told := range []struct {
		name string
		tell func(r *Replica)
	}{
		{"another voter is in a later term", func(r *Replica) { r.PeerTerm(3, 5) }},
		{"another voter has not been heard", func(r *Replica) { delete(r.doubt.terms, 3) }},
	} {
		t.Run(told.name, func(t *testing.T) {
			r := alone(t)
			r.doubt.reason = "test"
			told.tell(r)
			stale := func() []*pb.Message {
				return []*pb.Message{
					{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(3)), Commit: new(uint64(1))},
					{
						Type: pb.MsgApp.Enum(), Term: new(uint64(3)), Index: new(uint64(SeedIndex)), LogTerm: new(uint64(SeedTerm)), Commit: new(uint64(2)),
						Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(3))}},
					},
				}
			}
			for _, m := range stale() {
				step(t, r, m)
				expect(t, "to a "+m.GetType().String(), flush(t, r))
			}
			if r.last != SeedIndex || r.Term() != SeedTerm {
				t.Errorf("it followed: log up to %d, term %d", r.last, r.Term())
			}
			r.doubt.terms[3] = 3
			for _, m := range stale() {
				step(t, r, m)
			}
			if flush(t, r); r.last != 2 || r.Doubt() != "" {
				t.Errorf("it does not follow one whom all would: log up to %d, doubt %q", r.last, r.Doubt())
			}
		})
	}
}

// TestInDoubtAsksForWhatWasLost: the append that would have said what is agreed on was lost, and the leader has nothing more to send.
func TestInDoubtAsksForWhatWasLost(t *testing.T) {
	r := alone(t)
	r.doubt.reason, r.doubt.target = "test", 2
	step(t, r, &pb.Message{
		Type: pb.MsgApp.Enum(), Term: new(uint64(3)), Index: new(uint64(SeedIndex)), LogTerm: new(uint64(SeedTerm)), Commit: new(uint64(SeedIndex)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(3))}},
	})
	flush(t, r)
	step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(3)), Commit: new(uint64(2))})
	if asks := slices.ContainsFunc(r.out.Messages, func(m *pb.Message) bool { return string(m.GetContext()) == startOver }); !asks {
		t.Error("it waits for an append that may never come")
	}
}
