package replica

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Output is what the driver has to do after a Flush.
type Output struct {
	// Messages go to their peers. Everything they promise is durable. They are read-only.
	Messages []*pb.Message
	// Leadership is set when it changed.
	Leadership *Leadership
	// Wake asks for a call of Replica.Wake after this time; 0 = no wish. A later wish replaces it.
	Wake time.Duration
}

// Flush does all work that raft has ready: it saves, applies and collects messages, in that order,
// and takes a snapshot when one is due. An error is an error of the storage or of the machine's
// snapshot; the replica must not be used after it, because what is durable is unknown.
func (r *Replica) Flush() (Output, error) {
	for r.node.HasReady() {
		ready := r.node.Ready()
		if err := r.handle(ready); err != nil {
			return Output{}, err
		}
		r.node.Advance(ready)
	}
	if err := r.compact(); err != nil {
		return Output{}, err
	}
	r.endDoubt()
	if now := r.leadership(); now != r.announced {
		r.announced = now
		r.out.Leadership = &now
	}
	out := r.out
	r.out = Output{}
	return out, nil
}

// handle processes one Ready. Messages are collected only after the save: they may promise what it
// wrote. raft's MustSync is false for a snapshot whose receipt a message of the same Ready promises
// (seen with v3.7.0), so a snapshot always syncs.
func (r *Replica) handle(ready raft.Ready) error {
	batch := Batch{
		Hard:     ready.HardState,
		Entries:  ready.Entries,
		Snapshot: ready.Snapshot,
		Sync:     ready.MustSync || !raft.IsEmptySnap(ready.Snapshot),
	}
	if raft.IsEmptySnap(ready.Snapshot) {
		batch.Snapshot = nil
	}
	messages := ready.Messages
	if batch.Sync {
		messages = r.sendEarly(messages)
	}
	if err := r.cfg.Storage.Save(batch); err != nil {
		return fmt.Errorf("save raft state: %w", err)
	}
	r.out.Messages = append(r.out.Messages, messages...)
	if batch.Snapshot != nil {
		if err := r.restore(batch.Snapshot); err != nil {
			return err
		}
	}
	for _, entry := range ready.CommittedEntries {
		if err := r.apply(entry); err != nil {
			return err
		}
	}
	return nil
}

// sendEarly sends what a leader may send before the save, and returns the rest in its order. A leader
// counts its own disk towards the majority only after the save, so its followers may be ahead of it.
func (r *Replica) sendEarly(messages []*pb.Message) []*pb.Message {
	if r.cfg.Early == nil || r.node.BasicStatus().RaftState != raft.StateLeader {
		return messages
	}
	var early, late []*pb.Message
	for _, m := range messages {
		if m.GetType() == pb.MsgApp {
			early = append(early, m)
		} else {
			late = append(late, m)
		}
	}
	if len(early) > 0 {
		r.cfg.Early(early)
	}
	return late
}

// restore gives a leader's snapshot to the machine.
func (r *Replica) restore(snapshot *pb.Snapshot) error {
	meta := snapshot.GetMetadata()
	if err := r.cfg.Machine.Restore(snapshot.GetData()); err != nil {
		return fmt.Errorf("restore snapshot at index %d: %w", meta.GetIndex(), err)
	}
	r.applied, r.appliedTerm = meta.GetIndex(), meta.GetTerm()
	r.snapshot, r.conf = meta.GetIndex(), meta.GetConfState()
	return nil
}

// apply gives one committed entry to the machine, or to raft if it changes the configuration.
func (r *Replica) apply(entry *pb.Entry) error {
	switch entry.GetType() {
	case pb.EntryNormal:
		if len(entry.GetData()) > 0 {
			r.cfg.Machine.Apply(entry.GetIndex(), entry.GetData())
		}
	case pb.EntryConfChange:
		change := &pb.ConfChange{}
		if err := proto.Unmarshal(entry.GetData(), change); err != nil {
			return fmt.Errorf("decode configuration change at index %d: %w", entry.GetIndex(), err)
		}
		r.conf = r.node.ApplyConfChange(change)
	case pb.EntryConfChangeV2:
		change := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(entry.GetData(), change); err != nil {
			return fmt.Errorf("decode configuration change at index %d: %w", entry.GetIndex(), err)
		}
		r.conf = r.node.ApplyConfChange(change)
	}
	r.applied, r.appliedTerm = entry.GetIndex(), entry.GetTerm()
	return nil
}

// compact takes a snapshot when SnapshotEvery entries were applied since the last one, and drops
// the entries it covers but for the newest KeepEntries.
func (r *Replica) compact() error {
	if r.applied-r.snapshot < r.cfg.SnapshotEvery {
		return nil
	}
	data, err := r.cfg.Machine.Snapshot()
	if err != nil {
		return fmt.Errorf("snapshot at index %d: %w", r.applied, err)
	}
	snapshot := &pb.Snapshot{Data: data, Metadata: &pb.SnapshotMetadata{
		ConfState: r.conf, Index: new(r.applied), Term: new(r.appliedTerm),
	}}
	through := uint64(0)
	if r.applied > r.cfg.KeepEntries {
		through = r.applied - r.cfg.KeepEntries
	}
	if err := r.cfg.Storage.Compact(snapshot, through); err != nil {
		return fmt.Errorf("compact raft log to index %d: %w", through, err)
	}
	r.snapshot = r.applied
	return nil
}
