package control_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

const jobName lease.JobName = "scheduler"

// world is three hosts, a log that a majority can write and a metastore that obeys the fence. It is as small as the
// stories allow; everything in it happens at once and in order.
type world struct {
	now    control.Instant
	hosts  []*host
	log    lease.State
	leader lease.NodeID
	row    control.Row
	lives  int
	out    strings.Builder
	queue  []func()
}

type host struct {
	id      lease.NodeID
	token   lease.Token
	machine *control.Machine
	granter *control.Granter
	dead    bool
	frozen  bool
	cut     bool // from the other hosts
	blind   bool // from the metastore
	running lease.Epoch
	beatAt  control.Instant // of its next beat
	every   time.Duration   // between its beats
	seen    int             // version of the log it has applied
	heard   map[lease.NodeID]control.Instant
	waiting []control.Input // what reached it while frozen
}

const beatEvery = 50 * time.Millisecond

func newWorld() *world {
	w := &world{now: control.Instant(time.Second)}
	nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}
	w.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{jobName}}})
	for _, n := range nodes {
		w.hosts = append(w.hosts, &host{id: n.ID, dead: true})
	}
	for _, n := range nodes {
		w.restart(n.ID)
	}
	return w
}

func (w *world) host(id lease.NodeID) *host {
	for _, h := range w.hosts {
		if h.id == id {
			return h
		}
	}
	panic("no host " + id)
}

func (w *world) restart(id lease.NodeID) {
	h := w.host(id)
	w.lives++
	witness := id == "t"
	*h = host{id: id, token: lease.Token(fmt.Sprintf("%032x", w.lives)), heard: map[lease.NodeID]control.Instant{}, seen: -1, every: beatEvery}
	timing := control.DefaultTiming()
	h.machine = control.NewMachine(control.Config{
		Job: jobName, Self: id, Token: h.token, Witness: witness, Timing: timing,
	})
	h.granter = control.NewGranter(control.GranterConfig{Job: jobName, Self: id, Timing: timing})
	w.send(h, control.Members{Nodes: w.log.Nodes})
	w.send(h, control.Begin{})
	w.drain()
}

func (w *world) kill(id lease.NodeID) {
	h := w.host(id)
	h.dead, h.running = true, 0
	w.say("%s: killed", id)
	for _, other := range w.hosts {
		if w.linked(h, other) || (!h.cut && !other.cut) {
			w.send(other, control.Lost{Node: id, Refused: true})
		}
	}
	w.elect()
	w.drain()
}

// pass lets time go by in steps of 10 ms; beats are sent every 50.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		w.now = w.now.Add(10 * time.Millisecond)
		w.elect()
		if time.Duration(w.now)%beatEvery == 0 {
			w.beats()
		}
		for _, h := range w.hosts {
			if !h.dead && !h.frozen {
				w.wake(h)
				w.send(h, control.Tick{})
			}
		}
		w.drain()
	}
}

func (w *world) wake(h *host) {
	waiting := h.waiting
	h.waiting = nil
	for _, in := range waiting {
		w.send(h, in)
	}
}

func (w *world) alive(h *host) bool { return !h.dead && !h.frozen }

func (w *world) linked(a, b *host) bool {
	return a == b || (!a.dead && !b.dead && !a.cut && !b.cut)
}

// elect makes the witness leader when a majority can talk to it, else the first that has one.
func (w *world) elect() {
	leader := lease.NodeID("")
	for _, id := range []lease.NodeID{"t", "a", "b"} {
		if h := w.host(id); leader == "" && w.alive(h) && w.majority(h) {
			leader = id
		}
	}
	if leader == w.leader {
		w.catchUp()
		return
	}
	w.leader = leader
	if leader == "" {
		w.say("no quorum")
	} else {
		w.say("%s is raft leader", leader)
	}
	for _, h := range w.hosts {
		w.send(h, control.Leading{On: h.id == leader})
	}
	w.catchUp()
}

func (w *world) majority(h *host) bool {
	n := 0
	for _, other := range w.hosts {
		if w.linked(h, other) && w.alive(other) {
			n++
		}
	}
	return n >= 2
}

// catchUp gives the log to every host that the leader reaches.
func (w *world) catchUp() {
	if w.leader == "" {
		return
	}
	job, _ := w.log.Job(jobName)
	version := len(job.History)
	if job.Move != nil {
		version += 1000 // a wish is news too
	}
	version += 10_000 * int(job.Order)
	for _, h := range w.hosts {
		if w.linked(w.host(w.leader), h) && !h.dead && h.seen != version {
			h.seen = version
			w.send(h, control.Lease{Job: job})
		}
	}
}

func (w *world) beats() {
	for _, from := range w.hosts {
		if !w.alive(from) || w.now < from.beatAt {
			continue
		}
		from.beatAt = w.now.Add(from.every)
		w.send(from, control.Fence{Healthy: !from.blind, Row: w.seenRow(from), HighestRole: w.seenRow(from).Epoch})
		said := from.machine.Report()
		said.Warm = true
		for _, other := range w.hosts {
			if at, ok := from.heard[other.id]; ok && w.now.Since(at) < 300*time.Millisecond {
				said.Hears = append(said.Hears, other.id)
			}
		}
		for _, to := range w.hosts {
			if w.linked(from, to) && w.alive(to) {
				to.heard[from.id] = w.now
				w.send(to, control.Beat{From: from.id, Said: said})
			}
		}
	}
}

func (w *world) seenRow(h *host) control.Row {
	if h.id == "t" || h.blind {
		return control.Row{}
	}
	return w.row
}

// send queues an input; a frozen host gets it when it wakes.
func (w *world) send(h *host, in control.Input) {
	if h.frozen {
		h.waiting = append(h.waiting, in)
		return
	}
	w.queue = append(w.queue, func() {
		if h.dead {
			return
		}
		effects := h.machine.Step(w.now, in)
		effects = append(effects, h.granter.Step(w.now, in)...)
		for _, e := range effects {
			w.carryOut(h, e)
		}
	})
}

func (w *world) drain() {
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		next()
	}
}

func (w *world) carryOut(h *host, e control.Effect) {
	switch e.Kind {
	case control.Moved:
		detail := ""
		if e.Move.Detail != "" {
			detail = " (" + e.Move.Detail + ")"
		}
		w.say("%s: %s -> %s, epoch %d: %s%s", h.id, e.Move.From, e.Move.To, e.Epoch, e.Move.Say, detail)
	case control.Propose:
		w.propose(h.id, *e.Command)
		w.send(h, control.Proposed{})
	case control.Take:
		w.done(h, e, w.takeFence(h, e.Epoch))
	case control.Drain, control.Adopt:
		w.done(h, e, w.fenced(h, e.Epoch))
	case control.Start:
		h.running = e.Epoch
		w.done(h, e, control.OK)
	case control.Stop:
		h.running = 0
		w.done(h, e, control.OK)
	case control.Clear:
		w.done(h, e, control.OK)
	case control.Mirror, control.Surrender: // nobody in a story looks at them
	}
}

func (w *world) done(h *host, e control.Effect, o control.Outcome) {
	w.send(h, control.Done{Of: e.Kind, Epoch: e.Epoch, Outcome: o, Detail: string(o)})
}

func (w *world) takeFence(h *host, epoch lease.Epoch) control.Outcome {
	mine := control.Row{Epoch: epoch, Node: h.id, Token: h.token}
	if !h.blind && w.row.Epoch < epoch {
		w.row = mine
		w.say("metastore: the fence row is epoch %d of %s", epoch, h.id)
		for _, other := range w.hosts {
			if other.id != "t" && !other.blind && !other.dead {
				w.send(other, control.Fence{Healthy: true, Row: w.row, HighestRole: epoch})
			}
		}
	}
	return w.fenced(h, epoch)
}

func (w *world) fenced(h *host, epoch lease.Epoch) control.Outcome {
	switch {
	case h.blind:
		return control.Failed
	case w.row != (control.Row{Epoch: epoch, Node: h.id, Token: h.token}):
		return control.Superseded
	}
	return control.OK
}

func (w *world) propose(who lease.NodeID, c lease.Command) {
	if w.leader == "" || (who != "operator" && !w.linked(w.host(who), w.host(w.leader))) {
		return // lost, as a proposal may be
	}
	out := w.log.Apply(c)
	line := fmt.Sprintf("log: %s of %s", kind(c), who)
	if !out.Accepted {
		line += " refused: " + out.Why
	}
	w.say("%s", line)
	w.catchUp()
}

func kind(c lease.Command) string {
	switch {
	case c.Grant != nil:
		return fmt.Sprintf("grant %d to %s because %s (%s)", c.Grant.Next, c.Grant.Node, c.Grant.Cause, c.Grant.Detail)
	case c.Release != nil:
		return fmt.Sprintf("release %d because %s (%s)", c.Release.Epoch, c.Release.Cause, c.Release.Detail)
	case c.Observe != nil:
		return fmt.Sprintf("observe %d at %s", c.Observe.Epoch, c.Observe.Node)
	case c.Ask != nil && c.Ask.Cancel:
		return "cancel"
	case c.Ask != nil && c.Ask.In > 0:
		return fmt.Sprintf("plan to=%s in %s", c.Ask.Move.To, c.Ask.In)
	case c.Ask != nil:
		return fmt.Sprintf("ask to=%s now=%v", c.Ask.Move.To, c.Ask.Move.Now)
	case c.Hold != nil && c.Hold.Pause == nil:
		return fmt.Sprintf("resume because %s", c.Hold.Cause)
	case c.Hold != nil:
		return fmt.Sprintf("pause (%s) for %s", c.Hold.Pause.Level, c.Hold.Pause.For)
	}
	return "command"
}
