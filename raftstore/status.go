package raftstore

import "time"

// Status is what a node knows of the group, as of its loop's last turn.
type Status struct {
	Leadership
	Commit, Applied, Last uint64 // raft indexes
	Snapshot              uint64 // raft index of the newest snapshot
	Voters                []uint64
	PeerStates            []PeerState // in the order of Config.Peers, this node included
	// FsyncLast and FsyncP99 are durations of bbolt commits: the newest, and the 99th percentile
	// of the last 256; 0 = none yet.
	FsyncLast, FsyncP99 time.Duration
	// Doubt says why this node neither votes nor campaigns for now: its disk may have forgotten what
	// it promised. It ends by itself when the node has caught up with a leader; "" = none.
	Doubt string
}

// PeerState is what this node knows of one peer.
type PeerState struct {
	Peer
	Connected bool // this node's streams to it are open; true for this node itself
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
	}
	status.FsyncLast, status.FsyncP99 = s.took.last()
	for _, p := range s.cfg.Peers {
		l := s.links[p.ID]
		status.PeerStates = append(status.PeerStates, PeerState{Peer: p, Connected: l == nil || l.up.Load()})
	}
	return status
}

// publish keeps the replica's state for Status and for new connections.
func (s *Store) publish() {
	state, fresh := s.replica.State(), s.replica.Fresh()
	s.mu.Lock()
	before := s.status.Doubt
	s.status, s.fresh = state, fresh
	s.mu.Unlock()
	if state.Doubt == before {
		return
	}
	if state.Doubt != "" {
		s.log.Warn("this node does not vote for now", "reason", state.Doubt)
	} else {
		s.log.Info("this node votes again", "index", state.Applied)
	}
}

// isFresh says whether the log is empty.
func (s *Store) isFresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh
}
