package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// noon is when the made-up run begins.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// at is so many seconds later.
func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// made is a sound run: two triggered runs and two by schedule, with two tries of one task, the first of which failed as planned.
func made() *Evidence {
	e := &Evidence{
		Run:    Run{Seed: 1, Started: noon, Clock: Clock{DAG: clockDAG, Start: noon, Every: 15 * time.Second, Until: at(15)}},
		Trials: []Trial{{Number: 1, Fault: "kill-host", Moment: "queued", Node: "a", Epoch: 1, After: 2, At: at(5), Done: at(9), First: 0.8}},
	}
	e.ask(chainDAG, "asked-1")
	e.ask(mappedDAG, "asked-2")
	e.date(0)
	e.date(15)
	e.task(Task{chainDAG, "asked-1", "chain0_0", -1}, 1, 1, outcomeDone)
	e.task(Task{mappedDAG, "asked-2", "each", 0}, 1, 2, outcomeFailed)
	e.task(Task{mappedDAG, "asked-2", "each", 0}, 2, 6, outcomeDone)
	e.task(Task{mappedDAG, "asked-2", "each", 1}, 1, 4.5, outcomeDone)
	e.task(Task{clockDAG, "scheduled-0", "tick", -1}, 1, 2, outcomeDone)
	e.task(Task{clockDAG, "scheduled-15", "tick", -1}, 1, 16, outcomeDone)
	for i := range 20 {
		e.Commits = append(e.Commits, commitorder.Row{Node: fmt.Sprintf("e%d", 1+i/10), Epoch: uint64(1 + i/10), PID: 7, Seq: int64(i)})
	}
	return e
}

func (e *Evidence) ask(dag, run string) {
	e.Triggers = append(e.Triggers, Trigger{DAG: dag, Run: run, At: noon, Asked: 1, Acknowledged: true})
	e.Runs = append(e.Runs, DagRun{DAG: dag, Run: run, State: "success"})
}

func (e *Evidence) date(seconds float64) {
	date := at(seconds)
	e.Runs = append(e.Runs, DagRun{DAG: clockDAG, Run: fmt.Sprintf("scheduled-%v", seconds), State: "success", Date: &date})
}

// task adds a try with a body of one second: what it says itself, Airflow's row, the notes and the message.
func (e *Evidence) task(t Task, number int, begin float64, outcome string) {
	id := fmt.Sprintf("%s#%d", t, number)
	e.Bodies = append(e.Bodies, Body{
		Task: t, ID: "body of " + id, Try: number, Instance: id, Begin: at(begin).UnixNano(), End: at(begin + 1).UnixNano(),
		BeganAt: at(begin), EndedAt: at(begin + 1), Outcome: outcome,
	})
	if seconds, scheduled := strings.CutPrefix(t.Run, "scheduled-"); scheduled {
		e.Bodies[len(e.Bodies)-1].Date = map[string]string{"0": "2026-11-30T12:00:00+00:00", "15": "2026-11-30T12:00:15+00:00"}[seconds]
	}
	state := map[string]string{outcomeDone: "success", outcomeFailed: "failed"}[outcome]
	end := at(begin + 1.1)
	e.Instances = append(e.Instances, Instance{Task: t, ID: id, Try: number, State: state, Current: outcome == outcomeDone, Ended: &end})
	was, epoch := "scheduled", "1"
	if begin > 5 {
		epoch = "2"
	}
	for i, now := range []string{"queued", "running", state} {
		e.Notes = append(e.Notes, Note{
			Task: t, At: at(begin - 0.2 + []float64{0, 0.1, 1.3}[i]), Login: "df_airflow_scheduler_e" + epoch, Was: was, State: now, Before: id, ID: id, Try: number, Message: "message of " + id,
		})
		was = now
	}
	slices.SortFunc(e.Notes, func(a, b Note) int { return a.At.Compare(b.At) })
	e.Messages = append(e.Messages, Message{ID: "message of " + id, Status: "SUCCESS"})
}

// body finds one by its id.
func (e *Evidence) body(id string) *Body {
	at := slices.IndexFunc(e.Bodies, func(b Body) bool { return b.ID == "body of "+id })
	return &e.Bodies[at]
}

// instance finds one by its id.
func (e *Evidence) instance(id string) *Instance {
	at := slices.IndexFunc(e.Instances, func(i Instance) bool { return i.ID == id })
	return &e.Instances[at]
}

const (
	chainTask = chainDAG + "/asked-1/chain0_0#1"
	failedTry = mappedDAG + "/asked-2/each[0]#1"
	clockTask = clockDAG + "/scheduled-0/tick#1"
	secondTry = mappedDAG + "/asked-2/each[0]#2"
)

func TestASoundRunIsSound(t *testing.T) {
	if wrong := judge(made()); len(wrong) > 0 {
		t.Errorf("the judge says %q", wrong)
	}
}

// TestARunCanFail tampers with a sound run in every way that the judge knows.
func TestARunCanFail(t *testing.T) {
	for _, c := range []struct {
		name, want string
		tamper     func(*Evidence)
	}{
		{"a try that ran twice", "try 1 of tasks_chain/asked-1/chain0_0 ran twice", func(e *Evidence) {
			again := *e.body(chainTask)
			again.ID, again.Instance, again.Begin, again.End = "again", "another", again.End+1, again.End+2
			e.Bodies = append(e.Bodies, again)
		}},
		{"an instance that ran twice", "instance " + chainTask, func(e *Evidence) {
			again := *e.body(chainTask)
			again.ID, again.Try, again.Begin, again.End = "again", 2, again.End+1, again.End+2
			e.Bodies = append(e.Bodies, again)
		}},
		{"two bodies at a time", "overlap by 300ms", func(e *Evidence) {
			e.body(failedTry).End = e.body(secondTry).Begin + int64(300*time.Millisecond)
		}},
		{"a body that met another one", "found another one alive", func(e *Evidence) { e.body(secondTry).Beside = true }},
		{"a run that was lost", "run tasks_chain/asked-1 was asked for and is there 0 times", func(e *Evidence) {
			e.Runs = slices.DeleteFunc(e.Runs, func(r DagRun) bool { return r.Run == "asked-1" })
		}},
		{"a run that is there twice", "run tasks_chain/asked-1 was asked for and is there 2 times", func(e *Evidence) { e.Runs = append(e.Runs, e.Runs[0]) }},
		{"a run that nobody asked for", "nobody asked for it", func(e *Evidence) {
			e.Runs = append(e.Runs, DagRun{DAG: chainDAG, Run: "asked-3", State: "success"})
		}},
		{"a date that was left out", "date 2026-11-30T12:00:15Z of tasks_clock is there 0 times", func(e *Evidence) {
			e.Runs = slices.DeleteFunc(e.Runs, func(r DagRun) bool { return r.Run == "scheduled-15" })
		}},
		{"a date with two runs", "date 2026-11-30T12:00:15Z of tasks_clock is there 2 times", func(e *Evidence) { e.date(15) }},
		{"a date of its own", "is none of the schedule's", func(e *Evidence) { e.date(20) }},
		{"a schedule that never was", "no schedule", func(e *Evidence) { e.Run.Clock = Clock{} }},
		{"a body of a run that is not there", "whose run is not there", func(e *Evidence) { e.body(chainTask).Run = "other" }},
		{"a body of another date", "whose run is of 2026-11-30 12:00:00", func(e *Evidence) { e.body(clockTask).Date = "2026-11-30T12:00:15Z" }},
		{"a body whose instance was taken back", "which is not there", func(e *Evidence) { e.body(failedTry).Instance = "older" }},
		{"a task without an end", "is queued in the end", func(e *Evidence) { e.instance(chainTask).State = "queued" }},
		{"a run without an end", "run tasks_chain/asked-1 is running", func(e *Evidence) { e.Runs[0].State = "running" }},
		{"a run that failed", "run tasks_chain/asked-1 is failed", func(e *Evidence) { e.Runs[0].State = "failed" }},
		{"a success that never ran", "is called a success and has 0 bodies", func(e *Evidence) {
			e.Bodies = slices.DeleteFunc(e.Bodies, func(b Body) bool { return b.Instance == chainTask })
		}},
		{"a success whose body was cut", `says "cut"`, func(e *Evidence) { e.body(chainTask).Outcome = outcomeCut }},
		{"a success of another try", "try 2 of tasks_chain/asked-1/chain0_0 is called a success", func(e *Evidence) { e.instance(chainTask).Try = 2 }},
		{"a late commit", "1 stale", func(e *Evidence) {
			e.Commits = append(e.Commits, commitorder.Row{Node: "e1", Epoch: 1, PID: 7, Seq: 99})
		}},
		{"a trial without an end", "did not recover", func(e *Evidence) { e.Trials[0].Stuck = "nobody is active" }},
		{"no trials", "the witness is blind", func(e *Evidence) { e.Trials = nil }},
		{"no journal", "the witness is blind", func(e *Evidence) { e.Bodies = nil }},
		{"no notes", "the witness is blind", func(e *Evidence) { e.Notes = nil }},
		{"no commits", "the witness is blind", func(e *Evidence) { e.Commits = nil }},
		{"no triggers", "the witness is blind", func(e *Evidence) { e.Triggers = nil }},
		{"no messages", "the witness is blind", func(e *Evidence) { e.Messages = nil }},
	} {
		e := made()
		c.tamper(e)
		if wrong := judge(e); !slices.ContainsFunc(wrong, func(line string) bool { return strings.Contains(line, c.want) }) {
			t.Errorf("%s: the judge says %q, want %q", c.name, wrong, c.want)
		}
	}
}

// TestATriggerWithoutAnAnswer: nobody knows whether that run is there, and both is right; twice is not.
func TestATriggerWithoutAnAnswer(t *testing.T) {
	e := made()
	e.Triggers = append(e.Triggers, Trigger{DAG: chainDAG, Run: "asked-3", At: noon, Asked: 40})
	if wrong := judge(e); len(wrong) > 0 {
		t.Errorf("a run that is not there: %q", wrong)
	}
	e.Runs = append(e.Runs, DagRun{DAG: chainDAG, Run: "asked-3", State: "success"})
	if wrong := judge(e); len(wrong) > 0 {
		t.Errorf("a run that is there: %q", wrong)
	}
}

// TestABodyThatNeverEnded is over when the lock of its task is free.
func TestABodyThatNeverEnded(t *testing.T) {
	e := made()
	b := e.body(failedTry)
	b.End, b.Outcome = 0, ""
	if wrong := judge(e); len(wrong) > 0 {
		t.Errorf("the judge says %q", wrong)
	}
	if c := total(countAll(e)); c.Cut != 1 || c.Again != 1 {
		t.Errorf("counted as %+v, want one that was cut and one task with two bodies", c)
	}
}
