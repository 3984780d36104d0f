package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const jobName = "scheduler"

// host is one computer of the cluster. It outlives daemons.
type host struct {
	c       *cluster
	name    string
	id      uint64
	witness bool
	disk    *disk
	// daemon is the one that runs, or the last one if that is dead; nil before the first.
	daemon *daemon
	// dark: it has no power. frozen: the whole computer stands still, as a virtual machine does.
	dark, frozen bool
	// slow is what its disk takes for a write, at most.
	slow time.Duration
	// full: its disk takes no writes.
	full bool
	// joins: it was not there when the cluster was made. out: its node was removed, and nobody starts it by himself.
	joins, out bool
	// boots counts daemons.
	boots int
	// clocks: how fast its own goes, since when, and how far the time of day is off.
	rate    float64
	bootAt  instant
	wallOff time.Duration
	procs   []*process
	// tokenBefore is that of the last daemon.
	tokenBefore lease.Token
}

// daemon is one life of duoflowd: a whole node on a replica, a loop and the jobs of its host.
type daemon struct {
	*actor
	w     *world
	h     *host
	cfg   node.Config
	token lease.Token
	wire  *node.Wire
	store *store
	job   *job
	node  *node.Node
	loop  *node.Loop
	// parts is what everything in it runs under.
	parts   context.Context
	cancel  context.CancelFunc
	listens bool
	quit    bool
	mailed  bool
	// said is the size of its last beat.
	said int
}

// boot starts a daemon.
func (h *host) boot() {
	h.boots++
	c := h.c
	c.actors++
	d := &daemon{w: c.w, h: h, cfg: c.config(h), actor: &actor{name: fmt.Sprintf("%s/%d", h.name, h.boots), number: c.actors}}
	h.daemon = d
	d.parts, d.cancel = context.WithCancel(context.Background())
	d.token = node.NewToken()
	if before := h.tokenBefore; before != "" && c.faulty.keepsToken {
		d.token = before
	}
	h.tokenBefore = d.token
	logger := slog.New(slog.DiscardHandler)
	if c.w.trace.loud {
		logger = slog.New(&handler{d: d})
	}
	d.wire = node.NewWire(d.cfg, logger)
	d.store = newStore(d)
	parts := node.Parts{
		Config: d.cfg, Version: "sim", Token: d.token, Wire: d.wire, Log: d.store, Gossip: nobody{}, Logger: logger, Machine: d,
	}
	switch {
	case h.witness:
	case c.multitude != nil:
		parts.Jobs = c.multitude.on(d)
	default:
		d.job = newJob(d)
		parts.Jobs = map[lease.JobName]node.HostedJob{jobName: d.job}
	}
	var err error
	if d.node, err = node.New(parts); err != nil {
		panic(err) // the world is built wrongly
	}
	d.loop = d.node.Loop(d.parts)
	d.after = d.settle
	d.say("boots, token %.6s", d.token)
	c.w.in(0, d.actor, func() {
		d.loop.Begin()
		d.tick()
	})
	c.w.in(c.w.span(time.Millisecond, 20*time.Millisecond), d.actor, d.store.begin)
	if d.job != nil {
		d.job.begin()
	}
}

// tick turns the loop for the passing of time, and again when it wants.
func (d *daemon) tick() {
	next := d.loop.Tick()
	d.w.in(d.real(next), d.actor, d.tick)
	d.left()
}

// settle looks after each thing that happened whether there is mail for the loop.
func (d *daemon) settle() {
	if d.mailed {
		return
	}
	select {
	case <-d.loop.Mail():
		d.mailed = true
		d.w.in(d.w.span(0, 50*time.Microsecond), d.actor, func() {
			d.mailed = false
			d.loop.Deliver()
			d.left()
		})
	default:
	}
}

func (d *daemon) left() {
	if (d.quit || d.store.state.Removed) && !d.dead && d.loop.Left() {
		d.say("has left")
		d.die(false)
		if d.store.state.Removed {
			d.h.retired()
			return
		}
		d.w.in(d.w.span(500*time.Millisecond, 5*time.Second), nil, d.h.up) // somebody starts it again
	}
}

// stop has the daemon end in order.
func (d *daemon) stop() {
	if d.dead || d.quit {
		return
	}
	d.w.in(0, d.actor, func() {
		d.quit = true
		d.loop.Quit()
		d.left()
	})
}

// fail ends the daemon because of an error that it cannot live with.
func (d *daemon) fail(err error) {
	d.say("fails: %v", err)
	d.w.in(0, d.actor, func() {
		d.die(false)
		d.w.in(d.w.span(500*time.Millisecond, 2*time.Second), nil, d.h.up) // as systemd does
	})
}

// die ends the daemon. What it had its host do ends too, as far as the kernel sees to that.
func (d *daemon) die(power bool) {
	if d.dead {
		return
	}
	d.say("is dead")
	d.listens = false
	d.h.disk.crash(d.w.rand.IntN(3))
	d.w.kill(d.actor)
	d.cancel()
	d.h.c.pg.hangUpAll(d.actor)
	if !power {
		d.gone()
		d.h.orphan(d)
	}
}

func (d *daemon) say(format string, args ...any) { d.w.trace.say(d.w.now, d.name, format, args...) }

// The daemon as its node's machine.

// real is how long some time of the host's clock is, rounded up: a timer is never early.
func (d *daemon) real(t time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(t)/d.h.rate)) + time.Nanosecond
}

// Boot implements node.Machine.
func (d *daemon) Boot() control.Instant {
	return control.Instant(time.Hour) + control.Instant(float64(d.w.now-d.h.bootAt)*d.h.rate)
}

// wallStart is when worlds begin.
const wallStart = 1_800_000_000

// Wall implements node.Machine.
func (d *daemon) Wall() time.Time {
	return time.Unix(wallStart, 0).Add(time.Duration(float64(d.w.now)*d.h.rate) + d.h.wallOff).UTC()
}

// Go implements node.Machine.
func (d *daemon) Go(work func()) { d.w.spawn(d.w.span(0, d.h.c.plan.lag), d.actor, work) }

// Join implements node.Machine; only Run calls it.
func (d *daemon) Join() { panic("sim: a node is not run") }

// Wait implements node.Machine.
func (d *daemon) Wait(done <-chan struct{}) {
	d.w.wait(func() bool {
		select {
		case <-done:
			return true
		default:
			return done == nil
		}
	})
}

// Pause implements node.Machine.
func (d *daemon) Pause(ctx context.Context, t time.Duration) { d.w.sleep(ctx, d.real(t)) }

// Within implements node.Machine.
func (d *daemon) Within(ctx context.Context, t time.Duration) (context.Context, context.CancelFunc) {
	return d.w.within(ctx, d.real(t))
}

// nobody is a membership without members: nothing that decides reads it.
type nobody struct{}

func (nobody) Run(context.Context) error { return nil }
func (nobody) Members() []gossip.Member  { return nil }

// handler writes a daemon's log into the trace.
type handler struct {
	d     *daemon
	attrs string
}

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	text := ""
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	h.d.w.trace.note(h.d.w.now, h.d.name, "%s%s%s", r.Message, h.attrs, text)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		if a.Key != "node" && a.Key != "job" {
			next.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
	}
	return &next
}

func (h *handler) WithGroup(string) slog.Handler { return h }

// move has an operator ask this daemon to move the job.
func (d *daemon) move() {
	if d.dead {
		return
	}
	force, over := d.w.often(0.3), d.w.often(0.5)
	d.w.spawn(0, d.actor, func() {
		var err error
		var answer *duoflowv1.TransferResponse
		if over {
			answer, err = d.node.Operators().Failover(d.parts, &duoflowv1.FailoverRequest{Job: jobName, Force: force})
		} else {
			_, err = d.node.Operators().Switchover(d.parts, &duoflowv1.SwitchoverRequest{Job: jobName})
		}
		d.say("an operator asks for a move, failover %v, force %v: %v", over, force, err)
		if err == nil {
			d.h.c.oracle.count.moves++
			d.h.c.oracle.ordered(d, answer.GetEpochAfter())
		}
	})
}
