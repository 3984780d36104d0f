package raftstore

import (
	"time"

	"github.com/duoflow/duoflow/raftstore/replica"
)

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
		Snapshot: state.Snapshot, Voters: state.Voters,
	}
	status.FsyncLast, status.FsyncP99 = s.took.last()
	for _, p := range s.cfg.Peers {
		l := s.links[p.ID]
		status.PeerStates = append(status.PeerStates, PeerState{Peer: p, Connected: l == nil || l.up.Load()})
	}
	return status
}

// publish keeps the replica's state for Status.
func (s *Store) publish() {
	var state replica.State = s.replica.State()
	s.mu.Lock()
	s.status = state
	s.mu.Unlock()
}
