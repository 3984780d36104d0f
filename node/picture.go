package node

import (
	"fmt"
	"maps"
	"slices"
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
	// ordered is how long ago, at the picture's instant, the job's last pause or plan was learnt of.
	ordered time.Duration
	order   uint64 // which one that was
	said    control.Report
	standing
}

// standing is what each node is worth to a job.
type standing struct {
	// unfit says, for every node, why it cannot be granted the job; empty when it can.
	unfit map[lease.NodeID]string
	// detection is how long each node may be unheard as holder.
	detection map[lease.NodeID]control.Detection
}

// brush is how much of a picture is painted anew.
type brush int

const (
	// states: of every job what this node does about it. What every node said and is worth stays as it was: that is four fifths of the
	// work, and in a hurry ticks come five times as often as beats.
	states brush = iota
	// jobs: all of those to which something happened, and who was heard. With a hundred jobs each is looked at four times a second by
	// its metastore alone; to paint the others too each time would be most of what the daemon does.
	jobs
	// everything, as at each beat.
	everything
)

// paint replaces the picture. Only the loop calls it.
func (n *Node) paint(now control.Instant, with brush) {
	was := n.snapshot()
	if with == jobs && was.jobs == nil {
		with = everything
	}
	p := picture{at: now, quorumAt: was.quorumAt, heard: was.heard, beats: was.beats}
	if with == jobs {
		p.jobs = maps.Clone(was.jobs)
	} else {
		p.jobs = make(map[lease.JobName]jobPicture, len(n.seats))
	}
	if with != states {
		p.heard, p.beats = maps.Clone(n.heard.last), maps.Clone(n.heard.beats)
	}
	for _, s := range n.seats {
		if with == jobs && !s.fresh {
			continue
		}
		p.jobs[s.name] = n.paintJob(s, was.jobs[s.name], with)
		s.fresh = s.fresh && with == states
	}
	if n.hearsMajority(now) && n.wire.led.Load() {
		p.quorumAt = now
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.picture = p
}

func (n *Node) paintJob(s *seat, was jobPicture, with brush) jobPicture {
	worth := was.standing
	if with != states {
		worth = n.standing(s)
	}
	suspicion := s.granter.Suspicion()
	n.metrics.suspects(s.name, was.suspicion.Cause, suspicion.Cause)
	order, ordered := s.granter.Ordered()
	return jobPicture{
		state: s.machine.State(), suspicion: suspicion, waits: s.granter.Waits(),
		order: order, ordered: ordered, said: s.machine.Report(), standing: worth,
	}
}

func (n *Node) standing(s *seat) standing {
	of := standing{unfit: map[lease.NodeID]string{}, detection: map[lease.NodeID]control.Detection{}}
	for _, id := range n.members().ids() {
		of.unfit[id], of.detection[id] = s.granter.Unfit(id), s.granter.Detection(id)
	}
	return of
}

func (n *Node) snapshot() picture {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.picture
}

func (n *Node) hearsMajority(now control.Instant) bool {
	voters, count := n.members().voters(), 0
	for _, v := range voters {
		if at, heard := n.heard.last[v.ID]; heard && now.Since(at) <= n.electionTimeout() {
			count++
		}
	}
	return 2*count > len(voters)
}

func (n *Node) electionTimeout() time.Duration {
	d := detections[n.cfg.Detection]
	return d.tick * time.Duration(2*d.electionTicks)
}

// ahead says of which later epoch others speak, whom this node hears; empty when of none. With a new disk, or after a restart, a node hears
// everybody before it has read what they have agreed on.
func (n *Node) ahead(p picture) string {
	for _, s := range n.seats {
		known := n.wire.ledger.agreed(s.name).Epoch
		for _, id := range slices.Sorted(maps.Keys(p.beats)) {
			if said := p.beats[id].Jobs[s.name].Epoch; said > known && n.machine.Boot().Since(p.heard[id]) <= n.electionTimeout() {
				return fmt.Sprintf("%s is in epoch %d of job %s, this node knows of %d", id, said, s.name, known)
			}
		}
	}
	return ""
}

// quorum reports whether this node was in touch with a majority and a leader within the last election timeout.
func (n *Node) quorum(p picture) bool {
	return p.quorumAt != 0 && n.machine.Boot().Since(p.quorumAt) <= n.electionTimeout()
}
