package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// Errors of Change, besides roster.ErrRefused. With each of them the change is in no log.
var (
	// ErrNotLeader: only the raft leader knows who can be reached and how far each one is.
	ErrNotLeader = errors.New("this node does not lead")
	// ErrChanging: one change at a time, and one is under way.
	ErrChanging = errors.New("another change of members is under way")
)

// ErrFounder: a node that is to join is a member already, and the log has no roster.
var ErrFounder = errors.New("the cluster was made with this node and has never changed its members: take `join` out of its configuration")

// promoteStable is for how many election timeouts a learner must have been fit before it is made a voter.
const promoteStable = 3

// changeHeader is the length, in bytes, of the number that names a change, before the roster in the Context of its entry.
const changeHeader = 8

// members is what a replica knows of who belongs to the group.
type members struct {
	roster roster.Roster
	// logged: the roster comes from the log, not from a configuration. It then travels in snapshots.
	logged bool
	// changing is the term in which a change was proposed that is not applied yet; 0 = none. One of an older term is nobody's any more.
	changing uint64
	fit      int64 // ticks for which the learner has been fit to vote
	told     []Membership
}

// Membership is a roster that is in force, and the change that led to it.
type Membership struct {
	Roster  roster.Roster
	Request uint64 // as given to Change; 0 = nobody waits for it
}

// Change proposes one step to other members. nil means that it is proposed; whether it is applied shows in Output.Members. The
// leader alone takes it, and only one at a time: raft switches to the new members when an entry is applied, and two steps that are
// both under way could make two majorities that have nobody in common.
func (r *Replica) Change(request uint64, c roster.Change) error {
	next, err := r.Examine(c)
	if err != nil {
		return err
	}
	change := c.ConfChange()
	change.Context = append(binary.BigEndian.AppendUint64(nil, request), next.Encode()...)
	if err := r.node.ProposeConfChange(change); err != nil {
		if errors.Is(err, raft.ErrProposalDropped) {
			return ErrDropped
		}
		return fmt.Errorf("propose change of members: %w", err)
	}
	r.members.changing = r.Term()
	return nil
}

// Examine says what a change would lead to, or why it is not made. It changes nothing.
func (r *Replica) Examine(c roster.Change) (roster.Roster, error) {
	if lead := r.leadership(); !lead.Self || !lead.Ready {
		return roster.Roster{}, ErrNotLeader
	}
	if r.members.changing == r.Term() {
		return roster.Roster{}, ErrChanging
	}
	if !r.members.roster.Agrees(r.conf) { // every node that applied what follows from it would stop
		return roster.Roster{}, fmt.Errorf("%w: this node's configuration names other members than its log", roster.ErrRefused)
	}
	next, err := r.members.roster.After(c)
	if err != nil {
		return roster.Roster{}, err
	}
	if err := r.examineMajority(next); err != nil {
		return roster.Roster{}, err
	}
	if c.Promote != 0 && !r.caughtUp(c.Promote) {
		return roster.Roster{}, fmt.Errorf("%w: node %x has not caught up with the log", roster.ErrRefused, c.Promote)
	}
	return next, nil
}

// examineMajority refuses members of whom no majority can be reached: the change itself would still be agreed on, by those before,
// and nothing after it.
func (r *Replica) examineMajority(next roster.Roster) error {
	voters, reached := next.Voters(), 0
	for _, id := range voters {
		if id == r.cfg.ID || r.answering(id) {
			reached++
		}
	}
	if want := roster.Majority(len(voters)); reached < want {
		return fmt.Errorf("%w: of the %d voters that would be left only %d can be reached, and a majority is %d; bring one back first",
			roster.ErrRefused, len(voters), reached, want)
	}
	return nil
}

// caughtUp reports whether a learner could vote now: it answers, its disk is well and not in doubt, and it has the log up to a few
// entries. A voter that lags would only make the majority larger.
func (r *Replica) caughtUp(id uint64) bool {
	if !r.answering(id) || r.disk.peers[id] != noteWell {
		return false
	}
	fit := false
	r.node.WithProgress(func(peer uint64, _ raft.ProgressType, p tracker.Progress) {
		if peer == id {
			fit = p.State == tracker.StateReplicate && p.Match+handoffLag >= r.last
		}
	})
	return fit
}

// tickMembers makes the learner a voter when it has been fit for a while. It is the leader's own doing, so that a change goes on
// when the operator, or the leader that began it, is gone.
func (r *Replica) tickMembers() {
	learners := r.members.roster.Learners()
	if len(learners) == 0 || !r.announced.Ready || r.disk.stuck || !r.caughtUp(learners[0]) {
		r.members.fit = 0
		return
	}
	r.members.fit++
	if r.members.fit < promoteStable*int64(r.cfg.ElectionTicks) {
		return
	}
	r.members.fit = 0
	if err := r.Change(0, roster.Change{Promote: learners[0]}); err != nil {
		r.cfg.Logger.Infof("learner %x is not made a voter yet: %v", learners[0], err)
	}
}

// reconfigure applies a change of members.
func (r *Replica) reconfigure(index uint64, change *pb.ConfChangeV2) error {
	r.conf = r.node.ApplyConfChange(change)
	// The newest snapshot must have the members of now: raft has no use for one that does not name who it is sent to.
	r.members.changing, r.snapshotDue = 0, true
	context := change.GetContext()
	if len(context) < changeHeader {
		return nil // of a version that only took members from the configuration
	}
	next, err := roster.Decode(context[changeHeader:])
	if err != nil {
		return fmt.Errorf("change of members at index %d: %w", index, err)
	}
	if !next.Agrees(r.conf) {
		return fmt.Errorf("change of members at index %d: it names %x and %x, and raft has %x and %x; move this node's data directory "+
			"away, and add it under another name", index, next.Voters(), next.Learners(), r.conf.GetVoters(), r.conf.GetLearners())
	}
	r.enlist(Membership{Roster: next, Request: binary.BigEndian.Uint64(context)})
	return nil
}

// enlist takes over a roster of the log.
func (r *Replica) enlist(m Membership) {
	r.members.roster, r.members.logged, r.members.fit = m.Roster, true, 0
	r.preferred = m.Roster.Preferred()
	if _, ok := m.Roster.Member(r.cfg.ID); !ok && m.Roster.WasRemoved(r.cfg.ID) {
		r.removal.known = true
	}
	r.members.told = append(r.members.told, m)
}

// votes reports whether this node is a voter, as far as it has applied the log.
func (r *Replica) votes() bool { return slices.Contains(r.conf.GetVoters(), r.cfg.ID) }

// unwrap reads a snapshot: its members, if it has any, and the machine's part.
func (r *Replica) unwrap(snapshot *pb.Snapshot) ([]byte, error) {
	list, data, logged, err := roster.Unwrap(snapshot.GetData())
	if err != nil {
		return nil, fmt.Errorf("snapshot at index %d: %w", snapshot.GetMetadata().GetIndex(), err)
	}
	switch {
	case logged:
		r.enlist(Membership{Roster: list})
	case len(r.conf.GetVoters()) == 0: // it was told to join, and does not know the others as the others do
		return nil, ErrFounder
	}
	return data, nil
}

// wrap makes a snapshot of the machine's part.
func (r *Replica) wrap(data []byte) []byte {
	if !r.members.logged {
		return data // as a version that knows no rosters reads it
	}
	return r.members.roster.Wrap(data)
}

// stale reports whether a snapshot that is to be sent has other members than there are now. Whoever joins takes his idea of who
// votes from it, and one that has lost its disk takes from it that it votes: so it has to be the newest there is.
func (r *Replica) stale(m *pb.Message) bool {
	if m.GetType() != pb.MsgSnap {
		return false
	}
	conf := m.GetSnapshot().GetMetadata().GetConfState()
	return !sameIDs(conf.GetVoters(), r.conf.GetVoters()) || !sameIDs(conf.GetLearners(), r.conf.GetLearners())
}

func sameIDs(a, b []uint64) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// RosterAfter is the roster that the last change of members in a piece of a log leads to; false when there is none in it.
func RosterAfter(entries []*pb.Entry) (list roster.Roster, changed bool, err error) {
	for _, entry := range slices.Backward(entries) {
		if entry.GetType() != pb.EntryConfChangeV2 {
			continue
		}
		change := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(entry.GetData(), change); err != nil {
			return roster.Roster{}, false, fmt.Errorf("change of members at index %d: %w", entry.GetIndex(), err)
		}
		if context := change.GetContext(); len(context) >= changeHeader {
			list, err = roster.Decode(context[changeHeader:])
			return list, err == nil, err
		}
	}
	return roster.Roster{}, false, nil
}
