package replica

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// A storage in doubt may have forgotten votes or entries that this node once promised: it is new
// while the group is not, it came back older than it was, or the leader counts on entries that are not
// here. If such a node voted, an entry that a majority has acknowledged could be lost. So until it has
// caught up with a leader, which others elected without its vote, it takes entries but neither votes
// nor campaigns. etcd's raft itself panics in this place ("tocommit is out of range").
//
// Not every leader will do: one that stood still while the others elected the next does not know yet that it is over, and a node
// that has forgotten that it was among them would make a majority with it, against what was agreed on since. Whoever this node ever
// helped to elect, or to agree on something, was one of the others, and terms only grow. So it follows a leader only when it has heard
// from every other voter, in this life, which term that is in, and none is in a later one. One that has not heard yet that it votes is
// new, or has lost its disk and with it the word that it votes. So it hears a majority of the voters first: one of them helped to elect
// whoever it made a promise to. It need not hear all, for who joins may have to take the place of one that is gone.
//
// A new storage is no cause for doubt when a majority of all storages is new: then the group is being
// made. That this doubt has ended is kept, as any other's end is: a log may stay empty for long, behind a cut, and
// a storage that was there when the group was made is not to be asked again, nor to be counted as new for others.
type doubt struct {
	reason  string            // "" = none
	saved   string            // reason of the newest Save, or that which the storage came with
	stored  string            // reason of the newest Save that has ended, or that which the storage came with
	fresh   bool              // the only reason is that the storage is new
	founded bool              // Config.Founded, as of now
	new     map[uint64]bool   // peers whose storage is new, too
	terms   map[uint64]uint64 // terms that peers were in when they were connected to
	others  []uint64          // that peers count as voters, sorted
	left    []uint64          // that peers know to be removed, sorted
	target  uint64            // commit index that a leader told since the doubt began; 0 = none yet
	asked   int64             // tick of the last request to start over
	forgot  map[uint64]int64  // tick at which this leader last started over with a follower that contradicted itself
}

// startOver is the Context of a rejection by which a follower asks the leader to forget what it
// counts on: the leader never looks below what a follower acknowledged once.
const startOver = "start over"

// newDirectory is the reason of a new storage.
const newDirectory = "the data directory is new"

// IsNew says whether a reason of doubt is only that the storage is new.
func IsNew(doubt string) bool { return doubt == newDirectory }

// Doubt says why this replica neither votes nor campaigns; "" when it does. A doubt that has ended is told
// until its end is durable: a vote leaves no sooner, and a restart before that would bring it back.
func (r *Replica) Doubt() string { return cmp.Or(r.doubt.reason, r.doubt.saved, r.doubt.stored) }

// Fresh says whether the storage is as good as new: it holds no entry, and, if founded, no term. A founded one that has heard of no
// election yet counts as new too, so that whoever connects later finds a majority of them.
func (r *Replica) Fresh() bool {
	return r.last <= SeedIndex && (!r.doubt.founded || r.node.BasicStatus().GetTerm() <= SeedTerm)
}

// PeerFresh tells whether a peer's storage is Fresh.
func (r *Replica) PeerFresh(id uint64, fresh bool) {
	r.doubt.new[id] = fresh
	r.endDoubt()
}

// PeerTerm takes the term that a peer was in when it was connected to; 0 = it did not say.
func (r *Replica) PeerTerm(id, term uint64) { r.doubt.terms[id] = max(r.doubt.terms[id], term) }

// Term is the newest one that this replica knows of.
func (r *Replica) Term() uint64 { return r.node.BasicStatus().GetTerm() }

// proven says whether a leader of a term may be followed by a node in doubt.
func (r *Replica) proven(term uint64) bool {
	voters, heard := r.knownVoters(), 0
	for _, id := range voters {
		if newest, told := r.doubt.terms[id]; id == r.cfg.ID || (told && newest <= term) {
			heard++
		}
	}
	if r.votes() || slices.Contains(voters, r.cfg.ID) {
		return heard == len(voters)
	}
	return heard >= roster.Majority(len(voters))
}

// knownVoters are those of the log as far as it is here, and those that peers know of.
func (r *Replica) knownVoters() []uint64 {
	voters := slices.Concat(r.conf.GetVoters(), r.doubt.others)
	voters = slices.DeleteFunc(voters, func(id uint64) bool { return slices.Contains(r.doubt.left, id) })
	slices.Sort(voters)
	return slices.Compact(voters)
}

// PeerMembers takes who a peer counts as members. A disk that was lost knows only those that the group was made of: who was removed
// since is not waited for, and who votes now is.
func (r *Replica) PeerMembers(list roster.Roster) {
	r.doubt.others = append(r.doubt.others, list.Voters()...)
	for _, gone := range list.Removed {
		r.doubt.left = append(r.doubt.left, gone.ID)
	}
	for _, ids := range []*[]uint64{&r.doubt.others, &r.doubt.left} {
		slices.Sort(*ids)
		*ids = slices.Compact(*ids)
	}
}

// startDoubt sets the first doubt.
func (r *Replica) startDoubt() {
	r.doubt.founded, r.doubt.terms = r.cfg.Founded, map[uint64]uint64{}
	r.doubt.new, r.doubt.forgot = map[uint64]bool{r.cfg.ID: r.Fresh()}, map[uint64]int64{}
	reason := r.cfg.Doubt
	if reason == "" && r.last <= SeedIndex && !r.cfg.Founded {
		reason, r.doubt.fresh = newDirectory, true
	}
	r.doubt.reason, r.doubt.saved, r.doubt.stored = reason, reason, reason
	r.endDoubt()
}

// endDoubt ends the doubt when there is cause to. A node alone has nobody to learn from.
func (r *Replica) endDoubt() {
	if r.doubt.reason == "" {
		return
	}
	voters, fresh := r.conf.GetVoters(), 0
	for _, id := range voters {
		if r.doubt.new[id] {
			fresh++
		}
	}
	made := r.doubt.fresh && fresh > len(voters)/2
	// A new leader does not know yet all that is committed; what it commits in its own term covers it.
	current := r.appliedTerm == r.node.BasicStatus().GetTerm()
	caught := r.doubt.target != 0 && r.applied >= r.doubt.target && current
	alone := len(voters) == 1 && voters[0] == r.cfg.ID
	if made || caught || alone {
		r.doubt.reason, r.doubt.fresh, r.doubt.target = "", false, 0
		r.waiting.durable = r.waiting.durable || r.doubt.saved != ""
	}
}

// admit looks at a message before raft does. It returns nil for one that raft must not see.
func (r *Replica) admit(m *pb.Message) *pb.Message {
	inDoubt := r.doubt.reason != ""
	if r.removal.over && asksForVote(m) {
		return nil
	}
	switch m.GetType() {
	case pb.MsgAppResp:
		switch string(m.GetContext()) {
		case startOver:
			r.startOver(m.GetFrom())
			return nil
		case dropped:
			r.out.Dropped = append(r.out.Dropped, m.GetEntries()...)
			return nil
		}
		return r.admitRejection(m)
	case pb.MsgVote, pb.MsgPreVote:
		if inDoubt {
			return nil
		}
	case pb.MsgTimeoutNow:
		if inDoubt || r.disk.stuck {
			return nil
		}
	case pb.MsgApp, pb.MsgSnap, pb.MsgHeartbeat:
		return r.admitLeader(m)
	case pb.MsgReadIndex:
		return r.admitRead(m)
	}
	return m
}

// asksForVote reports whether a message wants this node to help elect somebody, itself included.
func asksForVote(m *pb.Message) bool {
	return m.GetType() == pb.MsgVote || m.GetType() == pb.MsgPreVote || m.GetType() == pb.MsgTimeoutNow
}

// admitLeader looks at what a leader says. What one of an older term says is raft's to answer.
func (r *Replica) admitLeader(m *pb.Message) *pb.Message {
	inDoubt := r.doubt.reason != ""
	switch {
	case inDoubt && !r.proven(m.GetTerm()):
		return nil
	case m.GetTerm() < r.Term():
		return m
	case m.GetType() == pb.MsgHeartbeat:
		return r.admitHeartbeat(m)
	case m.GetType() == pb.MsgApp && inDoubt:
		r.doubt.target = max(r.doubt.target, m.GetCommit(), 1)
	}
	return m
}

// admitHeartbeat compares what the leader believes to be here with what is here.
func (r *Replica) admitHeartbeat(m *pb.Message) *pb.Message {
	last := r.last
	ahead := m.GetCommit() > last
	if ahead {
		r.doubt.reason = fmt.Sprintf("the log ends at index %d but had acknowledged %d", last, m.GetCommit())
		r.doubt.fresh, r.waiting.durable = false, true
	}
	// A beat says how far what the leader believes to be here is agreed on. Of a log that came back older than it was, the end may be
	// one that was replaced since: only an append, which compares the two, says what of it is agreed on.
	commit := r.node.BasicStatus().HardState.GetCommit()
	unsaid := r.doubt.reason != "" && m.GetCommit() > commit
	if unsaid {
		m = proto.Clone(m).(*pb.Message)
		m.Commit = new(commit)
	}
	// The leader's word on how far the log goes may have come first; it does not help as long as none of it fits. And the append that
	// would have said what is agreed on may have been lost, with nothing to follow it.
	if r.doubt.reason != "" && (r.doubt.target == 0 || ahead || unsaid) {
		r.askStartOver(m, last)
	}
	return m
}

// admitRejection keeps from raft what a follower rejects although it has acknowledged it: its log is not what it was, or an answer of
// the life before came late. raft takes that for a reason to send the same once more, at once, and so for ever, as fast as the network
// goes. The leader starts over with that follower, once in an election timeout, and each beat tries again.
func (r *Replica) admitRejection(m *pb.Message) *pb.Message {
	id := m.GetFrom()
	if !m.GetReject() || !r.announced.Self || m.GetTerm() != r.announced.Term || m.GetIndex() > r.matched(id) {
		return m
	}
	if at, before := r.doubt.forgot[id]; !before || r.now-at >= int64(r.cfg.ElectionTicks) {
		r.doubt.forgot[id] = r.now
		r.startOver(id)
	}
	return nil
}

// matched is the index up to which a follower has acknowledged this leader's log; 0 = none, or not the leader.
func (r *Replica) matched(id uint64) (index uint64) {
	r.node.WithProgress(func(peer uint64, _ raft.ProgressType, p tracker.Progress) {
		if peer == id {
			index = p.Match
		}
	})
	return index
}

// askStartOver asks the leader to send the log from where it ends here, once in an election timeout.
func (r *Replica) askStartOver(heartbeat *pb.Message, last uint64) {
	if r.doubt.asked != 0 && r.now-r.doubt.asked < int64(r.cfg.ElectionTicks) {
		return
	}
	r.doubt.asked = max(r.now, 1)
	r.out.Messages = append(r.out.Messages, &pb.Message{
		Type: pb.MsgAppResp.Enum(), To: heartbeat.From, From: new(r.cfg.ID), Term: heartbeat.Term,
		Reject: new(true), Index: new(last), RejectHint: new(last), Context: []byte(startOver),
	})
}

// standIn is nobody. It has no link and acknowledges nothing; what raft wants to send it is dropped.
const standIn = math.MaxUint64 - 2 // the two above are raft's own

// startOver makes a leader forget what it knows about a follower's log. raft has no call for that;
// removing and adding the voter in the leader's memory, with nothing in between and nothing in the
// log, does it. With three voters, five and so on the two steps cannot commit what a majority of all does not
// have. Of two or four the others have a smaller majority for a moment, so there nobody stands in: with him the
// majority is never smaller than that of all. A learner never counts.
func (r *Replica) startOver(id uint64) {
	status := r.node.BasicStatus()
	voters, back := r.conf.GetVoters(), pb.ConfChangeAddNode
	switch {
	case status.RaftState != raft.StateLeader || id == r.cfg.ID:
		return
	case slices.Contains(r.conf.GetLearners(), id):
		back = pb.ConfChangeAddLearnerNode
	case !slices.Contains(voters, id):
		return
	case len(voters)%2 == 0:
		r.inMemory(pb.ConfChangeAddNode, standIn)
		defer r.inMemory(pb.ConfChangeRemoveNode, standIn)
	}
	r.inMemory(pb.ConfChangeRemoveNode, id)
	r.inMemory(back, id)
}

// inMemory changes the members for this leader alone.
func (r *Replica) inMemory(kind pb.ConfChangeType, id uint64) {
	r.conf = r.node.ApplyConfChange(&pb.ConfChange{Type: kind.Enum(), NodeId: new(id)})
}
