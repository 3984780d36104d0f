package main

import (
	"slices"
	"sort"
	"time"
)

// Count is what one kind of fault did, or all of them. What is counted is promised by nobody.
type Count struct {
	Fault  string `json:"fault"`
	Trials int    `json:"trials"`
	Moved  int    `json:"moved"` // failovers: the scheduler went on under another epoch

	// What tasks were at, at the faults: queued and not sent; sent, and no body begun; with a body at work; with a body that had
	// ended and Airflow not told, or not said yet.
	Unsent   int `json:"unsent"`
	Sent     int `json:"sent"`
	Running  int `json:"running"`
	Finished int `json:"finished"`

	// TakenBack are queued tasks that went back to be queued again as the same try, by duoflow's adoption; Refused are messages that a worker took up
	// and was refused the task of, and did not begin the body.
	TakenBack int `json:"taken_back"`
	Refused   int `json:"refused"`

	// Tries that another one followed, other than as planned: without a body, with one that did not run to its end, with one that did.
	Bodiless int `json:"bodiless"`
	Cut      int `json:"cut"`
	Unheard  int `json:"unheard"`
	// Again are tasks with more than one body, without those that failed as planned.
	Again int `json:"again"`

	// First is, of each failover, from the fault to the first task queued under a newer epoch; Without, of each trial, the longest time without a
	// task queued up to then, or to the first task. In seconds, sorted.
	First   []float64 `json:"first"`
	Without []float64 `json:"without"`
	// Bodies that began after a fault of this kind and before the next fault of any.
	Bodies int `json:"bodies"`
}

// counter finds the trial that something belongs to.
type counter struct {
	trials []Trial
	counts map[string]*Count
}

// before is the count for what happened before the first fault.
const before = "(none)"

// at is the count of the last fault before an instant.
func (c *counter) at(when time.Time) *Count {
	n := sort.Search(len(c.trials), func(i int) bool { return c.trials[i].At.After(when) })
	if n == 0 {
		return c.of(before)
	}
	return c.of(c.trials[n-1].Fault)
}

func (c *counter) of(name string) *Count {
	if c.counts[name] == nil {
		c.counts[name] = &Count{Fault: name}
	}
	return c.counts[name]
}

// countAll counts by fault, in the order of the list of faults.
func countAll(e *Evidence) []*Count {
	c := &counter{trials: slices.Clone(e.Trials), counts: map[string]*Count{}}
	slices.SortFunc(c.trials, func(a, b Trial) int { return a.At.Compare(b.At) })
	for n := range c.trials {
		c.trial(n, e)
	}
	c.inFlight(e)
	c.notes(e)
	c.tries(e)
	c.bodies(e)
	names := []string{before}
	for _, f := range faults {
		names = append(names, f.name)
	}
	var out []*Count
	for _, name := range names {
		if count := c.counts[name]; count != nil {
			slices.Sort(count.First)
			slices.Sort(count.Without)
			out = append(out, count)
		}
	}
	return out
}

// trial counts one, of which the next one's beginning tells whether the scheduler moved after all.
func (c *counter) trial(n int, e *Evidence) {
	t, count := c.trials[n], c.of(c.trials[n].Fault)
	count.Trials++
	after := t.After
	if n+1 < len(c.trials) {
		after = max(after, c.trials[n+1].Epoch)
	}
	floor := t.Epoch
	if after > t.Epoch {
		count.Moved++
	} else {
		floor = 0 // then any will do
	}
	first, without, found := queuedAfter(e.Notes, t.At, floor)
	if found && after > t.Epoch {
		count.First = append(count.First, first.Seconds())
	}
	if found {
		count.Without = append(count.Without, without.Seconds())
	}
}

// queuedAfter finds the first task that was queued after an instant under an epoch above floor, and the longest time without a task
// queued from the instant to that.
func queuedAfter(notes []Note, at time.Time, floor uint64) (first, without time.Duration, found bool) {
	last := at
	for _, n := range notes {
		if n.State != "queued" || !n.At.After(at) {
			continue
		}
		without = max(without, n.At.Sub(last))
		last = n.At
		if n.epoch() > floor {
			return n.At.Sub(at), without, true
		}
	}
	return 0, 0, false
}

// inFlight goes through the notes and looks, at each fault, at what is then queued or running.
func (c *counter) inFlight(e *Evidence) {
	bodies, taken := map[string]Body{}, map[string]bool{}
	for _, b := range e.Bodies {
		bodies[b.Instance] = b
	}
	for _, m := range e.Messages {
		taken[m.ID] = true
	}
	now, notes := map[Task]Note{}, e.Notes
	for _, t := range c.trials {
		for len(notes) > 0 && !notes[0].At.After(t.At) {
			now[notes[0].Task] = notes[0]
			notes = notes[1:]
		}
		for _, n := range now {
			c.of(t.Fault).addState(n, bodies[n.ID], taken[n.Message], t.At)
		}
	}
}

// addState sorts in what a task is at, at an instant; the body is that of its instance, if it ever had one.
func (c *Count) addState(n Note, b Body, taken bool, at time.Time) {
	begun := b.ID != "" && !b.BeganAt.After(at)
	switch {
	case n.State != "queued" && n.State != "running":
	case begun && b.End != 0 && !b.EndedAt.After(at):
		c.Finished++
	case begun:
		c.Running++
	case n.State == "running" || taken || b.ID != "":
		c.Sent++
	default:
		c.Unsent++
	}
}

// notes counts what was taken back, and messages that came to nothing.
func (c *counter) notes(e *Evidence) {
	begun := map[string]bool{}
	for _, b := range e.Bodies {
		begun[b.Instance] = true
	}
	instance := map[string]Note{} // of messages
	for _, n := range e.Notes {
		if n.Was == "queued" && n.State == "scheduled" && n.Before != n.ID {
			c.at(n.At).TakenBack++
		}
		if n.State == "queued" {
			instance[n.Message] = n
		}
	}
	for _, m := range e.Messages {
		if n, known := instance[m.ID]; known && !begun[n.ID] {
			c.at(n.At).Refused++
		}
	}
}

// tries counts those that another one followed.
func (c *counter) tries(e *Evidence) {
	bodies := map[try]Body{}
	for _, b := range e.Bodies {
		bodies[try{b.Task, b.Try}] = b
	}
	for t, at := range givenUp(e) {
		count := c.at(at)
		switch b := bodies[t]; {
		case b.ID == "":
			count.Bodiless++
		case b.Outcome == outcomeDone:
			count.Unheard++
		case b.Outcome != outcomeFailed:
			count.Cut++
		}
	}
}

// givenUp are the tries that another one followed, and when that was. Airflow keeps a row of most of them; of one that never ran, and whose
// message failed, there is the note alone.
func givenUp(e *Evidence) map[try]time.Time {
	all := map[try]time.Time{}
	for _, i := range e.Instances {
		if !i.Current && slices.Contains(ours, i.DAG) {
			all[try{i.Task, i.Try}] = ended(e, i)
		}
	}
	for _, n := range e.Notes {
		if n.State == "up_for_retry" && n.Was != n.State && slices.Contains(ours, n.DAG) {
			all[try{n.Task, n.Try}] = n.At
		}
	}
	return all
}

// ended is when a try of the history was given up.
func ended(e *Evidence, i Instance) time.Time {
	if i.Ended != nil {
		return *i.Ended
	}
	for _, n := range slices.Backward(e.Notes) {
		if n.ID == i.ID || n.Before == i.ID {
			return n.At
		}
	}
	return e.Run.Started
}

// bodies counts them, and tasks that had several.
func (c *counter) bodies(e *Evidence) {
	seen := map[Task]int{}
	for _, b := range e.Bodies {
		count := c.at(b.BeganAt)
		count.Bodies++
		if b.Outcome == outcomeFailed {
			continue
		}
		if seen[b.Task]++; seen[b.Task] == 2 {
			count.Again++
		}
	}
}

// total adds up all counts.
func total(counts []*Count) *Count {
	sum := &Count{Fault: "all"}
	for _, c := range counts {
		for _, pair := range [][2]*int{
			{&sum.Trials, &c.Trials}, {&sum.Moved, &c.Moved}, {&sum.Unsent, &c.Unsent}, {&sum.Sent, &c.Sent}, {&sum.Running, &c.Running},
			{&sum.Finished, &c.Finished}, {&sum.TakenBack, &c.TakenBack}, {&sum.Refused, &c.Refused}, {&sum.Bodiless, &c.Bodiless},
			{&sum.Cut, &c.Cut}, {&sum.Unheard, &c.Unheard}, {&sum.Again, &c.Again}, {&sum.Bodies, &c.Bodies},
		} {
			*pair[0] += *pair[1]
		}
		sum.First, sum.Without = append(sum.First, c.First...), append(sum.Without, c.Without...)
	}
	slices.Sort(sum.First)
	slices.Sort(sum.Without)
	return sum
}
