package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// The seed is the first state of every node of a cluster: a snapshot of nothing but the voters, at
// an index every node agrees on. raft must see a first index > 1 so that it never replays the
// making of the group; StartNode is not used.
const (
	SeedIndex = 1
	SeedTerm  = 1
)

// Seed is the first content of a storage whose group consists of these voters.
func Seed(voters []uint64) (*pb.Snapshot, *pb.HardState) {
	voters = slices.Sorted(slices.Values(voters))
	snapshot := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: pb.EnsureConfState(&pb.ConfState{Voters: voters}),
		Index:     new(uint64(SeedIndex)),
		Term:      new(uint64(SeedTerm)),
	}}
	hard := &pb.HardState{
		Term: new(uint64(SeedTerm)), Vote: new(uint64(0)), Commit: new(uint64(SeedIndex)),
	}
	return snapshot, hard
}

// Blank is the first content of the storage of a node that is to be added to a group: it has no voters and no log, and takes all
// from a leader's snapshot. What its configuration says of the members may be out of date.
func Blank() (*pb.Snapshot, *pb.HardState) {
	snapshot := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: pb.EnsureConfState(&pb.ConfState{}), Index: new(uint64(0)), Term: new(uint64(0)),
	}}
	return snapshot, &pb.HardState{Term: new(uint64(0)), Vote: new(uint64(0)), Commit: new(uint64(0))}
}

// Memory is what raft reads: a copy, in memory, of what is saved.
type Memory struct {
	*raft.MemoryStorage
	hard *pb.HardState
}

// NewMemory makes a Memory of what was found on a disk, or of a seed. It refuses what raft would
// panic on: gaps, and a commit index outside of snapshot and log. When the log begins at or before
// the snapshot its first entry is only an anchor: raft may ask for its term, never for its data.
func NewMemory(snapshot *pb.Snapshot, hard *pb.HardState, entries []*pb.Entry) (*Memory, error) {
	m := &Memory{MemoryStorage: raft.NewMemoryStorage(), hard: hard}
	at := snapshot.GetMetadata().GetIndex()
	if err := checkLog(at, entries); err != nil {
		return nil, err
	}
	if err := m.fill(snapshot, entries); err != nil {
		return nil, err
	}
	last, err := m.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read last index: %w", err)
	}
	if commit := hard.GetCommit(); commit < at || commit > last {
		return nil, fmt.Errorf("commit index %d is outside of snapshot and log [%d, %d]", commit, at, last)
	}
	return m, m.SetHardState(hard)
}

// checkLog looks for gaps: before the log, after the snapshot and between entries.
func checkLog(snapshot uint64, entries []*pb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	first, last := entries[0].GetIndex(), entries[len(entries)-1].GetIndex()
	if snapshot == 0 || first == 0 || first > snapshot+1 || last < snapshot {
		return fmt.Errorf("log [%d, %d] does not join the snapshot at index %d", first, last, snapshot)
	}
	for i, entry := range entries {
		if want := first + uint64(i); entry.GetIndex() != want {
			return fmt.Errorf("log holds index %d where %d belongs", entry.GetIndex(), want)
		}
	}
	return nil
}

// fill loads snapshot and log.
func (m *Memory) fill(snapshot *pb.Snapshot, entries []*pb.Entry) error {
	meta, anchor := snapshot.GetMetadata(), snapshot
	early := len(entries) > 0 && entries[0].GetIndex() < meta.GetIndex()
	if early {
		anchor = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			ConfState: meta.GetConfState(), Index: entries[0].Index, Term: entries[0].Term,
		}}
	}
	if meta.GetIndex() == 0 {
		return nil // Blank; checkLog has seen that no entries are there
	}
	if err := m.ApplySnapshot(anchor); err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	// Append itself leaves out what is not behind the anchor.
	if err := m.Append(entries); err != nil {
		return fmt.Errorf("load log: %w", err)
	}
	if early {
		return m.keep(snapshot)
	}
	return nil
}

// keep makes snapshot the newest one without touching the log.
func (m *Memory) keep(snapshot *pb.Snapshot) error {
	meta := snapshot.GetMetadata()
	_, err := m.CreateSnapshot(meta.GetIndex(), meta.GetConfState(), snapshot.GetData())
	if err != nil {
		return fmt.Errorf("keep snapshot at index %d: %w", meta.GetIndex(), err)
	}
	return nil
}

// Hard is the newest hard state; its commit index may be newer than that on disk.
func (m *Memory) Hard() *pb.HardState { return m.hard }

// Save takes a batch into memory. The replica does that for the Memory it was given; a model of a disk
// may use it for another one.
func (m *Memory) Save(b *Batch) error {
	if b.Snapshot != nil {
		if err := m.ApplySnapshot(b.Snapshot); err != nil {
			return fmt.Errorf("take snapshot: %w", err)
		}
	}
	if err := m.Append(b.Entries); err != nil {
		return fmt.Errorf("append entries: %w", err)
	}
	if b.Compact != nil {
		if err := m.compact(b.Compact); err != nil {
			return err
		}
	}
	if b.Hard == nil {
		return nil
	}
	m.hard = b.Hard
	return m.SetHardState(b.Hard)
}

// compact keeps the snapshot and forgets the entries it makes needless.
func (m *Memory) compact(c *Compaction) error {
	if err := m.keep(c.Snapshot); err != nil {
		return err
	}
	if err := m.Compact(c.Through); err != nil && !errors.Is(err, raft.ErrCompacted) {
		return fmt.Errorf("compact to index %d: %w", c.Through, err)
	}
	return nil
}
