package metastore

import (
	"slices"
	"time"
)

// Moment says what a backend is about to spend time on.
type Moment int

// The moments that Timed asks a length for.
const (
	MomentUnit   Moment = iota // one unit of work
	MomentSignal               // from a signal to when it is noticed
)

// Chance is where Timed gets its choices from: a seeded source of the caller's.
type Chance interface {
	// Delay is how long the backend takes.
	Delay(m Moment, pid PID) time.Duration
	// Blind says whether the backend does its next unit without a look for interrupts.
	Blind(pid PID) bool
}

// Timed runs a server through virtual time: each unit of work of each backend takes as long as Chance says. It has no clock: the caller
// asks Next and calls Advance. Whatever is done to the server in between takes its place at the time of the last Advance.
type Timed struct {
	server *Server
	chance Chance
	now    time.Duration
	due    []due   // by PID
	looked []*wait // for a deadlock
}

// deadlockTimeout is how long a lock is waited for before a look for a deadlock, as Postgres has it by default.
const deadlockTimeout = time.Second

// due is when a backend goes on.
type due struct {
	pid    PID
	at     time.Duration
	timer  bool // its wait is over then, rather than that it has work
	search bool // for a deadlock
	on     *wait
	signal bool
}

// NewTimed runs a server; times are counted from the caller's zero.
func NewTimed(server *Server, chance Chance) *Timed { return &Timed{server: server, chance: chance} }

// Server is the server that is run.
func (t *Timed) Server() *Server { return t.server }

// Next is the time at which something happens by itself; none if nothing does.
func (t *Timed) Next() (at time.Duration, some bool) {
	t.plan()
	for _, d := range t.due {
		if !some || d.at < at {
			at, some = d.at, true
		}
	}
	return at, some
}

// Advance lets time pass up to now, which is not before the last call's.
func (t *Timed) Advance(now time.Duration) {
	for {
		at, some := t.Next()
		if !some || at > now {
			break
		}
		t.now = max(t.now, at)
		t.fire(at)
	}
	t.now = max(t.now, now)
}

// fire lets the first backend that is due go on.
func (t *Timed) fire(at time.Duration) {
	i := slices.IndexFunc(t.due, func(d due) bool { return d.at == at })
	d := t.due[i]
	t.due = slices.Delete(t.due, i, i+1)
	switch {
	case d.search:
		t.looked = append(t.looked, d.on)
		t.server.CheckDeadlock(d.pid)
	case d.timer:
		t.server.Expire(d.pid)
	case t.chance.Blind(d.pid):
		t.server.StepBlind(d.pid)
	default:
		t.server.Step(d.pid)
	}
}

// plan gives a time to each backend that can go on or waits for a length of time, and takes it from those that cannot any more.
func (t *Timed) plan() {
	kept := t.due[:0]
	for _, d := range t.due {
		if b := t.server.backend(d.pid); b != nil && d.stands(b) {
			kept = append(kept, d)
		}
	}
	t.due = kept
	t.looked = slices.DeleteFunc(t.looked, func(w *wait) bool {
		return !slices.ContainsFunc(t.server.backends, func(b *backend) bool { return b.wait == w })
	})
	for _, b := range t.server.backends {
		at, found := slices.BinarySearchFunc(t.due, b.pid, func(d due, pid PID) int { return int(d.pid - pid) })
		if found {
			continue
		}
		if d, some := t.dueOf(b); some {
			t.due = slices.Insert(t.due, at, d)
		}
	}
}

// stands says whether the plan still fits what the backend does.
func (d due) stands(b *backend) bool {
	if d.timer || d.search {
		return b.wait == d.on && !b.frozen && !b.runnable()
	}
	return b.runnable() && d.signal == b.signalled()
}

func (b *backend) signalled() bool { return b.term || b.lost || b.cancel }

func (t *Timed) dueOf(b *backend) (due, bool) {
	switch {
	case b.runnable() && b.signalled():
		return due{pid: b.pid, at: t.now + t.chance.Delay(MomentSignal, b.pid), signal: true}, true
	case b.runnable():
		return due{pid: b.pid, at: t.now + t.chance.Delay(MomentUnit, b.pid)}, true
	case b.wait != nil && !b.frozen:
		return t.dueOfWait(b)
	}
	return due{}, false
}

// dueOfWait is the end of a wait, or before that the one look for a deadlock.
func (t *Timed) dueOfWait(b *backend) (due, bool) {
	limit := b.wait.timer
	if b.wait.lock != "" {
		if !slices.Contains(t.looked, b.wait) && (limit == 0 || limit > deadlockTimeout) {
			return due{pid: b.pid, at: t.now + deadlockTimeout, search: true, on: b.wait}, true
		}
		if limit > deadlockTimeout {
			limit -= deadlockTimeout // that has passed
		}
	}
	return due{pid: b.pid, at: t.now + limit, timer: true, on: b.wait}, limit > 0
}
