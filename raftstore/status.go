package raftstore

import (
	"time"

	"github.com/duoflow/duoflow/raftstore/door"
)

// Status is what a node knows of the group, as of its loop's last turn.
type Status struct {
	Leadership
	Commit, Applied, Last uint64 // raft indexes
	Snapshot              uint64 // raft index of the newest snapshot
	Voters                []uint64
	// Members is the roster in force, or that of the configuration. PeerStates are those, this node included, and the guests.
	Members    Roster
	PeerStates []PeerState
	// Removed: this node was a member and is none any more.
	Removed bool
	// FsyncLast and FsyncP99 are durations of durable writes: the newest that has ended, and the 99th
	// percentile of the last 256 or, if that is longer, the age of the one under way; 0 = none yet.
	FsyncLast, FsyncP99 time.Duration
	// Fsyncs are the durations of all that have ended.
	Fsyncs Tally
	// Stuck is the age of the write under way once that is an election timeout or more; 0 = the disk
	// answers. Meanwhile the node gives up the raft leadership, does not campaign, and its votes and
	// acknowledgements wait. It ends by itself when the disk answers.
	Stuck time.Duration
	// Doubt says why this node neither votes nor campaigns for now: its disk may have forgotten what
	// it promised. It ends by itself when the node has caught up with a leader and has written that down; "" = none.
	Doubt string
	// Life is that of the cluster.
	Life Life
	// Refused is how many connections to the peers' port were turned away, for every reason there is.
	Refused []door.Count
}

// PeerState is what this node knows of one peer.
type PeerState struct {
	Peer
	Connected bool   // this node's streams to it are open; true for this node itself
	Received  uint64 // raft messages that came from it so far; 0 for this node itself
}

// Status reports the newest state. It never blocks on the disk.
func (s *Store) Status() Status {
	s.mu.Lock()
	state := s.status
	s.mu.Unlock()
	status := Status{
		Leadership: Leadership(state.Leadership),
		Commit:     state.Commit, Applied: state.Applied, Last: state.Last,
		Snapshot: state.Snapshot, Voters: state.Voters, Doubt: state.Doubt,
		Life: s.Life(), Refused: s.door.Refused(), Members: state.Members, Removed: state.Removed,
	}
	if len(status.Members.Members) == 0 { // the loop has not begun
		status.Members = s.cfg.members()
	}
	status.FsyncLast, status.FsyncP99 = s.took.last()
	status.Fsyncs = s.took.tally()
	if state.Stuck { // in ticks, which may be somebody else's to count
		status.Stuck = s.took.age()
	}
	links := s.links()
	for _, p := range s.cfg.members().Members {
		peer := PeerState{Peer: p, Connected: p.ID == s.cfg.Self}
		if l := links[p.ID]; l != nil {
			peer.Connected, peer.Received = l.up.Load(), l.received.Load()
		}
		status.PeerStates = append(status.PeerStates, peer)
	}
	return status
}

// publish keeps the replica's state for Status and for new connections, and tells of its troubles.
func (s *Store) publish() {
	state, fresh := s.replica.State(), s.replica.Fresh()
	s.mu.Lock()
	before := s.status
	s.status, s.fresh = state, fresh
	s.mu.Unlock()
	switch {
	case state.Doubt == before.Doubt:
	case state.Doubt != "":
		s.log.Warn("this node does not vote for now", "reason", state.Doubt)
	default:
		s.log.Info("this node votes again", "index", state.Applied)
	}
	switch {
	case state.Stuck == before.Stuck:
	case state.Stuck:
		s.log.Warn("the disk does not answer; this node neither leads nor votes for now", "took", s.took.age())
	default:
		last, _ := s.took.last()
		s.log.Info("the disk answers again", "took", last)
	}
	if state.Removed && !before.Removed {
		s.leave()
	}
}

// waits reports whether this node is in doubt, and whether it was removed and waits for others to say so.
func (s *Store) waits() (doubt, leaving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Doubt != "", s.status.Leaving
}

// standing is what another node has to know of this one when they connect.
func (s *Store) standing() standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return standing{fresh: s.fresh, term: s.status.Term, roster: true, members: s.status.Members, logged: s.status.Logged}
}
