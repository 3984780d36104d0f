package node

import (
	"context"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// Loop owns the machines of a node. Node.Run turns it; a simulator that is the node's Machine turns it by itself. One
// goroutine uses it.
type Loop struct {
	n     *Node
	parts context.Context
	// deadline is when a node that is leaving waits no longer for its jobs; 0 = it is not leaving.
	deadline control.Instant
}

// Loop returns the node's loop, for who does not call Run. What it has carried out ends with parts.
func (n *Node) Loop(parts context.Context) *Loop { return &Loop{n: n, parts: parts} }

// run turns the loop until parts ends, or in order after quit. An error is one of the clock's.
func (l *Loop) run(quit <-chan struct{}, p *pulse) error {
	l.Begin()
	if err := p.after(0); err != nil {
		return err
	}
	for {
		select {
		case <-l.parts.Done():
			return nil
		case <-quit:
			quit = nil
			l.Quit()
		case <-l.Mail():
			l.Deliver()
		case <-p.rings:
			if err := p.after(l.Tick()); err != nil {
				return err
			}
		}
		if l.Left() {
			return nil
		}
	}
}

// Begin is the first thing to be called.
func (l *Loop) Begin() { l.n.step(l.parts, l.n.machine.Boot(), letter{input: control.Begin{}}) }

// Mail rings when there is something to Deliver.
func (l *Loop) Mail() <-chan struct{} { return l.n.wire.mail.rings }

// Deliver takes in what has come.
func (l *Loop) Deliver() {
	now := l.n.machine.Boot()
	l.n.deliver(l.parts, now)
	l.n.setHurry(now)
	if l.deadline == 0 && l.n.wire.removed.Load() != nil {
		l.Quit() // the job first, then this node
	}
}

// Tick lets time pass, and returns after how much more of it to be called again. The first call is due at once.
func (l *Loop) Tick() time.Duration {
	now := l.n.machine.Boot()
	l.n.tick(l.parts, now)
	l.n.setHurry(now)
	l.n.alive(now)
	return l.n.untilTick(now)
}

// Quit has the jobs end in order.
func (l *Loop) Quit() {
	now := l.n.machine.Boot()
	l.deadline = now.Add(leaveWithin)
	l.n.logger.Info("leaving: jobs are asked to end")
	l.n.step(l.parts, now, letter{input: control.Quit{}})
	l.n.sendBeat(l.n.machine.Boot())
}

// Left reports whether a node that was told to quit is done, or has waited long enough. It is asked after every turn.
func (l *Loop) Left() bool {
	if l.deadline == 0 || (!l.n.left() && l.n.machine.Boot() <= l.deadline) {
		return false
	}
	l.n.sendBeat(l.n.machine.Boot())
	return true
}

// deliver takes in what has come. Beats alone are no news for the surfaces: those see them at the next tick.
func (n *Node) deliver(parts context.Context, now control.Instant) {
	news := false
	for _, l := range n.wire.mail.empty() {
		n.step(parts, now, l)
		news = news || l.beat == nil
	}
	if news {
		n.paint(now, jobs)
	}
}

// tick lets time pass, after everything that has come: what waited while we stalled must not count as unheard.
func (n *Node) tick(parts context.Context, now control.Instant) {
	n.deliver(parts, now)
	n.log.Tick(n.ticksDue(now))
	n.step(parts, now, letter{input: control.Tick{}})
	beat := now >= n.beatAt
	if beat {
		n.beatAt = now.Add(nextBeat(n.machine.Wall(), beatEvery))
		n.sendBeat(now)
	}
	if beat {
		n.paint(now, everything)
	} else {
		n.paint(now, states)
	}
}

// step gives one input to the machines it concerns, and has their effects carried out.
func (n *Node) step(parts context.Context, now control.Instant, l letter) {
	if l.regrouped {
		n.heard.forget(n.members())
		n.configureAt = now
	}
	if l.beat != nil {
		if n.members().get(l.beat.Node).ID == "" {
			return // it was removed after it spoke
		}
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
	if l.input == nil {
		return
	}
	for _, s := range n.concerned(l) {
		s.fresh = true
		n.stepSeat(parts, s, now, l.input)
	}
}

// concerned are the seats that a letter is for.
func (n *Node) concerned(l letter) []*seat {
	if in, ok := l.input.(control.Lease); ok {
		return n.seatsOf[in.Job.Name]
	}
	if l.job == "" {
		return n.seats
	}
	for _, s := range n.seatsOf[l.job] {
		if s.name == l.job {
			return []*seat{s}
		}
	}
	return nil
}

func (n *Node) stepBeat(parts context.Context, now control.Instant, b beat) {
	for _, s := range n.seats {
		if said, ok := b.Jobs[s.name]; ok {
			n.stepSeat(parts, s, now, control.Beat{From: b.Node, Said: said})
		}
	}
}

func (n *Node) stepSeat(parts context.Context, s *seat, now control.Instant, in control.Input) {
	if report, ok := s.reckon(now, in); ok {
		report.By = n.self
		n.propose(parts, lease.Command{Report: &report}, nil)
	}
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
		unheard := n.log.Status().Leader == 0 || n.wire.removed.Load() != nil
		if s.machine.State() != control.Left || (job.HeldBy(n.self, n.token) && !unheard) {
			return false
		}
	}
	return true
}

// configureEvery is how often the leader looks whether the cluster has agreed on the voters and on the configuration's jobs.
const configureEvery = time.Second

// configure has the cluster agree on the voters and on the jobs of our configuration file, when it has not yet. Who votes is for the
// replicated log to say; only before that has members of its own they are those of the file.
func (n *Node) configure(parts context.Context) {
	n.configureAt = n.machine.Boot().Add(configureEvery)
	n.takeBack(parts)
	nodes, jobs := n.members().voters(), n.cfg.jobNames()
	if !n.wire.ledger.lacks(nodes, jobs) {
		return
	}
	n.propose(parts, lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: jobs}}, nil)
}
