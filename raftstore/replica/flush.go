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
	// Messages go to their peers at once, before the Save. Everything they promise is durable. They
	// are read-only.
	Messages []*pb.Message
	// Save is to be made durable, and then told with Saved; nil = nothing new. There is at most one
	// under way: what comes up meanwhile is in the next one. It is read-only.
	Save *Batch
	// Dropped are proposals of this replica that the leader has given back: they are in no log.
	Dropped []*pb.Entry
	// Members are the rosters that came into force, the newest last. What is in Messages is still for those of before.
	Members []Membership
	// Leadership is set when it changed.
	Leadership *Leadership
	// Wake asks for a call of Replica.Wake after this time; 0 = no wish. A later wish replaces it.
	Wake time.Duration
}

// Flush does all work that raft has ready: it collects messages, applies what is committed and saved,
// takes a snapshot when one is due, and hands out what must be durable. An error is one of the
// machine's snapshot or a contradiction in the log; the replica must not be used after it.
func (r *Replica) Flush() (Output, error) {
	for {
		for r.node.HasReady() {
			r.changed = true
			if err := r.handle(r.node.Ready()); err != nil {
				return Output{}, err
			}
		}
		if err := r.compact(); err != nil {
			return Output{}, err
		}
		if more, err := r.settle(); err != nil {
			return Output{}, err
		} else if !more {
			break
		}
	}
	r.tellReads()
	r.out.Members, r.members.told = r.members.told, nil
	r.announce()
	r.endDoubt()
	r.startSave()
	out := r.out
	r.out = Output{}
	return out, nil
}

// announce looks at raft's state if that may have changed: asking allocates, and most ticks of a
// quiet group change nothing.
func (r *Replica) announce() {
	if !r.changed {
		return
	}
	r.changed = false
	now, commit := r.status()
	r.commit = commit
	if now != r.announced {
		r.announced = now
		r.out.Leadership = &now
	}
}

// handle processes one Ready. raft runs with AsyncStorageWrites: what goes to a peer may go at once,
// what must wait for the disk is in the answers of the order to append.
func (r *Replica) handle(ready raft.Ready) error {
	r.confirmed(ready.ReadStates)
	for _, m := range ready.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			r.gather(ready, m)
		case raft.LocalApplyThread:
			if err := r.applyAll(m); err != nil {
				return err
			}
		case standIn:
		default:
			if r.stale(m) { // the next one is being made
				r.SnapshotSent(m.GetTo(), false)
				continue
			}
			r.send(m)
		}
	}
	return nil
}

// send puts a message into the output.
func (r *Replica) send(m *pb.Message) {
	if m.GetType() == pb.MsgHeartbeatResp {
		r.tellDisk(m)
		r.doubtReads(m)
	}
	r.out.Messages = append(r.out.Messages, m)
}

// restore gives a leader's snapshot to the machine.
func (r *Replica) restore(snapshot *pb.Snapshot) error {
	meta := snapshot.GetMetadata()
	if err := r.rebuild(snapshot); err != nil {
		return err
	}
	r.applied, r.appliedTerm = meta.GetIndex(), meta.GetTerm()
	r.snapshot, r.conf = meta.GetIndex(), meta.GetConfState()
	return nil
}

// applyAll carries out raft's order to apply. All its entries are durable here.
func (r *Replica) applyAll(order *pb.Message) error {
	for _, entry := range order.GetEntries() {
		if err := r.apply(entry); err != nil {
			return err
		}
	}
	for _, m := range order.GetResponses() {
		if err := r.tell(m); err != nil {
			return err
		}
	}
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
		r.snapshotDue = true
	case pb.EntryConfChangeV2:
		change := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(entry.GetData(), change); err != nil {
			return fmt.Errorf("decode configuration change at index %d: %w", entry.GetIndex(), err)
		}
		if err := r.reconfigure(entry.GetIndex(), change); err != nil {
			return err
		}
	}
	r.applied, r.appliedTerm = entry.GetIndex(), entry.GetTerm()
	return nil
}
