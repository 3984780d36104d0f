package sim

import (
	"fmt"
	"time"
)

// counts is what a world contained.
type counts struct {
	failovers, fences, zombies, restarts, kills, partitions, stalls, commits, moves int
}

func (c *counts) add(o counts) {
	c.failovers += o.failovers
	c.fences += o.fences
	c.zombies += o.zombies
	c.restarts += o.restarts
	c.kills += o.kills
	c.partitions += o.partitions
	c.stalls += o.stalls
	c.commits += o.commits
	c.moves += o.moves
}

// oracle watches the world from outside and knows what must not be.
type oracle struct {
	c     *cluster
	count counts
	// broken is the first thing that must not have been; empty as long as all is well.
	broken string
	// newest is the highest epoch that has committed anything.
	newest uint64
	// takes says whose each epoch is.
	takes map[uint64]string
	top   uint64
	// drains are epochs whose drain has ended, starts those that a process was made for.
	drains, starts map[uint64]bool
	// lastCommit is when an epoch committed last.
	lastCommit map[uint64]instant
	owner      string
}

func newOracle(c *cluster) *oracle {
	return &oracle{c: c, takes: map[uint64]string{}, drains: map[uint64]bool{}, starts: map[uint64]bool{}, lastCommit: map[uint64]instant{}}
}

func (o *oracle) fail(format string, args ...any) {
	if o.broken == "" {
		o.broken = fmt.Sprintf("at %s: %s", o.c.w.now, fmt.Sprintf(format, args...))
		o.c.w.trace.say(o.c.w.now, "ORACLE", "%s", o.broken)
	}
}

// turn runs product code and takes a panic for what it is: an invariant that it checks by itself.
func (o *oracle) turn(d *daemon, do func()) { do() }

func (o *oracle) booted(*daemon) {}

// committed is the promise: in commit order an older epoch never follows a newer one.
func (o *oracle) committed(epoch uint64) {
	o.count.commits++
	if epoch < o.newest {
		o.fail("epoch %d commits after epoch %d", epoch, o.newest)
	}
	o.newest = max(o.newest, epoch)
	o.lastCommit[epoch] = o.c.w.now
}

// taken is I1.
func (o *oracle) taken(epoch uint64, node, token string) {
	o.count.fences++
	o.c.say("fence row is epoch %d of %s", epoch, node)
	if epoch <= o.top {
		o.fail("I1: fence row goes from %d to %d", o.top, epoch)
	}
	if node == "t" {
		o.fail("I7: a witness holds epoch %d", epoch)
	}
	if o.top > 0 && o.owner != node {
		o.count.failovers++
	}
	o.top, o.owner = epoch, node
	o.takes[epoch] = node + token
}

func (o *oracle) drained(epoch uint64) { o.drains[epoch] = true }

// started is I3, I4, I5, I6 and I9.
func (o *oracle) started(d *daemon, p *process) {
	switch {
	case !o.drains[p.epoch]:
		o.fail("I3: epoch %d starts before its drain has ended", p.epoch)
	case o.starts[p.epoch]:
		o.fail("I4: epoch %d starts twice", p.epoch)
	case o.takes[p.epoch] != d.h.name+string(d.token):
		o.fail("I5: epoch %d starts on %s, it is of another life", p.epoch, d.h.name)
	}
	o.starts[p.epoch] = true
	for _, q := range d.h.procs {
		if q != p {
			o.fail("I6: epoch %d starts while %s lives", p.epoch, q.name)
		}
	}
}

func (o *oracle) revived(p *process) {
	if p.epoch < o.top {
		o.count.zombies++
	}
}

func (o *oracle) applied(*daemon) {}

// holder is the host that has the fence; nil when nobody has.
func (o *oracle) holder() *host {
	for _, h := range o.c.hosts {
		if h.name == o.owner {
			return h
		}
	}
	return nil
}

// serving says whether the newest epoch has committed within some time.
func (o *oracle) serving(within time.Duration) bool {
	at, ok := o.lastCommit[o.top]
	return ok && o.c.w.now-at <= within
}
