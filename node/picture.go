package node

import (
	"maps"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// picture is what the loop shows to the surfaces. It is replaced as a whole and never changed once painted.
type picture struct {
	at control.Instant
	// quorumAt is when a majority was last heard while a leader was known; 0 = never.
	quorumAt control.Instant
	heard    map[lease.NodeID]control.Instant
	beats    map[lease.NodeID]beat
	jobs     map[lease.JobName]jobPicture
}

type jobPicture struct {
	state     control.State
	suspicion control.Suspicion
	// waits is why a released job is not granted again yet.
	waits string
	// unfit says, for every node, why it cannot be granted the job; empty when it can.
	unfit map[lease.NodeID]string
	said  control.Report
	// detection is how long each node may be unheard as holder.
	detection map[lease.NodeID]control.Detection
}

// paint replaces the picture. Only the loop calls it.
func (n *Node) paint(now control.Instant) {
	p := picture{
		at: now, heard: maps.Clone(n.heard.last), beats: maps.Clone(n.heard.beats),
		jobs: map[lease.JobName]jobPicture{},
	}
	for _, s := range n.seats {
		unfit, detection := map[lease.NodeID]string{}, map[lease.NodeID]control.Detection{}
		for _, id := range n.cfg.nodeNames() {
			unfit[id], detection[id] = s.granter.Unfit(id), s.granter.Detection(id)
		}
		p.jobs[s.name] = jobPicture{
			state: s.machine.State(), suspicion: s.granter.Suspicion(), waits: s.granter.Waits(),
			unfit: unfit, said: s.machine.Report(), detection: detection,
		}
	}
	p.quorumAt = n.snapshot().quorumAt
	if n.hearsMajority(p) && n.wire.led.Load() {
		p.quorumAt = p.at
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.picture = p
}

func (n *Node) snapshot() picture {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.picture
}

func (n *Node) hearsMajority(p picture) bool {
	count := 0
	for _, at := range p.heard {
		if p.at.Since(at) <= n.electionTimeout() {
			count++
		}
	}
	return 2*count > len(n.cfg.Nodes)
}

func (n *Node) electionTimeout() time.Duration {
	d := detections[n.cfg.Detection]
	return d.tick * time.Duration(2*d.electionTicks)
}

// quorum reports whether this node was in touch with a majority and a leader within the last election timeout.
func (n *Node) quorum(p picture) bool {
	return p.quorumAt != 0 && n.machine.Boot().Since(p.quorumAt) <= n.electionTimeout()
}
