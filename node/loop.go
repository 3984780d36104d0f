package node

import (
	"context"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// loop owns the machines. It ends when parts ends, or in order after quit. An error is one of the clock's.
func (n *Node) loop(parts context.Context, quit <-chan struct{}, p *pulse) error {
	n.step(parts, bootNow(), letter{input: control.Begin{}})
	if err := p.after(0); err != nil {
		return err
	}
	deadline := control.Instant(0)
	for {
		select {
		case <-parts.Done():
			return nil
		case <-quit:
			quit = nil
			deadline = bootNow().Add(leaveWithin)
			n.logger.Info("leaving: jobs are asked to end")
			n.step(parts, bootNow(), letter{input: control.Quit{}})
			n.sendBeat(bootNow())
		case <-n.wire.mail.rings:
			now := bootNow()
			n.deliver(parts, now)
			n.setHurry(now)
		case <-p.rings:
			now := bootNow()
			n.tick(parts, now)
			n.setHurry(now)
			if err := p.after(n.untilTick(now)); err != nil {
				return err
			}
		}
		if deadline != 0 && (n.left() || bootNow() > deadline) {
			n.sendBeat(bootNow())
			return nil
		}
	}
}

// deliver takes in what has come. Beats alone are no news for the surfaces: those see them at the next tick.
func (n *Node) deliver(parts context.Context, now control.Instant) {
	news := false
	for _, l := range n.wire.mail.empty() {
		n.step(parts, now, l)
		news = news || l.beat == nil
	}
	if news {
		n.paint(now)
	}
}

// tick lets time pass, after everything that has come: what waited while we stalled must not count as unheard.
func (n *Node) tick(parts context.Context, now control.Instant) {
	n.deliver(parts, now)
	n.log.Tick(n.ticksDue(now))
	n.step(parts, now, letter{input: control.Tick{}})
	if now >= n.beatAt {
		n.beatAt = now.Add(nextBeat(time.Now(), beatEvery))
		n.sendBeat(now)
	}
	n.paint(now)
}

// step gives one input to the machines it concerns, and has their effects carried out.
func (n *Node) step(parts context.Context, now control.Instant, l letter) {
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

// diskEvery is how often a beat's word about the disk is made anew: it is for people, and sorts 256 numbers.
const diskEvery = time.Second

// sendBeat tells everybody, ourselves included, how we are.
func (n *Node) sendBeat(now control.Instant) {
	if now >= n.diskAt {
		n.diskAt, n.disk = now.Add(diskEvery), n.log.Status()
	}
	b := beat{
		Node: n.self, Version: n.version, Fsync: n.disk.FsyncP99, Doubt: n.disk.Doubt, Disk: n.log.Unwritable(),
		Jobs: map[lease.JobName]control.Report{},
	}
	hears := n.heard.since(now, detections[n.cfg.Detection].silence)
	for _, s := range n.seats {
		said := s.machine.Report()
		said.Hears, said.Unwritable = hears, b.Disk != ""
		if s.hosted != nil {
			status := s.hosted.Status()
			said.Warm = status.Warm
			b.addLine(s.name, s.saying.at(status.Line, status.Slots, now))
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
