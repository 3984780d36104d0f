package replica

import (
	"cmp"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A disk is stuck while a save has been under way for an election timeout. Ticks and heartbeats go on,
// so the others notice nothing, and a leader with such a disk would stop the group: it commits with
// the disks of the others but applies nothing itself. So it gives the leadership away, and a node
// whose disk is stuck does not campaign.
//
// Every node tells the leader about its own disk in its answers to heartbeats: Reject is set and
// RejectHint is one of the notes below. raft looks at neither in such an answer.
const (
	noteWell   uint64 = 0
	noteStuck  uint64 = 1
	noteHealed uint64 = 2 // not stuck any more, but not for long enough to lead again
	noteDoubt  uint64 = 3 // of a learner: in doubt, so that it would not vote if it could
)

// diskHeal is how long a disk must have been fine after it was stuck, in election timeouts (9 s with
// the defaults), before its node is handed the leadership again; it doubles with each time up to
// diskHealMax, and begins anew after diskHealMax without one.
const (
	diskHeal    = 30
	diskHealMax = 960
)

// disk is what a replica knows of its own disk, and of those of the others.
type disk struct {
	since int64 // tick at which the save under way was handed out
	stuck bool  // as of the last tick
	ended int64 // tick at which the disk was stuck last; counts only when heal > 0
	heal  int64 // ticks to wait from there; 0 = never stuck

	offered  map[uint64]bool   // peers that this stuck leader has tried
	next     int64             // tick before which it tries no other
	peers    map[uint64]uint64 // notes of the others; absent = well
	lastSeen map[uint64]int64  // ticks of their last messages
}

// tickDisk runs once per tick.
func (r *Replica) tickDisk() {
	timeout := int64(r.cfg.ElectionTicks)
	if r.flying == nil || r.now-r.disk.since < timeout {
		return
	}
	if !r.disk.stuck {
		r.disk.stuck = true
		if r.disk.heal == 0 || r.now-r.disk.ended > diskHealMax*timeout {
			r.disk.heal = diskHeal * timeout
		} else {
			r.disk.heal = min(2*r.disk.heal, diskHealMax*timeout)
		}
	}
	r.disk.ended = r.now
	if r.announced.Self {
		r.giveUp()
	}
}

// recovered ends what began when the disk was stuck.
func (r *Replica) recovered() {
	r.disk.stuck, r.disk.offered, r.disk.next = false, nil, 0
}

// note is what this node tells about its own disk.
func (r *Replica) note() uint64 {
	switch {
	case r.disk.stuck:
		return noteStuck
	case r.doubt.reason != "" && !r.votes():
		return noteDoubt
	case r.disk.heal > 0 && r.now-r.disk.ended < r.disk.heal:
		return noteHealed
	default:
		return noteWell
	}
}

// tellDisk writes the note into an answer to a heartbeat.
func (r *Replica) tellDisk(m *pb.Message) {
	if note := r.note(); note != noteWell {
		m.Reject, m.RejectHint = new(true), new(note)
	}
}

// hearDisk reads it. A message that is no answer to a heartbeat says only that the peer is there.
func (r *Replica) hearDisk(m *pb.Message) {
	r.disk.lastSeen[m.GetFrom()] = r.now
	if m.GetType() != pb.MsgHeartbeatResp {
		return
	}
	if m.GetReject() {
		r.disk.peers[m.GetFrom()] = m.GetRejectHint()
	} else {
		delete(r.disk.peers, m.GetFrom())
	}
}

// answering says whether a peer can be reached and has said something lately.
func (r *Replica) answering(id uint64) bool {
	seen, known := r.disk.lastSeen[id]
	return known && r.linked[id] && r.now-seen <= handoffSilence*int64(r.cfg.HeartbeatTicks)
}

// giveUp offers the leadership to one peer after the other, each for an election timeout. When all
// were asked in vain it steps down, so that the others elect. While there is nobody who could lead
// better it stays: without a majority to talk to raft ends its leadership anyway, and when all disks
// are stuck, as with storage that they share, an election would only come on top.
func (r *Replica) giveUp() {
	lead := r.leadership()
	if !lead.Self || r.now < r.disk.next {
		return
	}
	heir, able := r.heir()
	if !able {
		return
	}
	r.disk.next = r.now + int64(r.cfg.ElectionTicks)
	if heir == raft.None {
		r.stepDown(lead.Term)
		return
	}
	if r.disk.offered == nil {
		r.disk.offered = map[uint64]bool{}
	}
	r.disk.offered[heir] = true
	r.node.TransferLeader(heir)
}

// heir is the peer that should lead instead of this node: of those that are able, because they answer
// and their disks are not stuck, and were not asked yet, one with a disk that was never stuck before
// one whose disk was, the one with the longest log, the preferred one, the lowest id.
func (r *Replica) heir() (best uint64, able bool) {
	longest := uint64(0)
	r.node.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id == r.cfg.ID || kind != raft.ProgressTypePeer || r.disk.peers[id] == noteStuck || !r.answering(id) {
			return
		}
		able = true
		if r.disk.offered[id] {
			return
		}
		order := cmp.Or(
			cmp.Compare(r.disk.peers[id], r.disk.peers[best]),
			cmp.Compare(longest, p.Match),
		)
		if best == raft.None || order < 0 || (order == 0 && id == r.preferred) {
			best, longest = id, p.Match
		}
	})
	return best, able
}

// stepDown makes this leader a follower without a leader. raft has no call for that; a message of a
// newer term does it. Nobody votes for anybody in that term by this, it is only used up.
func (r *Replica) stepDown(term uint64) {
	m := &pb.Message{
		Type: pb.MsgHeartbeatResp.Enum(), From: new(r.cfg.ID), To: new(r.cfg.ID), Term: new(term + 1),
	}
	if err := r.node.Step(m); err != nil {
		r.cfg.Logger.Warningf("step down: %v", err)
	}
}
