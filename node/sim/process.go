package sim

import (
	"context"
	"fmt"
	"time"
)

// process is one life of the job: a program that writes with the credentials it was given, on and on.
type process struct {
	*actor
	h      *host
	by     *daemon
	epoch  uint64
	asked  bool // it has been sent SIGTERM
	dying  bool
	stolen bool // somebody else has its credentials
}

// start makes the process of an epoch.
func (h *host) start(by *daemon, epoch uint64) *process {
	c := h.c
	c.actors++
	p := &process{h: h, by: by, epoch: epoch, actor: &actor{name: fmt.Sprintf("%s/e%d", h.name, epoch), number: c.actors}}
	h.procs = append(h.procs, p)
	c.oracle.started(by, p)
	by.say("process of epoch %d begins", epoch)
	c.w.spawn(c.w.span(0, 5*time.Millisecond), p.actor, p.work)
	return p
}

// work is what a scheduler does: transactions, short and long, on connections that it makes again and again.
func (p *process) work() {
	w, c, ctx := p.h.c.w, p.h.c, context.Background()
	for {
		s, err := c.db.connect(ctx, p.h, p.epoch, w.often(c.plan.setRole))
		for err == nil {
			if p.asked {
				p.exit("asked to end")
			}
			err = p.transaction(ctx, s)
			w.sleep(ctx, w.span(c.plan.thinkLeast, c.plan.thinkMost))
		}
		if p.asked || w.often(0.3) {
			p.exit(err.Error())
		}
		w.sleep(ctx, w.span(time.Millisecond, 100*time.Millisecond))
	}
}

func (p *process) transaction(ctx context.Context, s *session) error {
	w := p.h.c.w
	took := func() time.Duration {
		if w.often(p.h.c.plan.longStatements) {
			return w.span(time.Millisecond, 2*time.Second)
		}
		return w.span(100*time.Microsecond, 5*time.Millisecond)
	}
	if w.often(0.5) {
		return s.write(ctx, took())
	}
	s.inTx = true
	for range 1 + w.rand.IntN(4) {
		if err := s.write(ctx, took()); err != nil {
			return err
		}
		if w.often(0.2) {
			w.sleep(ctx, w.span(0, 300*time.Millisecond))
		}
	}
	return s.call(ctx, 100*time.Microsecond, s.commitNow)
}

// exit ends the process by itself; its parent hears of it.
func (p *process) exit(why string) {
	p.over(why)
	panic(killed{})
}

func (p *process) over(why string) {
	if p.dead {
		return
	}
	p.h.c.w.trace.say(p.h.c.w.now, p.name, "ends: %s", why)
	p.h.c.w.kill(p.actor)
	p.h.c.db.hangup(p)
	for i, q := range p.h.procs {
		if q == p {
			p.h.procs = append(p.h.procs[:i:i], p.h.procs[i+1:]...)
			break
		}
	}
	by := p.by
	by.w.in(by.w.span(0, 2*time.Millisecond), by.actor, func() {
		if by.job.current == p {
			by.wire.Job(jobName).Exited(p.epoch, why)
		}
	})
}

// terminate asks the process to end; a busy or a frozen one does not hear.
func (p *process) terminate() { p.asked = true }

// kill ends the process by the kernel's hand, frozen or not, after a moment.
func (p *process) kill() {
	if p.dying || p.dead {
		return
	}
	p.dying = true
	p.h.c.w.in(p.h.c.w.span(0, p.h.c.plan.killMost), nil, func() { p.over("killed") })
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
