package roster

import (
	"fmt"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Change is one step from one roster to the next. Exactly one field is set. There is no step that adds a voter: who joins has to
// show first that it takes the log.
type Change struct {
	Add     *Member // as a learner, whatever it says
	Promote uint64  // a learner, to a voter
	Remove  uint64
}

// After returns the roster that a change leads to. An error wraps ErrRefused.
func (r Roster) After(c Change) (Roster, error) {
	next, err := r.after(c)
	if err == nil {
		_, err = Decode(next.Encode()) // who cannot read the entry that it is in stops
	}
	if err != nil {
		return Roster{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return next, nil
}

func (r Roster) after(c Change) (Roster, error) {
	switch {
	case c.Add != nil && c.Promote == 0 && c.Remove == 0:
		return r.add(*c.Add)
	case c.Add == nil && c.Promote != 0 && c.Remove == 0:
		return r.promote(c.Promote)
	case c.Add == nil && c.Promote == 0 && c.Remove != 0:
		return r.remove(c.Remove)
	}
	return Roster{}, fmt.Errorf("not exactly one change is wanted")
}

func (r Roster) add(m Member) (Roster, error) {
	for _, have := range r.Members {
		switch {
		case have.ID == m.ID || have.Name == m.Name:
			return Roster{}, fmt.Errorf("node %s is a member already", have.Name)
		case have.Addr == m.Addr:
			return Roster{}, fmt.Errorf("node %s has the address %s", have.Name, have.Addr)
		case have.Learner:
			return Roster{}, fmt.Errorf("node %s is joining; one change is made at a time: let it end, or remove %s", have.Name, have.Name)
		}
	}
	for _, gone := range r.Removed {
		if gone.ID == m.ID || gone.Name == m.Name {
			return Roster{}, fmt.Errorf("node %s was removed and is never taken back, for what it promised before could count twice; "+
				"give the new one another name", gone.Name)
		}
	}
	m.Learner = true
	return Roster{Members: New(append(slices.Clone(r.Members), m)).Members, Removed: r.Removed}, nil
}

func (r Roster) promote(id uint64) (Roster, error) {
	members := slices.Clone(r.Members)
	for i := range members {
		if members[i].ID == id && members[i].Learner {
			members[i].Learner = false
			return Roster{Members: members, Removed: r.Removed}, nil
		}
	}
	return Roster{}, fmt.Errorf("node %x is not joining", id)
}

func (r Roster) remove(id uint64) (Roster, error) {
	gone, ok := r.Member(id)
	switch {
	case !ok:
		return Roster{}, fmt.Errorf("node %x is no member", id)
	case !gone.Learner && len(r.Voters()) == 1:
		return Roster{}, fmt.Errorf("node %s is the last voter; stop it instead", gone.Name)
	}
	members := slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return m.ID == id })
	return Roster{Members: members, Removed: append(slices.Clone(r.Removed), Gone{ID: gone.ID, Name: gone.Name})}, nil
}

// ConfChange is the change as raft knows it; without its Context.
func (c Change) ConfChange() *pb.ConfChangeV2 {
	one := &pb.ConfChangeSingle{Type: pb.ConfChangeRemoveNode.Enum(), NodeId: new(c.Remove)}
	switch {
	case c.Add != nil:
		one = &pb.ConfChangeSingle{Type: pb.ConfChangeAddLearnerNode.Enum(), NodeId: new(c.Add.ID)}
	case c.Promote != 0:
		one = &pb.ConfChangeSingle{Type: pb.ConfChangeAddNode.Enum(), NodeId: new(c.Promote)}
	}
	return &pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{one}}
}

// Agrees reports whether raft's own configuration has the same voters and learners.
func (r Roster) Agrees(conf *pb.ConfState) bool {
	same := func(a, b []uint64) bool {
		return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
	}
	return same(conf.GetVoters(), r.Voters()) && same(conf.GetLearners(), r.Learners())
}
