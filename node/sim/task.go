package sim

import (
	"context"
	"iter"
	"time"
)

// task is code that waits in the middle, as a goroutine does, but that runs only when the world lets it: a coroutine. At
// most one runs at a time, so a world stays one goroutine's worth of work, and repeatable.
type task struct {
	w     *world
	who   *actor
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	// ready says whether it need not wait any more; never nil while it waits.
	ready func() bool
	over  bool
}

// killed ends a task whose actor is dead, wherever it waits.
type killed struct{}

// spawn has an actor do something beside what it does, beginning after a moment.
func (w *world) spawn(d time.Duration, who *actor, work func()) {
	w.in(d, who, func() {
		t := &task{w: w, who: who, ready: func() bool { return true }}
		t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
			defer func() {
				if r := recover(); r != nil && r != (any)(killed{}) {
					panic(r)
				}
			}()
			t.yield = yield
			work()
		})
		who.tasks = append(who.tasks, t)
	})
}

// run goes on until the task waits again, or is over.
func (t *task) run() {
	before := t.w.running
	t.w.running = t
	_, more := t.next()
	t.w.running = before
	if !more {
		t.over = true
		for i, other := range t.who.tasks {
			if other == t {
				t.who.tasks = append(t.who.tasks[:i:i], t.who.tasks[i+1:]...)
				break
			}
		}
	}
}

// end unwinds a task that will not be run again.
func (t *task) end() {
	if t == t.w.running || t.over {
		return // it ends itself when it waits next
	}
	before := t.w.running
	t.w.running = t
	t.stop()
	t.w.running = before
	t.over = true
}

// wait returns when ready says so. Only a task may call it.
func (w *world) wait(ready func() bool) {
	t := w.running
	if t.who.dead {
		panic(killed{})
	}
	for !ready() {
		t.ready = ready
		if !t.yield(struct{}{}) || t.who.dead {
			panic(killed{})
		}
	}
}

// sleep returns after a time, false when ctx ended first.
func (w *world) sleep(ctx context.Context, d time.Duration) bool {
	due := false
	e := w.in(d, w.running.who, func() { due = true })
	w.wait(func() bool { return due || ctx.Err() != nil })
	if !due {
		w.cancel(e)
	}
	return due
}

// within is ctx that ends after some time, of the world's.
func (w *world) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancel(ctx)
	c := &limited{Context: inner}
	e := w.in(d, w.running.who, func() { c.late = inner.Err() == nil; cancel() })
	return c, func() { w.cancel(e); cancel() }
}

// limited is a context with a deadline of the world's.
type limited struct {
	context.Context
	late bool
}

// Err implements context.Context.
func (c *limited) Err() error {
	if c.late {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}
