package replica

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// When leadership is handed to the preferred node, in election timeouts (0.3 s with the defaults)
// unless said. Raft drops proposals during a hand-off, for at most one election timeout, so a preferred
// node that cannot hold the leadership must be tried ever more rarely.
const (
	handoffStable  = 3   // it must have been fit for so long without a break
	handoffWait    = 10  // between two tries; doubles with each try
	handoffWaitMax = 200 // but not beyond this
	handoffHeld    = 60  // a leadership of the preferred node that lasts this long ends the doubling
	handoffLag     = 64  // entries; a node further behind is not caught up
	handoffSilence = 4   // heartbeats; a node silent for longer is not answering
)

// handoff is what the replica remembers about handing the leadership to the preferred node.
type handoff struct {
	fit  int64 // ticks for which the preferred node has been fit to lead
	next int64 // tick before which it is not tried again
	wait int64 // ticks from the next try to the one after it
	held int64 // ticks for which the preferred node has led
}

// handoffWait is the shortest time between two tries, in ticks.
func (r *Replica) handoffWait() int64 { return handoffWait * int64(r.cfg.ElectionTicks) }

// tickHandoff runs once per tick.
func (r *Replica) tickHandoff() {
	preferred, timeout := r.preferred, int64(r.cfg.ElectionTicks)
	if preferred == raft.None {
		return
	}
	lead := r.announced
	if lead.Leader == preferred {
		r.handoff.held++
	} else {
		r.handoff.held = 0
	}
	if r.handoff.held >= handoffHeld*timeout {
		r.handoff.wait = r.handoffWait()
	}
	if !lead.Ready || preferred == r.cfg.ID || r.disk.stuck || !r.preferredFit() {
		r.handoff.fit = 0
		return
	}
	r.handoff.fit++
	if r.handoff.fit < handoffStable*timeout || r.now < r.handoff.next {
		return
	}
	r.handoff.fit = 0
	r.handoff.next = r.now + r.handoff.wait
	r.handoff.wait = min(2*r.handoff.wait, handoffWaitMax*timeout)
	if r.leadership().Self { // a follower would pass the order on to its leader
		r.node.TransferLeader(preferred)
	}
}

// preferredFit says whether the preferred node could take over now: reachable, answering, caught up,
// with a disk that has been well for a while. raft's own RecentActive will not do: it is false at the
// tick of every quorum check.
func (r *Replica) preferredFit() bool {
	if !r.answering(r.preferred) || r.disk.peers[r.preferred] != noteWell {
		return false
	}
	fit := false
	r.node.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id == r.preferred && kind == raft.ProgressTypePeer {
			fit = p.State == tracker.StateReplicate && p.Match+handoffLag >= r.last
		}
	})
	return fit
}
