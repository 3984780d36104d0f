package replica

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// RequestBytes is the length of what names a read in raft's messages.
const RequestBytes = 8

// read is a request that waits for the machine to be as new as the leader said.
type read struct {
	request uint64
	index   uint64 // commit index of a leader that a majority has confirmed since the request
}

// Read asks for the moment at which the machine holds all that was committed anywhere before this call: Config.Current is
// called with the request then. The leader says how far that is, after a majority has told it that it still leads, so no
// clock has a part in it. Messages may be lost, and nothing is heard then; ask again, under another number.
func (r *Replica) Read(request uint64) error {
	if r.node.BasicStatus().Lead == raft.None {
		return ErrNoLeader
	}
	r.node.ReadIndex(binary.BigEndian.AppendUint64(nil, request))
	return nil
}

// admitRead looks at a peer's request to read before raft does. Who does not lead (any more) does not pass it on: it would go
// out under the name of the first sender, which nobody accepts.
func (r *Replica) admitRead(m *pb.Message) *pb.Message {
	if !r.leadership().Self {
		return nil
	}
	return m
}

// doubtReads keeps a node in doubt from confirming to anybody that he leads: it may have forgotten that it helped to elect
// another.
func (r *Replica) doubtReads(answer *pb.Message) {
	if r.doubt.reason != "" {
		answer.Context = nil
	}
}

// confirmed takes what raft has confirmed.
func (r *Replica) confirmed(states []raft.ReadState) {
	for _, s := range states {
		if len(s.RequestCtx) == RequestBytes { // else it is none of ours
			r.reads = append(r.reads, read{binary.BigEndian.Uint64(s.RequestCtx), s.Index})
		}
	}
}

// tellReads tells of every read for which enough is applied.
func (r *Replica) tellReads() {
	kept := r.reads[:0]
	for _, waits := range r.reads {
		if waits.index > r.applied {
			kept = append(kept, waits)
			continue
		}
		r.cfg.Current(waits.request)
	}
	r.reads = kept
}
