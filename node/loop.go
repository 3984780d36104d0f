package node

import (
	"context"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// tickEvery is the pace at which the machines see time pass. A finer one would cost an idle daemon more than the
// milliseconds it could save.
const tickEvery = 25 * time.Millisecond

// loop owns the machines. It ends when parts ends, or in order after quit.
func (n *Node) loop(parts context.Context, quit <-chan struct{}) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	n.step(parts, letter{input: control.Begin{}})
	deadline := control.Instant(0)
	for {
		select {
		case <-parts.Done():
			return
		case <-quit:
			quit = nil
			deadline = bootNow().Add(leaveWithin)
			n.logger.Info("leaving: jobs are asked to end")
			n.step(parts, letter{input: control.Quit{}})
			n.sendBeat(bootNow())
		case <-n.wire.mail.rings:
			n.deliver(parts)
		case <-ticker.C:
			n.tick(parts)
		}
		if deadline != 0 && (n.left() || bootNow() > deadline) {
			n.sendBeat(bootNow())
			return
		}
	}
}

func (n *Node) deliver(parts context.Context) {
	letters := n.wire.mail.empty()
	if len(letters) == 0 {
		return
	}
	for _, l := range letters {
		n.step(parts, l)
	}
	n.paint()
}

// tick lets time pass, after everything that has come: what waited while we stalled must not count as unheard.
func (n *Node) tick(parts context.Context) {
	n.deliver(parts)
	n.step(parts, letter{input: control.Tick{}})
	if now := bootNow(); now >= n.beatAt {
		n.beatAt = now.Add(beatEvery - tickEvery/2)
		n.sendBeat(now)
	}
}

// step gives one input to the machines it concerns, and has their effects carried out.
func (n *Node) step(parts context.Context, l letter) {
	now := bootNow()
	if l.beat != nil {
		n.heard.note(*l.beat, now)
		n.stepBeat(parts, now, *l.beat)
		return
	}
	if in, ok := l.input.(control.Leading); ok {
		n.leading, n.configureAt = in.On, now
	}
	if n.leading && now >= n.configureAt {
		n.configure(parts)
	}
	for _, s := range n.seats {
		if l.job == "" || l.job == s.name {
			n.stepSeat(parts, s, now, l.input)
		}
	}
}

func (n *Node) stepBeat(parts context.Context, now control.Instant, b beat) {
	for _, s := range n.seats {
		if said, ok := b.Jobs[s.name]; ok {
			n.stepSeat(parts, s, now, control.Beat{From: b.Node, Said: said})
		}
	}
}

func (n *Node) stepSeat(parts context.Context, s *seat, now control.Instant, in control.Input) {
	for _, e := range s.machine.Step(now, in) {
		n.carryOut(parts, s, e)
	}
	for _, e := range s.granter.Step(now, in) {
		n.carryOut(parts, s, e)
	}
}

// sendBeat tells everybody, ourselves included, how we are.
func (n *Node) sendBeat(now control.Instant) {
	disk := n.log.Status()
	b := beat{
		Node: n.self, Version: n.version, Fsync: disk.FsyncP99, Doubt: disk.Doubt,
		Jobs: map[lease.JobName]control.Report{},
	}
	hears := n.heard.since(now, detections[n.cfg.Detection].silence)
	for _, s := range n.seats {
		said := s.machine.Report()
		said.Hears = hears
		if s.hosted != nil {
			said.Warm = s.hosted.Status().Warm
		}
		b.Jobs[s.name] = said
	}
	n.log.Broadcast(b.encode())
	n.wire.mail.postBeat(b)
}

// left reports whether every job has been left and the log knows it, as far as there is a log to know it.
func (n *Node) left() bool {
	for _, s := range n.seats {
		if n.cfg.Witness {
			continue
		}
		job := n.wire.ledger.job(s.name)
		if s.machine.State() != control.Left || (job.HeldBy(n.self, n.token) && n.log.Status().Leader != 0) {
			return false
		}
	}
	return true
}

// configureEvery is how often the leader looks whether the cluster knows what the configuration says.
const configureEvery = time.Second

// configure has the cluster agree on the members and jobs of our configuration file, when it has not yet.
func (n *Node) configure(parts context.Context) {
	n.configureAt = bootNow().Add(configureEvery)
	nodes, jobs := n.cfg.members(), n.cfg.jobNames()
	if !n.wire.ledger.lacks(nodes, jobs) {
		return
	}
	n.propose(parts, lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: jobs}}, nil)
}
