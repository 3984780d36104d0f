package sim

import (
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// What happens to the metastore.

// restartServer crashes the server or shuts it down, and starts it again.
func restartServer(c *cluster) func() {
	pg := c.pg
	if !pg.timed.Server().Up() {
		return nil
	}
	c.oracle.count.servers++
	if c.w.often(0.5) {
		c.say("the metastore crashes")
		lose := c.w.often(0.5)
		pg.crash(lose)
		c.oracle.reread()
	} else {
		c.say("the metastore is shut down")
		pg.do((*metastore.Server).Stop)
	}
	return func() { pg.start() }
}

// start brings the server up again, if it is down.
func (pg *postgres) start() {
	s := pg.timed.Server()
	if s.Up() {
		return
	}
	if len(s.Activity()) > 0 { // it does not get done with a fast shutdown
		pg.crash(false)
	}
	pg.c.say("the metastore is back")
	pg.do((*metastore.Server).Start)
}

// failOver makes a standby the server. A synchronous one has every commit that was acknowledged; another may lack the last ones.
func failOver(c *cluster) func() {
	pg := c.pg
	old := pg.timed.Server()
	if !old.Up() {
		return nil
	}
	c.say("the primary of the metastore is gone")
	c.oracle.count.servers++
	pg.crash(false)
	upTo := c.oracle.replicated
	if !c.plan.synchronous {
		upTo = old.LastLSN() - min(old.LastLSN(), metastore.LSN(c.w.rand.IntN(4)))
	}
	w := c.w
	w.in(w.span(50*time.Millisecond, 3*time.Second), nil, func() {
		if pg.timed.Server() != old {
			return
		}
		pg.serve(old.Promote(max(upTo, pg.filled)))
		c.say("a standby is the primary, with the log up to %d of %d", pg.timed.Server().LastLSN(), old.LastLSN())
		pg.sessions = map[metastore.PID]*session{}
		c.oracle.promoted()
		pg.do(func(*metastore.Server) {})
	})
	return nil
}

// restore puts the tables back to an older state, as an administrator does with a dump.
func restore(c *cluster) func() {
	pg := c.pg
	s := pg.timed.Server()
	if !s.Up() {
		return nil
	}
	pg.crash(false)
	back := metastore.LSN(c.w.rand.IntN(30))
	at := max(s.LastLSN()-min(s.LastLSN(), back), pg.filled)
	c.say("the metastore is restored to %d of %d", at, s.LastLSN())
	c.oracle.count.restores++
	pg.do(func(s *metastore.Server) {
		s.RestoreRows(at)
		c.oracle.putBack()
	})
	return pg.start
}

// freezeBackend stops one process of the server, as its kernel may in a page fault or on a slow disk.
func freezeBackend(c *cluster) func() {
	pg := c.pg
	all := pg.timed.Server().Activity()
	if len(all) == 0 {
		return nil
	}
	pid := all[c.w.rand.IntN(len(all))].PID
	c.say("freeze backend %d", pid)
	life := pg.life
	pg.do(func(s *metastore.Server) { s.Freeze(pid) })
	return func() {
		if life == pg.life {
			pg.do(func(s *metastore.Server) { s.Thaw(pid) })
		}
	}
}

// mend makes the server well.
func (pg *postgres) mend() {
	pg.start()
	pg.do(func(s *metastore.Server) {
		for _, a := range s.Activity() {
			s.Thaw(a.PID)
		}
	})
}
