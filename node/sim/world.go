package sim

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// instant is time since the world began; nobody in it can read it.
type instant = time.Duration

// world is everything: one clock, one queue of what is to happen, one source of chance.
type world struct {
	now   instant
	queue events
	seq   uint64
	rand  *rand.Rand
	trace *trace
	// running is the task whose code is being run; nil outside of tasks.
	running *task
	steps   uint64
}

// actor is something that can be frozen and that can die: a daemon or a process. What is to happen to it waits while it is
// frozen, in the kernel's buffers as it were, and is dropped when it is dead.
type actor struct {
	name   string
	number uint64
	frozen bool
	dead   bool
	held   []*event
	tasks  []*task
	// after is called after everything that happened to it.
	after func()
}

// event is something that is to happen, to an actor or, if that is nil, to the world.
type event struct {
	at  instant
	seq uint64
	who *actor
	do  func()
}

func newWorld(seed uint64, t *trace) *world {
	return &world{rand: rand.New(rand.NewPCG(seed, 0x6475_6f66_6c6f_77)), trace: t}
}

// in has something happen to an actor after some time.
func (w *world) in(d time.Duration, who *actor, do func()) *event {
	w.seq++
	e := &event{at: w.now + max(d, 0), seq: w.seq, who: who, do: do}
	heap.Push(&w.queue, e)
	return e
}

// cancel takes back what has not happened yet.
func (w *world) cancel(e *event) {
	if e != nil {
		e.do = nil
	}
}

// until lets everything happen that is due up to an instant.
func (w *world) until(end instant) {
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(*event)
		if e.do == nil {
			continue
		}
		w.now = e.at
		w.happen(e)
	}
	w.now = end
}

func (w *world) happen(e *event) {
	who := e.who
	switch {
	case who == nil:
	case who.dead:
		return
	case who.frozen:
		who.held = append(who.held, e)
		return
	}
	w.steps++
	w.trace.step(w.now, e)
	e.do()
	if who != nil {
		w.settle(who)
	}
}

// settle runs the tasks of an actor that need not wait any more, and tells it that something has happened.
func (w *world) settle(who *actor) {
	for i := 0; i < len(who.tasks) && !who.dead; i++ {
		if t := who.tasks[i]; t.ready() {
			t.run()
			i = -1
		}
	}
	if who.after != nil && !who.dead {
		who.after()
	}
}

// freeze stops an actor between two instructions.
func (w *world) freeze(who *actor) { who.frozen = true }

// thaw lets it go on. All that waited happens now, in the order in which it came.
func (w *world) thaw(who *actor) {
	if !who.frozen {
		return
	}
	who.frozen = false
	held := who.held
	who.held = nil
	for _, e := range held {
		if e.do != nil {
			e.at = w.now
			heap.Push(&w.queue, e)
		}
	}
}

// kill ends an actor wherever it is.
func (w *world) kill(who *actor) {
	if who.dead {
		return
	}
	who.dead, who.held, who.after = true, nil, nil
	tasks := who.tasks
	who.tasks = nil
	for _, t := range tasks {
		t.end()
	}
}

// Chance.

// span draws a time between two, both included.
func (w *world) span(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rand.Int64N(int64(most-least)+1))
}

// often is true with a probability.
func (w *world) often(p float64) bool { return p > 0 && w.rand.Float64() < p }

// events is a heap by time; what is due at the same time happens in the order in which it was asked for.
type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(e any)   { *q = append(*q, e.(*event)) }
func (q *events) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
