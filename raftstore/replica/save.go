package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Batch is one durable write. It is carried out in this order: a leader's snapshot, entries,
// compaction, hard state; all of it or nothing.
type Batch struct {
	Hard     *pb.HardState // the newest; never nil in an Output
	Snapshot *pb.Snapshot  // of a leader: replaces all there is; nil = none
	Entries  []*pb.Entry   // replace every entry of the same or a higher index
	Compact  *Compaction   // nil = none
	// Doubt is Replica.Doubt as of this write. It must not be forgotten before a batch without it is
	// durable: a node that is started again meanwhile has not caught up either.
	Doubt string
}

// Compaction makes a snapshot of an applied index the newest one.
type Compaction struct {
	Snapshot *pb.Snapshot
	Through  uint64 // the last index of the log that is dropped; 0 drops none
}

// add puts a later batch behind b, as if both were written one after the other.
func (b *Batch) add(next Batch) {
	if next.Snapshot != nil {
		b.Snapshot, b.Entries, b.Compact = next.Snapshot, nil, nil
	}
	if len(next.Entries) > 0 {
		first := next.Entries[0].GetIndex()
		for len(b.Entries) > 0 && b.Entries[len(b.Entries)-1].GetIndex() >= first {
			b.Entries = b.Entries[:len(b.Entries)-1]
		}
		b.Entries = append(b.Entries, next.Entries...)
	}
	if c := next.Compact; c != nil {
		through := c.Through
		if b.Compact != nil {
			through = max(through, b.Compact.Through)
		}
		b.Compact = &Compaction{Snapshot: c.Snapshot, Through: through}
	}
	if next.Hard != nil {
		b.Hard = next.Hard
	}
}

// write is a batch with what may happen only when it is durable.
type write struct {
	batch   Batch
	durable bool          // false: it changes nothing that was promised
	answers []*pb.Message // to peers, and to raft itself
}

// gather adds raft's order to append to what waits for the disk. raft's MustSync is false for a
// snapshot whose receipt an answer of the same order promises (seen with v3.7.0), so a snapshot is
// always to be durable.
func (r *Replica) gather(ready raft.Ready, order *pb.Message) {
	w := &r.waiting
	next := Batch{Entries: ready.Entries}
	if !raft.IsEmptyHardState(ready.HardState) {
		next.Hard = ready.HardState
	}
	if !raft.IsEmptySnap(ready.Snapshot) {
		next.Snapshot = ready.Snapshot
		r.last = ready.Snapshot.GetMetadata().GetIndex()
	}
	if n := len(ready.Entries); n > 0 {
		r.last = ready.Entries[n-1].GetIndex()
	}
	w.batch.add(next)
	w.durable = w.durable || ready.MustSync || next.Snapshot != nil
	for _, answer := range order.GetResponses() {
		w.answer(answer)
	}
}

// answer adds an answer unless it is there already. While a disk stands still a leader that probes
// gets the same answer again and again; all would go out at once when it is over.
func (w *write) answer(m *pb.Message) {
	for _, have := range w.answers {
		if have.GetType() == m.GetType() && proto.Equal(have, m) {
			return
		}
	}
	w.answers = append(w.answers, m)
}

// empty says whether there is nothing to write and nobody to answer.
func (w *write) empty() bool {
	return !w.durable && w.batch.Hard == nil && len(w.answers) == 0
}

// settle ends a write that need not be durable: a newer commit index, which goes to disk with the next
// write that must, or answers to what was durable before. It waits for the save under way, because its
// answers may speak of that. It says whether it did something.
func (r *Replica) settle() (bool, error) {
	if r.flying != nil || r.waiting.durable || r.waiting.empty() {
		return false, nil
	}
	w := r.waiting
	r.waiting = write{}
	return true, r.finish(&w)
}

// startSave hands out what waits, if it must be durable and nothing is under way.
func (r *Replica) startSave() {
	if r.flying != nil || !r.waiting.durable {
		return
	}
	w := r.waiting
	r.waiting = write{}
	if w.batch.Hard == nil {
		w.batch.Hard = r.cfg.Storage.Hard()
	}
	w.batch.Doubt, r.doubt.saved = r.doubt.reason, r.doubt.reason
	r.flying, r.disk.since = &w, r.now
	r.out.Save = &w.batch
}

// Saved tells that the Save of the last Output that had one is durable. What waited for that leaves
// with the next Flush.
func (r *Replica) Saved() error {
	if r.flying == nil {
		return errors.New("no save is under way")
	}
	w := r.flying
	r.flying, r.doubt.stored = nil, w.batch.Doubt
	r.doubt.founded = r.doubt.founded || w.batch.Doubt == ""
	r.recovered()
	return r.finish(w)
}

// finish makes a write that is done readable, gives a leader's snapshot to the machine, and answers.
// raft wants its own answers in their order, and the one about the log's end last.
func (r *Replica) finish(w *write) error {
	if err := r.cfg.Storage.Save(&w.batch); err != nil {
		return fmt.Errorf("take what was saved: %w", err)
	}
	if w.batch.Snapshot != nil {
		if err := r.restore(w.batch.Snapshot); err != nil {
			return err
		}
	}
	for _, m := range w.answers {
		if m.GetTo() != r.cfg.ID {
			r.send(m)
			continue
		}
		if err := r.tell(m); err != nil {
			return err
		}
	}
	return nil
}

// compact takes a snapshot when SnapshotEvery entries were applied since the last one, and drops
// the entries it covers but for the newest KeepEntries. A leader's snapshot that is not yet saved is
// newer than anything applied here, so that comes first.
func (r *Replica) compact() error {
	busy := r.waiting.batch.Snapshot != nil || (r.flying != nil && r.flying.batch.Snapshot != nil)
	if busy || (r.applied-r.snapshot < r.cfg.SnapshotEvery && !r.snapshotDue) {
		return nil
	}
	data, err := r.cfg.Machine.Snapshot()
	if err != nil {
		return fmt.Errorf("snapshot at index %d: %w", r.applied, err)
	}
	snapshot := &pb.Snapshot{Data: r.wrap(data), Metadata: &pb.SnapshotMetadata{
		ConfState: r.conf, Index: new(r.applied), Term: new(r.appliedTerm),
	}}
	through := uint64(0)
	if r.applied > r.cfg.KeepEntries {
		through = r.applied - r.cfg.KeepEntries
	}
	r.waiting.batch.add(Batch{Compact: &Compaction{Snapshot: snapshot, Through: through}})
	r.waiting.durable = true
	r.snapshot, r.snapshotDue = r.applied, false
	return nil
}
