package roster

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"

	"go.etcd.io/raft/v3"
)

// Bounds of a roster. More voters make every command slower and survive no more than they are worth; the list of those that were
// removed travels with every change.
const (
	MaxMembers = 9
	MaxRemoved = 512
	MaxNote    = 1024 // bytes
	maxName    = 64   // bytes
	maxAddr    = 261  // bytes: a DNS name, a colon and a port
)

// ErrRefused is the root of every reason for which a change is not made.
var ErrRefused = errors.New("change of members refused")

// Member is one node of the group.
type Member struct {
	ID   uint64 `json:"id"`   // raft id, not 0; of this node for all time
	Name string `json:"name"` // unique; with TLS the certificate must carry it as CN or as a DNS name
	Addr string `json:"addr"` // host:port that it listens on for its peers
	// Learner: it takes entries and has no vote. The leader makes it a voter when it has caught up.
	Learner bool `json:"learner,omitempty"`
	// Preferred: it should lead when it can. The first one by id counts that is a voter.
	Preferred bool `json:"preferred,omitempty"`
	// Note is the caller's; it has no meaning here.
	Note string `json:"note,omitempty"`
}

// Gone is a node that was removed.
type Gone struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}

// Roster is who belongs to the group. The zero value is a group that nobody belongs to: that of a node which waits to be added.
// It must not be changed once it is made; the methods make new ones.
type Roster struct {
	Members []Member `json:"members"`           // sorted by id
	Removed []Gone   `json:"removed,omitempty"` // in the order in which they were removed
}

// New makes the roster that a configuration names. All of it is as given: validate tells what is wrong with it.
func New(members []Member) Roster {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return Roster{Members: sorted}
}

// Member returns the member with a raft id.
func (r Roster) Member(id uint64) (Member, bool) {
	for _, m := range r.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// WasRemoved reports whether a raft id was removed. That is for ever.
func (r Roster) WasRemoved(id uint64) bool {
	return slices.ContainsFunc(r.Removed, func(g Gone) bool { return g.ID == id })
}

// Voters lists the raft ids of those that vote, in order.
func (r Roster) Voters() []uint64 { return r.ids(false) }

// Learners lists the raft ids of those that do not vote yet, in order.
func (r Roster) Learners() []uint64 { return r.ids(true) }

func (r Roster) ids(learners bool) []uint64 {
	var ids []uint64
	for _, m := range r.Members {
		if m.Learner == learners {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Preferred is the raft id of the voter that should lead when it can; 0 = nobody in particular.
func (r Roster) Preferred() uint64 {
	for _, m := range r.Members {
		if m.Preferred && !m.Learner {
			return m.ID
		}
	}
	return raft.None
}

// GoesOnFrom says why no changes can have led from an earlier roster to this one; nil = they may have. Nobody leaves without being
// removed, and who was removed does not come back. This one may have forgotten removals, the eldest first.
func (r Roster) GoesOnFrom(earlier Roster) error {
	for _, m := range earlier.Members {
		now, here := r.Member(m.ID)
		gone := slices.Contains(r.Removed, Gone{ID: m.ID, Name: m.Name})
		if !gone && (!here || now.Name != m.Name) {
			return fmt.Errorf("node %s is none of its members, and was not removed", m.Name)
		}
	}
	for _, gone := range earlier.Removed {
		if slices.ContainsFunc(r.Members, func(m Member) bool { return m.ID == gone.ID || m.Name == gone.Name }) {
			return fmt.Errorf("node %s was removed", gone.Name)
		}
	}
	return nil
}

// Majority is how many of n voters are one.
func Majority(n int) int { return n/2 + 1 }

// validate refuses a roster that no sequence of changes leads to.
func (r Roster) validate() error {
	if len(r.Members) > MaxMembers || len(r.Removed) > MaxRemoved {
		return fmt.Errorf("%d members and %d removed ones: at most %d and %d", len(r.Members), len(r.Removed), MaxMembers, MaxRemoved)
	}
	ids, names := map[uint64]bool{}, map[string]bool{}
	for i, m := range r.Members {
		if i > 0 && r.Members[i-1].ID >= m.ID {
			return fmt.Errorf("member %q is not in order", m.Name)
		}
		if err := m.validate(); err != nil {
			return err
		}
		if ids[m.ID] || names[m.Name] {
			return fmt.Errorf("member %q: id or name is used twice", m.Name)
		}
		ids[m.ID], names[m.Name] = true, true
	}
	for _, g := range r.Removed {
		if ids[g.ID] || names[g.Name] || g.ID == raft.None || g.Name == "" || len(g.Name) > maxName {
			return fmt.Errorf("removed node %q (%x): it is a member, or removed twice, or nobody", g.Name, g.ID)
		}
		ids[g.ID], names[g.Name] = true, true
	}
	if len(r.Members) > 0 && len(r.Voters()) == 0 {
		return errors.New("nobody votes")
	}
	if len(r.Learners()) > 1 {
		return errors.New("more than one is to become a voter")
	}
	return nil
}

func (m Member) validate() error {
	switch {
	case m.ID == raft.None || raft.IsLocalMsgTarget(m.ID):
		return fmt.Errorf("member %.64q: id %x is reserved", m.Name, m.ID)
	case m.Name == "" || len(m.Name) > maxName:
		return fmt.Errorf("member %x: name %.64q is empty or longer than %d bytes", m.ID, m.Name, maxName)
	case len(m.Addr) > maxAddr:
		return fmt.Errorf("member %q: its address is longer than %d bytes", m.Name, maxAddr)
	case len(m.Note) > MaxNote:
		return fmt.Errorf("member %q: its note is longer than %d bytes", m.Name, MaxNote)
	}
	if host, port, err := net.SplitHostPort(m.Addr); err != nil || host == "" || port == "" {
		return fmt.Errorf("member %q: address %.64q is not host:port", m.Name, m.Addr)
	}
	return nil
}
