package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// judge says what must not be, a line each.
func judge(e *Evidence) []string {
	var wrong []string
	for _, rule := range []func(*Evidence) []string{
		blind, stuck, triesTwice, overlaps, runsLostOrDoubled, strangers, unfinishedOrFailed, successesWithoutBody, ordered,
	} {
		wrong = append(wrong, rule(e)...)
	}
	return wrong
}

func (t Task) String() string {
	if t.Map < 0 {
		return t.DAG + "/" + t.Run + "/" + t.Name
	}
	return fmt.Sprintf("%s/%s/%s[%d]", t.DAG, t.Run, t.Name, t.Map)
}

// ours are the DAGs whose tasks keep the journal.
var ours = []string{chainDAG, mappedDAG, longDAG, clockDAG}

// blind: a run that saw too little proves nothing.
func blind(e *Evidence) (wrong []string) {
	queued := 0
	for _, n := range e.Notes {
		if n.State == "queued" {
			queued++
		}
	}
	for _, seen := range []struct {
		what string
		n    int
		min  int
	}{
		{"trials", len(e.Trials), 1},
		{"bodies", len(e.Bodies), len(e.Trials)},
		{"runs that were triggered", len(e.Triggers), len(e.Trials)},
		{"tasks that were queued", queued, len(e.Bodies) * 9 / 10},
		{"statements of the epochs' roles", len(e.Commits), len(e.Bodies)},
		{"messages that were taken up", len(e.Messages), 1},
	} {
		if seen.n < seen.min {
			wrong = append(wrong, fmt.Sprintf("saw %d %s, wants at least %d: the witness is blind", seen.n, seen.what, seen.min))
		}
	}
	return wrong
}

// stuck: a trial after which the scheduler did not come back.
func stuck(e *Evidence) (wrong []string) {
	for _, t := range e.Trials {
		if t.Stuck != "" {
			wrong = append(wrong, fmt.Sprintf("trial %d, %s: did not recover: %s", t.Number, t.Fault, t.Stuck))
		}
	}
	return wrong
}

// try is one try of a task.
type try struct {
	Task
	number int
}

// triesTwice: two bodies of one try, or of one of Airflow's instances.
func triesTwice(e *Evidence) (wrong []string) {
	byTry, byInstance := map[try]string{}, map[string]string{}
	for _, b := range e.Bodies {
		t := try{b.Task, b.Try}
		if first, twice := byTry[t]; twice {
			wrong = append(wrong, fmt.Sprintf("try %d of %s ran twice: bodies %s and %s", b.Try, b.Task, first, b.ID))
		} else if first, twice := byInstance[b.Instance]; twice {
			wrong = append(wrong, fmt.Sprintf("instance %s of %s ran twice: bodies %s and %s", b.Instance, b.Task, first, b.ID))
		}
		byTry[t], byInstance[b.Instance] = b.ID, b.ID
	}
	return wrong
}

// overlaps: a body beside another one of its task. Of one that never said that it had ended, the lock tells: the kernel gives it
// back when the process is gone.
func overlaps(e *Evidence) (wrong []string) {
	byTask := map[Task][]Body{}
	for _, b := range e.Bodies {
		byTask[b.Task] = append(byTask[b.Task], b)
		if b.Beside {
			wrong = append(wrong, fmt.Sprintf("body %s of %s, try %d, found another one alive", b.ID, b.Task, b.Try))
		}
	}
	for _, bodies := range byTask {
		slices.SortFunc(bodies, func(a, b Body) int { return cmp.Compare(a.Begin, b.Begin) })
		for i, b := range bodies[1:] {
			if before := bodies[i]; before.End > b.Begin {
				wrong = append(wrong, fmt.Sprintf("bodies %s and %s of %s, tries %d and %d, overlap by %s", before.ID, b.ID, b.Task, before.Try, b.Try,
					time.Duration(min(before.End, cmp.Or(b.End, before.End))-b.Begin)))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// dagRun names a run.
type dagRun struct{ dag, run string }

// runsLostOrDoubled: each run that was triggered is there once, and so is each date of the schedule; nothing else is.
func runsLostOrDoubled(e *Evidence) (wrong []string) {
	asked := map[dagRun]bool{} // of it, Airflow said that it exists
	for _, t := range e.Triggers {
		asked[dagRun{t.DAG, t.Run}] = t.Acknowledged
	}
	there, dates := map[dagRun]int{}, map[time.Time]int{}
	for _, r := range e.Runs {
		if !slices.Contains(ours, r.DAG) {
			continue
		}
		there[dagRun{r.DAG, r.Run}]++
		_, known := asked[dagRun{r.DAG, r.Run}]
		switch {
		case r.DAG == e.Run.Clock.DAG && r.Date != nil:
			dates[r.Date.UTC()]++
		case !known:
			wrong = append(wrong, fmt.Sprintf("run %s/%s is there, and nobody asked for it", r.DAG, r.Run))
		}
	}
	for run, acknowledged := range asked {
		if n := there[run]; n > 1 || n == 0 && acknowledged {
			wrong = append(wrong, fmt.Sprintf("run %s/%s was asked for and is there %d times", run.dag, run.run, n))
		}
	}
	wrong = append(wrong, datesLostOrDoubled(e.Run.Clock, dates)...)
	slices.Sort(wrong)
	return wrong
}

func datesLostOrDoubled(c Clock, dates map[time.Time]int) (wrong []string) {
	if c.Every <= 0 || !c.Until.After(c.Start) {
		return []string{fmt.Sprintf("no schedule from %s to %s", c.Start, c.Until)}
	}
	for date := c.Start.UTC(); !date.After(c.Until); date = date.Add(c.Every) {
		if dates[date] != 1 {
			wrong = append(wrong, fmt.Sprintf("date %s of %s is there %d times", date.Format(time.RFC3339), c.DAG, dates[date]))
		}
		delete(dates, date)
	}
	for _, date := range slices.SortedFunc(maps.Keys(dates), time.Time.Compare) {
		if n := dates[date]; n != 1 || date.Before(c.Start) || date.Sub(c.Start)%c.Every != 0 {
			wrong = append(wrong, fmt.Sprintf("date %s of %s is there %d times, and is none of the schedule's", date.Format(time.RFC3339Nano), c.DAG, n))
		}
	}
	return wrong
}

// strangers: a body of a run or of an instance that Airflow does not know (any more): taken back when it had begun.
func strangers(e *Evidence) (wrong []string) {
	runs, instances := map[dagRun]DagRun{}, map[string]Task{}
	for _, r := range e.Runs {
		runs[dagRun{r.DAG, r.Run}] = r
	}
	for _, i := range e.Instances {
		instances[i.ID] = i.Task
	}
	for _, b := range e.Bodies {
		run, known := runs[dagRun{b.DAG, b.Run}]
		switch {
		case !known:
			wrong = append(wrong, fmt.Sprintf("body %s ran for %s, whose run is not there", b.ID, b.Task))
		case !sameDate(b.Date, run.Date):
			wrong = append(wrong, fmt.Sprintf("body %s ran for %s and date %q, whose run is of %v", b.ID, b.Task, b.Date, run.Date))
		case instances[b.Instance] != b.Task:
			wrong = append(wrong, fmt.Sprintf("body %s ran for instance %s of %s, which is not there", b.ID, b.Instance, b.Task))
		}
	}
	return wrong
}

// sameDate compares what a body was told with what the run's row says.
func sameDate(told string, date *time.Time) bool {
	if told == "" || date == nil {
		return told == "" && date == nil
	}
	at, err := time.Parse(time.RFC3339, told)
	return err == nil && at.Equal(*date)
}

// over are the states of a task that nothing happens to any more.
var over = []string{"success", "failed", "skipped", "upstream_failed", "removed"}

// unfinishedOrFailed: all has to end, and a task with so many tries has to succeed.
func unfinishedOrFailed(e *Evidence) (wrong []string) {
	for _, r := range e.Runs {
		if slices.Contains(ours, r.DAG) && r.State != "success" {
			wrong = append(wrong, fmt.Sprintf("run %s/%s is %s", r.DAG, r.Run, r.State))
		}
	}
	for _, i := range e.Instances {
		if i.Current && slices.Contains(ours, i.DAG) && !slices.Contains(over, i.State) {
			wrong = append(wrong, fmt.Sprintf("%s is %s in the end", i.Task, i.State))
		}
	}
	return wrong
}

// successesWithoutBody: what Airflow calls a success has one body that ran to its end, as that try and instance.
func successesWithoutBody(e *Evidence) (wrong []string) {
	bodies := map[string][]Body{}
	for _, b := range e.Bodies {
		bodies[b.Instance] = append(bodies[b.Instance], b)
	}
	for _, i := range e.Instances {
		if i.State != "success" || !slices.Contains(ours, i.DAG) {
			continue
		}
		of := bodies[i.ID]
		switch {
		case len(of) != 1:
			wrong = append(wrong, fmt.Sprintf("%s is called a success and has %d bodies", i.Task, len(of)))
		case of[0].Task != i.Task || of[0].Try != i.Try || of[0].Outcome != outcomeDone:
			wrong = append(wrong, fmt.Sprintf("try %d of %s is called a success; its body %s, try %d of %s, says %q", i.Try, i.Task, of[0].ID, of[0].Try, of[0].Task, of[0].Outcome))
		}
	}
	return wrong
}

// ordered: no statement of an old epoch's role was committed after a newer one's first.
func ordered(e *Evidence) []string {
	order := commitorder.Examine(e.Commits)
	if order.Sound() {
		return nil
	}
	return []string{fmt.Sprintf("commits of the schedulers: %d stale, %d of another node, %d twice: %s", order.Stale, order.Shared, order.Twice, order.Example)}
}
