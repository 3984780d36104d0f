package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Result is what became of one seed.
type Result struct {
	Seed uint64
	// Broken says what must not have happened; empty when all went well.
	Broken string
	// Sum is over all that happened: two runs of a seed have the same.
	Sum   uint64
	Lines []string
	// Virtual is how much time passed in the world.
	Virtual time.Duration
	// Troubles is how many were made.
	Troubles int
	counts
}

// settleWithin is how long after everything is mended the job may take to be served again.
const settleWithin = time.Minute

// Options say how a world is looked at. The zero value: as it is drawn, and quietly.
type Options struct {
	// Loud keeps the story.
	Loud bool
	// Mute leaves out troubles, by their number from 1, to find those that matter.
	Mute []int
	// Keep leaves out all others; nil keeps all.
	Keep []int
	// Mix is one of mixes; empty: the world is as its seed has drawn it.
	Mix string
	// reads are made all the time; they change what is drawn.
	reads bool
	// wrong is done wrong.
	wrong faulty
}

// Run lets the world of a seed happen.
func Run(seed uint64, o Options) (r Result) {
	t := newTrace(o.Loud)
	w := newWorld(seed, t)
	p := drawPlan(w.rand)
	if mix := mixes[o.Mix]; mix != nil {
		mix(&p)
	}
	members := regroup{}
	if o.Mix == "members" {
		members = drawRegroup(seed, p.chaos)
	}
	c := newCluster(w, p, o, members)
	defer func() {
		r.Seed, r.Sum, r.Lines, r.Virtual, r.counts, r.Troubles = seed, t.sum, t.lines, w.now, c.oracle.count, c.troubles
		if p := recover(); p != nil {
			r.Broken = fmt.Sprintf("at %s: panic: %v", w.now, p)
			r.Lines = append(t.lines, r.Broken, string(debug.Stack()))
		}
		c.end()
	}()
	c.say("plan %+v", c.plan)
	if orderly(seed, o.Mix) {
		c.dice = rand.New(rand.NewPCG(seed, 1))
	}
	if o.reads {
		c.read(0)
	}
	c.run()
	r.Broken = c.oracle.broken
	return r
}

func (c *cluster) run() {
	for _, h := range c.hosts {
		h.boot()
	}
	c.w.until(3 * time.Second)
	c.calmAt = c.w.now + c.plan.chaos
	c.trouble()
	if c.dice != nil {
		c.orders(c.dice)
	}
	c.watchMembers()
	c.pass(c.calmAt)
	c.mend()
	mended := c.w.now
	c.passUntil(mended+settleWithin, func() bool { return c.oracle.lastCommit[c.oracle.row.Epoch] > mended })
	c.oracle.count.settled = c.w.now - mended
	// And it stays so.
	c.pass(c.w.now + 3*time.Second)
	c.passUntil(c.w.now+settleWithin, func() bool { return c.oracle.serving(time.Second) })
}

// passUntil lets time go by until something is so. It must be so before the deadline.
func (c *cluster) passUntil(deadline instant, so func() bool) {
	for !so() && c.oracle.broken == "" {
		if c.w.now >= deadline {
			c.oracle.fail("liveness: %s after everything is well nobody serves", settleWithin)
			c.tell()
		}
		c.pass(c.w.now + 20*time.Millisecond)
	}
}

// pass lets time go by unless something is broken.
func (c *cluster) pass(end instant) {
	for c.w.now < end && c.oracle.broken == "" {
		c.w.until(min(end, c.w.now+100*time.Millisecond))
	}
}

// end unwinds everything.
func (c *cluster) end() {
	for _, h := range c.hosts {
		if h.daemon != nil && !h.daemon.dead {
			c.w.kill(h.daemon.actor)
			h.daemon.cancel()
		}
		for _, p := range h.procs {
			c.w.kill(p.actor)
		}
	}
	for _, p := range c.thieves {
		c.w.kill(p.actor)
	}
}

// tell adds to the story what every daemon knows, as an operator would see it.
func (c *cluster) tell() {
	if !c.w.trace.loud {
		return
	}
	for _, h := range c.hosts {
		d := h.daemon
		answer, err := d.node.Operators().Status(d.parts, nil)
		c.w.trace.note(c.w.now, d.name, "dead %v, frozen %v; %v %v; store %+v; processes %d", d.dead, d.frozen, answer, err, d.store.state, len(h.procs))
	}
	c.w.trace.note(c.w.now, pgName, "%s", c.pg)
}
