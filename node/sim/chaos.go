package sim

import (
	"slices"
	"time"
)

// fault is one kind of trouble, and how it ends.
type fault struct {
	name string
	make func(*cluster) func()
}

// kinds are all kinds of trouble there are. Each returns what mends it; nil when it mends itself.
func kinds() []fault {
	return []fault{
		{"kill a daemon", killDaemon},
		{"take the power from a host", darken},
		{"freeze a daemon", freezeDaemon},
		{"freeze a host", freezeHost},
		{"cut a host off", cutHost},
		{"cut one way", cutWay},
		{"cut a host off from the metastore", blind},
		{"end a daemon in order", stopDaemon},
		{"move the job", moveJob},
		{"freeze a process of the job", freezeProcess},
		{"restart the metastore", restartServer},
		{"fail the metastore over", failOver},
		{"restore the metastore", restore},
		{"freeze a backend", freezeBackend},
		{"slow disk", slowDisk},
		{"full disk", fullDisk},
		{"power lost in a write", tearDisk},
		{"another disk", swapDisk},
		{"step a clock", stepClock},
		{"slow network", slowNetwork},
	}
}

// trouble makes trouble, again and again until an instant.
func (c *cluster) trouble() {
	c.w.in(c.w.span(c.plan.faultLeast, c.plan.faultMost), nil, func() {
		c.hurt()
		if c.w.now < c.calmAt {
			c.trouble()
		}
	})
}

// troubleSoon makes trouble at a moment that matters: just after a fence was taken.
func (c *cluster) troubleSoon() {
	if c.w.often(c.plan.eager) {
		c.w.in(c.w.span(0, 60*time.Millisecond), nil, c.hurt)
	}
}

// hurt makes one trouble, unless the time for that is over.
func (c *cluster) hurt() {
	w := c.w
	if w.now >= c.calmAt {
		return
	}
	f := faultNamed(pick(w.rand, c.plan.faults...))
	c.troubles++
	if slices.Contains(c.mute, c.troubles) || (c.keep != nil && !slices.Contains(c.keep, c.troubles)) {
		return
	}
	c.say("trouble %d: %s", c.troubles, f.name)
	if mend := f.make(c); mend != nil {
		w.in(w.span(20*time.Millisecond, 2*c.plan.faultMost), nil, mend)
	}
}

func faultNamed(name string) fault {
	all := kinds()
	return all[slices.IndexFunc(all, func(f fault) bool { return f.name == name })]
}

func (c *cluster) say(format string, args ...any) { c.w.trace.say(c.w.now, "world", format, args...) }

// any draws a host, oftener the one that has the job.
func (c *cluster) any() *host {
	if holder := c.oracle.holder(); holder != nil && c.w.often(0.5) {
		return holder
	}
	return c.hosts[c.w.rand.IntN(len(c.hosts))]
}

func killDaemon(c *cluster) func() {
	h := c.any()
	if h.daemon.dead {
		return nil
	}
	c.say("kill daemon %s", h.daemon.name)
	c.oracle.count.kills++
	h.daemon.die(false)
	return h.up
}

// up starts a daemon if there is none and the host can.
func (h *host) up() {
	if !h.dark && !h.frozen && h.daemon.dead && !h.out {
		h.c.oracle.count.restarts++
		h.boot()
	}
}

func darken(c *cluster) func() { return c.darken(c.any()) }

func (c *cluster) darken(h *host) func() {
	if h.dark || h.frozen {
		return nil
	}
	c.say("power of %s is gone", h.name)
	h.dark = true
	h.daemon.die(true)
	for _, p := range append([]*process(nil), h.procs...) {
		p.over("no power")
	}
	return func() {
		if h.dark {
			h.dark, h.bootAt = false, c.w.now
			h.up()
		}
	}
}

func freezeDaemon(c *cluster) func() {
	h := c.any()
	d := h.daemon
	if d.dead || d.frozen || h.frozen {
		return nil
	}
	c.say("freeze daemon %s", d.name)
	c.oracle.count.stalls++
	c.w.freeze(d.actor)
	return func() {
		c.say("thaw daemon %s", d.name)
		c.w.thaw(d.actor)
	}
}

func freezeHost(c *cluster) func() {
	h := c.any()
	if h.frozen || h.dark {
		return nil
	}
	c.say("freeze host %s", h.name)
	c.oracle.count.stalls++
	h.frozen = true
	actors := []*actor{h.daemon.actor}
	for _, p := range h.procs {
		actors = append(actors, p.actor)
	}
	for _, a := range actors {
		c.w.freeze(a)
	}
	return func() {
		c.say("thaw host %s", h.name)
		h.frozen = false
		for _, p := range h.procs {
			c.oracle.revived(p)
		}
		for _, a := range actors {
			c.w.thaw(a)
		}
	}
}

func (c *cluster) cuts(ways ...way) func() {
	for _, x := range ways {
		c.net.cut[x] = true
	}
	c.oracle.count.partitions++
	c.say("cut %v", ways)
	return func() {
		c.say("mend %v", ways)
		for _, x := range ways {
			delete(c.net.cut, x)
		}
	}
}

func cutHost(c *cluster) func() { return c.cutOff(c.any()) }

func (c *cluster) cutOff(h *host) func() {
	var ways []way
	for _, other := range c.hosts {
		if other != h {
			ways = append(ways, way{h.name, other.name}, way{other.name, h.name})
		}
	}
	if c.w.often(0.3) {
		ways = append(ways, way{h.name, "pg"}, way{"pg", h.name})
	}
	return c.cuts(ways...)
}

func cutWay(c *cluster) func() {
	h := c.any()
	other := c.hosts[c.w.rand.IntN(3)]
	if other == h {
		return nil
	}
	return c.cuts(way{h.name, other.name})
}

func blind(c *cluster) func() {
	h := c.any()
	return c.cuts(way{h.name, "pg"}, way{"pg", h.name})
}

func stopDaemon(c *cluster) func() {
	h := c.any()
	if h.daemon.dead || h.daemon.frozen {
		return nil
	}
	c.say("stop daemon %s", h.daemon.name)
	h.daemon.stop()
	return h.up
}

func moveJob(c *cluster) func() {
	c.any().daemon.move()
	return nil
}

func freezeProcess(c *cluster) func() {
	h := c.any()
	if len(h.procs) == 0 || h.frozen {
		return nil
	}
	p := h.procs[c.w.rand.IntN(len(h.procs))]
	c.say("freeze %s", p.name)
	c.oracle.count.stalls++
	c.w.freeze(p.actor)
	return func() {
		if p.frozen && !p.dead && !p.h.frozen {
			c.say("thaw %s", p.name)
			c.oracle.revived(p)
			c.w.thaw(p.actor)
		}
	}
}

func slowDisk(c *cluster) func() {
	h := c.any()
	c.say("disk of %s is slow", h.name)
	h.slow = c.w.span(50*time.Millisecond, 4*time.Second)
	return func() { h.slow = c.plan.fsyncMost }
}

func fullDisk(c *cluster) func() {
	h := c.any()
	c.say("disk of %s is full", h.name)
	h.full = true
	return func() { h.full = false }
}

// alone says whether a host is the only one whose disk may have forgotten something. When two of three have, nobody may
// vote and an operator has to decide.
func (h *host) alone() bool {
	for _, other := range h.c.hosts {
		if other != h && !other.out && (other.disk.torn || other.daemon.dead || other.daemon.store.rep == nil || other.daemon.store.state.Doubt != "") {
			return false
		}
	}
	return true
}

// tearDisk takes the power from a host while its disk writes the page that says which pages count.
func tearDisk(c *cluster) func() { return c.tear(c.any()) }

func (c *cluster) tear(h *host) func() {
	if !h.alone() {
		return nil
	}
	mend := c.darken(h)
	if mend != nil {
		h.disk.torn = true
	}
	return mend
}

// swapDisk gives a host an empty disk.
func swapDisk(c *cluster) func() {
	h := c.any()
	if !h.alone() {
		return nil
	}
	mend := c.darken(h)
	if mend != nil {
		h.disk.wipe()
		c.oracle.log.forgotten = true
	}
	return mend
}

func stepClock(c *cluster) func() {
	h := c.any()
	h.wallOff += c.w.span(-time.Hour, time.Hour)
	return nil
}

func slowNetwork(c *cluster) func() {
	n := c.net
	c.say("the network is slow")
	n.slow, n.slowly = c.w.span(50*time.Millisecond, 600*time.Millisecond), 0.5
	return func() { n.slow, n.slowly = c.plan.slow, c.plan.slowly }
}

// mend makes everything well, so that progress can be asked for.
func (c *cluster) mend() {
	c.say("everything is mended")
	clear(c.net.cut)
	c.plan.exits, c.plan.startFails, c.plan.startBreaks, c.plan.stopBreaks = 0, 0, 0, 0
	c.net.slow, c.net.slowly = c.plan.slow, c.plan.slowly
	c.pg.mend()
	for _, h := range c.hosts {
		h.frozen, h.full, h.slow = false, false, min(c.plan.fsyncMost, 5*time.Millisecond)
		for _, p := range h.procs {
			if p.frozen {
				c.oracle.revived(p)
				c.w.thaw(p.actor)
			}
		}
		c.w.thaw(h.daemon.actor)
		if h.dark {
			h.dark, h.bootAt = false, c.w.now
		}
		h.up()
	}
}
