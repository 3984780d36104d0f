package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// process is one life of the job: a program that writes with the credentials it was given, on and on. A thief is one that
// nobody started: it has an epoch's credentials, and nothing ever stops it.
type process struct {
	*actor
	h     *host
	by    *daemon
	as    credentials
	thief bool
	asked bool // it has been sent SIGTERM
	dying bool
}

// start makes the process of an epoch.
func (h *host) start(by *daemon, as credentials) *process {
	c := h.c
	c.actors++
	p := &process{h: h, by: by, as: as, actor: &actor{name: fmt.Sprintf("%s/e%d", h.name, as.epoch), number: c.actors}}
	h.procs = append(h.procs, p)
	c.oracle.started(by, p)
	by.say("process of epoch %d begins", as.epoch)
	for range 1 + c.w.rand.IntN(c.plan.connections) {
		c.w.spawn(c.w.span(0, 5*time.Millisecond), p.actor, p.work)
	}
	if c.w.often(c.plan.stolen) {
		c.steal(h, as)
	}
	return p
}

// steal gives the credentials of an epoch to somebody who uses them now and then until the end.
func (c *cluster) steal(h *host, as credentials) {
	c.actors++
	c.oracle.count.stolen++
	p := &process{h: h, as: as, thief: true, actor: &actor{name: fmt.Sprintf("thief/e%d", as.epoch), number: c.actors}}
	c.thieves = append(c.thieves, p)
	c.w.spawn(c.w.span(0, 3*time.Second), p.actor, p.work)
}

// work is what a scheduler does: transactions, short and long, on connections that it makes again and again.
func (p *process) work() {
	w, c, ctx := p.h.c.w, p.h.c, context.Background()
	for {
		s, err := c.pg.login(ctx, p.h, p.login())
		for err == nil && !p.asked {
			err = p.transaction(ctx, s)
			if p.thief {
				w.sleep(ctx, w.span(0, time.Second))
			}
			w.sleep(ctx, w.span(c.plan.thinkLeast, c.plan.thinkMost))
		}
		if s != nil && (p.asked || codeOf(err) != "") {
			s.close()
		}
		switch {
		case p.thief:
			w.sleep(ctx, w.span(0, 4*time.Second))
		case p.asked:
			p.exit("asked to end")
		case err != nil && w.often(c.plan.exits):
			p.exit(err.Error())
		}
		w.sleep(ctx, w.span(time.Millisecond, 200*time.Millisecond))
	}
}

// login is how the process logs in this time.
func (p *process) login() metastore.Login {
	w, plan := p.h.c.w, &p.h.c.plan
	l := p.as.login()
	l.Asynchronous, l.LockTimeout = plan.asynchronous, time.Second // lock_timeout, or the deadlock detector
	if w.often(plan.setRole) {
		l.As = group
	}
	if w.often(plan.authDelay) {
		l.PostAuthDelay = w.span(0, 3*time.Second)
	}
	return l
}

// transaction does one, or sends statements without waiting for the answers.
func (p *process) transaction(ctx context.Context, s *session) error {
	w, c := p.h.c.w, p.h.c
	pause := func() time.Duration {
		if w.often(c.plan.longStatements) {
			return w.span(time.Millisecond, 2*time.Second)
		}
		return 0
	}
	write := func() metastore.Statement { return c.work(p.as.epoch, pause()) }
	switch w.rand.IntN(4) {
	case 0:
		last := 0
		for range 1 + w.rand.IntN(3) {
			last = s.send(write())
		}
		_, err := s.answer(ctx, last)
		return err
	case 1:
		if _, err := s.ask(ctx, metastore.Begin{}); err != nil {
			return err
		}
		for range 1 + w.rand.IntN(3) {
			if _, err := s.ask(ctx, write()); err != nil {
				return err
			}
			w.sleep(ctx, w.span(0, c.plan.idleMost))
		}
		_, err := s.ask(ctx, metastore.Commit{})
		return err
	case 2:
		if w.often(c.plan.locks) { // as a scheduler could that looks whether it still is the one
			_, err := s.ask(ctx, metastore.Begin{}, metastore.Select{Table: metastore.FenceTable, Key: jobName, Lock: metastore.ForShare},
				write(), metastore.Sleep{For: time.Millisecond + pause()}, metastore.Commit{})
			return err
		}
	}
	_, err := s.ask(ctx, write())
	return err
}

// work is one statement of a job: a row of its table is changed.
func (c *cluster) work(epoch uint64, pause time.Duration) metastore.Statement {
	return metastore.Update{Table: workTable, Row: metastore.Row{Key: workKey(c.w.rand.IntN(workRows)), Epoch: epoch}, Pause: pause}
}

// exit ends the process by itself.
func (p *process) exit(why string) {
	p.over(why)
	panic(killed{})
}

// over ends the process; its parent hears of it.
func (p *process) over(why string) {
	if p.dead {
		return
	}
	w := p.h.c.w
	w.trace.say(w.now, p.name, "ends: %s", why)
	w.kill(p.actor)
	p.h.c.pg.hangUpAll(p.actor)
	for i, q := range p.h.procs {
		if q == p {
			p.h.procs = append(p.h.procs[:i:i], p.h.procs[i+1:]...)
			break
		}
	}
	if by := p.by; by != nil {
		w.in(w.span(0, 2*time.Millisecond), by.actor, func() {
			if by.job.current == p {
				by.wire.Job(jobName).Exited(p.as.epoch, why)
			}
		})
	}
}

// terminate asks the process to end; a busy or a frozen one does not hear.
func (p *process) terminate() { p.asked = true }

// kill ends the process by the kernel's hand, frozen or not, after a moment.
func (p *process) kill() {
	if p.dying || p.dead {
		return
	}
	p.dying = true
	p.h.c.w.in(p.h.c.w.span(0, p.h.c.plan.killMost), nil, p.dieNow)
}

// dieNow waits for a whole host that stands still: its kernel kills nobody.
func (p *process) dieNow() {
	if p.h.frozen {
		p.h.c.w.in(50*time.Millisecond, nil, p.dieNow)
		return
	}
	p.over("killed")
}

func (h *host) killAll() {
	for _, p := range append([]*process(nil), h.procs...) {
		p.kill()
	}
}

func (h *host) alive(which func(*process) bool) bool {
	for _, p := range h.procs {
		if which(p) {
			return true
		}
	}
	return false
}

// orphan is what the kernel does to the children of a daemon that has died: it kills them, unless nothing binds them
// to it (mode group, a fork that has left it).
func (h *host) orphan(d *daemon) {
	for _, p := range append([]*process(nil), h.procs...) {
		if p.by == d && !h.c.w.often(h.c.plan.orphans) {
			p.kill()
		}
	}
}
