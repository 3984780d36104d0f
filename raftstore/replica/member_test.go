package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// leading is node 1 of three as the leader, with node 2 connected and acknowledging.
func leading(t *testing.T) *Replica {
	t.Helper()
	r := alone(t)
	r.members.roster = bootstrap()
	elect(t, r)
	r.Link(2, true)
	acknowledged(t, r)
	return r
}

// acknowledged has node 2 acknowledge all there is.
func acknowledged(t *testing.T, r *Replica) {
	t.Helper()
	step(t, r, &pb.Message{Type: pb.MsgAppResp.Enum(), Term: new(r.Term()), Index: new(r.last)})
	flush(t, r)
}

func changed(t *testing.T, r *Replica, c roster.Change) {
	t.Helper()
	if err := r.Change(1, c); err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	acknowledged(t, r)
}

func addition(id uint64) roster.Change {
	m := person(id)
	return roster.Change{Add: &m}
}

// TestSnapshotNamesItsReceiver: a newcomer is sent no snapshot that does not name it, and neither is anybody one that has other
// members than there are: he would not know whether he votes.
func TestSnapshotNamesItsReceiver(t *testing.T) {
	r := leading(t)
	before := &pb.Message{Type: pb.MsgSnap.Enum(), To: new(uint64(4)), Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: &pb.ConfState{Voters: ids}, Index: new(uint64(3)), Term: new(uint64(2)),
	}}}
	if r.stale(before) {
		t.Error("a snapshot with the members of now is held back")
	}
	changed(t, r, addition(4))
	if !r.stale(before) {
		t.Error("a snapshot of before the change is sent")
	}
	now, err := r.cfg.Storage.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if r.stale(&pb.Message{Type: pb.MsgSnap.Enum(), Snapshot: now}) {
		t.Errorf("no snapshot was taken of the members of now: %v", now.GetMetadata().GetConfState())
	}
}

// TestLearnerInDoubtIsNoVoter: as long as it says that its disk is in doubt, it would not vote.
func TestLearnerInDoubtIsNoVoter(t *testing.T) {
	r := blank(t)
	if got := r.note(); got != noteDoubt || r.Doubt() == "" {
		t.Errorf("it notes %d and doubts %q", got, r.Doubt())
	}
	leader := leading(t)
	changed(t, leader, addition(4))
	leader.Link(4, true)
	answer := &pb.Message{Type: pb.MsgHeartbeatResp.Enum(), From: new(uint64(4)), To: new(uint64(1)), Term: new(leader.Term())}
	for _, in := range []struct {
		note uint64
		want bool
	}{{noteDoubt, false}, {noteWell, true}} {
		answer.Reject, answer.RejectHint = new(in.note != noteWell), new(in.note)
		if err := leader.Step(answer); err != nil {
			t.Fatal(err)
		}
		at := leader.last
		if err := leader.Step(&pb.Message{Type: pb.MsgAppResp.Enum(), From: new(uint64(4)), To: new(uint64(1)), Term: new(leader.Term()), Index: new(at)}); err != nil {
			t.Fatal(err)
		}
		flush(t, leader)
		if got := leader.caughtUp(4); got != in.want {
			t.Errorf("with note %d it counts as caught up: %v", in.note, got)
		}
	}
}

// TestStartOverAgreesOnNothing: without the one that is taken out for a moment two of three would be a majority, and of four it is three.
func TestStartOverAgreesOnNothing(t *testing.T) {
	r := leading(t)
	r.conf = r.node.ApplyConfChange(&pb.ConfChange{Type: pb.ConfChangeAddNode.Enum(), NodeId: new(uint64(4))})
	if err := r.Propose([]byte("x")); err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	before := r.State().Commit
	has := &pb.Message{Type: pb.MsgAppResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(r.Term()), Index: new(r.last)}
	if err := r.Step(has); err != nil {
		t.Fatal(err)
	}
	if flush(t, r); r.matched(2) == 0 || r.matched(3) != r.last || r.State().Commit != before {
		t.Fatalf("acknowledged are %d and %d of %d, agreed on %d", r.matched(2), r.matched(3), r.last, r.State().Commit)
	}
	r.startOver(2)
	notes := flush(t, r)
	if r.matched(2) != 0 || r.State().Commit != before || !slices.Equal(slices.Sorted(slices.Values(r.conf.GetVoters())), []uint64{1, 2, 3, 4}) {
		t.Errorf("acknowledged is %d, agreed on %d of before %d, voters are %v", r.matched(2), r.State().Commit, before, r.conf.GetVoters())
	}
	for _, note := range notes {
		if strings.HasPrefix(note, "send") && strings.HasSuffix(note, fmt.Sprint(uint64(standIn))) {
			t.Errorf("it does %q", note)
		}
	}
}

// TestLearnerStartsOver: it counts for no majority, so it may.
func TestLearnerStartsOver(t *testing.T) {
	r := leading(t)
	changed(t, r, addition(4))
	r.startOver(4)
	if !slices.Contains(r.conf.GetLearners(), 4) || slices.Contains(r.conf.GetVoters(), 4) {
		t.Errorf("members are %v", r.conf)
	}
	kinds := map[uint64]raft.ProgressType{}
	r.node.WithProgress(func(id uint64, kind raft.ProgressType, _ tracker.Progress) { kinds[id] = kind })
	if kinds[4] != raft.ProgressTypeLearner {
		t.Errorf("raft takes it for %v", kinds[4])
	}
}

// TestRosterMustAgree: a node that would have other voters than its roster says stops.
func TestRosterMustAgree(t *testing.T) {
	r := leading(t)
	next, err := bootstrap().After(roster.Change{Remove: 3})
	if err != nil {
		t.Fatal(err)
	}
	change := roster.Change{Remove: 2}.ConfChange()
	change.Context = append(make([]byte, changeHeader), next.Encode()...)
	if err := r.reconfigure(9, change); err == nil || !strings.Contains(err.Error(), "change of members at index 9") {
		t.Errorf("error %v", err)
	}
}

// TestLostDiskDoesNotWaitForTheRemoved: what it lost knows only the group of the beginning, of which node 3 was removed since, and
// node 4 is new.
func TestLostDiskDoesNotWaitForTheRemoved(t *testing.T) {
	r := alone(t)
	r.doubt.reason, r.doubt.terms = "test", map[uint64]uint64{2: 5}
	now, err := bootstrap().After(addition(4))
	for _, c := range []roster.Change{{Promote: 4}, {Remove: 3}} {
		if err == nil {
			now, err = now.After(c)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.proven(5) {
		t.Error("it follows a leader before it has heard node 3")
	}
	r.PeerMembers(now)
	if r.proven(5) {
		t.Error("it follows a leader before it has heard node 4")
	}
	r.PeerTerm(4, 6)
	if r.proven(5) || !r.proven(6) {
		t.Errorf("it follows a leader of term 5: %v, of term 6: %v", r.proven(5), r.proven(6))
	}
}

// blank is node 4, which has nothing and is to join a group.
func blank(t *testing.T) *Replica {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	snapshot, hard := Blank()
	memory, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{ID: 4, Storage: memory, Machine: &machine{}, HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 100})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestJoinerFollowsNoStaleLeader: it may have had a vote before it lost its disk, and helped to elect the next leader with that.
func TestJoinerFollowsNoStaleLeader(t *testing.T) {
	r := blank(t)
	if r.proven(5) {
		t.Error("it follows a leader before it has heard of anybody")
	}
	now, err := bootstrap().After(addition(4))
	if err != nil {
		t.Fatal(err)
	}
	r.PeerMembers(now) // of the stale leader, for whom it is a learner
	r.PeerTerm(1, 5)
	if r.proven(5) {
		t.Error("it follows a leader that alone is in its term")
	}
	r.PeerTerm(2, 6)
	if r.proven(5) {
		t.Error("it follows a leader although it has not heard a majority that is in no later term")
	}
	r.PeerTerm(3, 5)
	if !r.proven(5) {
		t.Error("it waits for all, although one may be gone for good")
	}
	if now, err = now.After(roster.Change{Promote: 4}); err != nil {
		t.Fatal(err)
	}
	r.PeerMembers(now)
	if r.proven(5) || !r.proven(6) {
		t.Error("it does not treat its own vote, of which another knows, as one that it had")
	}
}

// TestJoinerOfAGroupThatNeverChanged is one of those that it was made of: nothing but its configuration would tell it who the others are.
func TestJoinerOfAGroupThatNeverChanged(t *testing.T) {
	for _, index := range []uint64{SeedIndex, 9} {
		r := blank(t)
		snapshot, _ := Seed([]uint64{1, 2, 4})
		snapshot.Metadata.Index = new(index)
		if err := r.restore(snapshot); !errors.Is(err, ErrFounder) {
			t.Errorf("index %d: error %v", index, err)
		}
	}
}

// TestRemovedAsksForNoVote has a node that was told of its removal by another, and loses the leader.
func TestRemovedAsksForNoVote(t *testing.T) {
	for _, removed := range []bool{false, true} {
		r := alone(t)
		if removed {
			r.PeerRemoved(2)
			r.PeerRemoved(3)
		}
		// Its leader is heard after that: a removed node forgets the one that it had, and then there is none to lose.
		step(t, r, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Term: new(uint64(2)), Commit: new(uint64(SeedIndex))})
		flush(t, r)
		r.Lost(2)
		notes := flush(t, r)
		for range 3 * r.cfg.ElectionTicks {
			r.Tick()
			notes = append(notes, flush(t, r)...)
		}
		if got := slices.Contains(notes, "send MsgPreVote to 2"); got == removed {
			t.Errorf("removed %v: it does %v", removed, notes)
		}
	}
}

// TestNoChangeOfOtherMembers: with a configuration of its own a leader would have everybody stop.
func TestNoChangeOfOtherMembers(t *testing.T) {
	r := leading(t)
	r.members.roster = roster.New([]roster.Member{person(1), person(2)})
	if err := r.Change(1, addition(4)); !errors.Is(err, roster.ErrRefused) || !strings.Contains(err.Error(), "other members") {
		t.Errorf("error %v", err)
	}
}

// TestRosterAfter reads the last change of members out of a piece of a log, wherever it is in it.
func TestRosterAfter(t *testing.T) {
	entry := func(index uint64, id uint64) *pb.Entry {
		next, err := bootstrap().After(addition(id))
		if err != nil {
			t.Fatal(err)
		}
		change := addition(id).ConfChange()
		change.Context = append(make([]byte, changeHeader), next.Encode()...)
		data, err := proto.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		return &pb.Entry{Type: pb.EntryConfChangeV2.Enum(), Index: new(index), Data: data}
	}
	command := &pb.Entry{Data: []byte("12345678x")}
	if _, changed, err := RosterAfter([]*pb.Entry{command}); changed || err != nil {
		t.Errorf("of commands alone: %v, %v", changed, err)
	}
	list, changed, err := RosterAfter([]*pb.Entry{entry(2, 4), command, entry(4, 5), command})
	if _, ok := list.Member(5); !ok || !changed || err != nil {
		t.Errorf("%+v, %v, %v", list, changed, err)
	}
	bad := entry(2, 4)
	bad.Data = bad.Data[:len(bad.Data)-1]
	if _, _, err := RosterAfter([]*pb.Entry{bad}); err == nil {
		t.Error("a change that is cut short is read")
	}
}
