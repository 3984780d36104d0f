package replica

import "github.com/duoflow/duoflow/raftstore/roster"

// removalWait is how long a node that one peer called removed waits for the others to say so, in election timeouts (30 s with the
// defaults). Those that it knows may be gone for good.
const removalWait = 100

// removal is what a replica knows of its own end as a member. Between the word and the end it asks for no vote and gives its own: of four
// voters it is the third that elects whoever has the entry which removes it, and does not know yet that this is agreed on. That may be
// the only one left who has it, when the leader has removed itself and the other one that knew has lost its disk.
type removal struct {
	known bool            // by the log, or by a peer's word
	told  map[uint64]bool // by whom
	since int64           // tick of the first peer's word; only with told
	over  bool            // who is left does not need this node any more
}

// PeerRemoved takes a peer's word that this node was removed. It learns of that from others when the entry that removes it does not reach
// it any more. It is over when a majority of the voters beside it has said so: each of those has applied the entry.
func (r *Replica) PeerRemoved(peer uint64) {
	if len(r.removal.told) == 0 {
		r.removal.told, r.removal.since = map[uint64]bool{}, r.now
	}
	r.removal.known, r.removal.told[peer] = true, true
	others, agree := 0, 0
	for _, id := range r.conf.GetVoters() {
		if id == r.cfg.ID {
			continue
		}
		others++
		if r.removal.told[id] { // a learner or a guest has applied the entry, too, and its vote is not what is counted on
			agree++
		}
	}
	if agree >= roster.Majority(others) {
		r.removal.over = true
	}
	_ = r.node.ForgetLeader() // its time stands still, and a leader that was heard lately would keep it from voting for ever
}

// lastVotes reports whether this node gives the votes of one that is removed, and its log still has it among the voters: raft would
// have it campaign.
func (r *Replica) lastVotes() bool { return r.removal.known && r.votes() }

// tickRemoval ends the wait for the others' word.
func (r *Replica) tickRemoval() {
	if len(r.removal.told) > 0 && r.now-r.removal.since >= removalWait*int64(r.cfg.ElectionTicks) {
		r.removal.over = true
	}
}
