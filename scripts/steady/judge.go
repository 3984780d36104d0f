package main

import (
	"fmt"
	"runtime"
	"slices"
)

// judge lists every promise that was not kept, and every reason not to trust that one was.
func (r *Run) judge() []string {
	var broken []string
	add := func(is bool, format string, args ...any) {
		if is {
			broken = append(broken, fmt.Sprintf(format, args...))
		}
	}
	want := life{Node: r.Node, Epoch: r.Epoch}
	if len(r.Lives) > 0 {
		want.PID = r.Lives[0].PID
	}
	add(!slices.Equal(r.Lives, []life{want}), "the job had not one life on %s in epoch %d: %v", r.Node, r.Epoch, r.Lives)
	for _, e := range r.History {
		add(true, "%s of epoch %d on %s: %s", e.Kind, e.Epoch, e.Node, e.Reason)
	}
	for _, s := range r.unexcused() {
		add(true, "no commit for %.3f s from %s on, while a bystander waited %.3f s", s.Job, s.At.Format("15:04:05.000"), s.Others)
	}
	for _, e := range r.Events {
		add(e.Moved != "", "%s moved the job %s", e.Trouble, e.Moved)
		add(e.Stuck != "", "%s: %s", e.Trouble, e.Stuck)
	}
	add(r.Switchover != "", "the switchover at the end: %s", r.Switchover)
	add(!r.Order.Sound(), "commit order: %s", r.Order.Example)
	return append(broken, r.unproven()...)
}

// unproven lists why a run that saw nothing may have looked away.
func (r *Run) unproven() []string {
	var why []string
	add := func(is bool, format string, args ...any) {
		if is {
			why = append(why, fmt.Sprintf(format, args...))
		}
	}
	seconds := r.Minutes * 60
	// The job commits a row every 5 ms and the bystander every 20 ms when nothing is in their way.
	add(float64(r.Job.Commits) < seconds, "only %d commits of the job in %.0f s", r.Job.Commits, seconds)
	add(float64(r.Bystander.Commits) < seconds/2, "only %d commits of the bystander in %.0f s", r.Bystander.Commits, seconds)
	add(r.Order.Rows < r.Job.Commits, "the commit order holds %d rows, the table %d", r.Order.Rows, r.Job.Commits)
	add(r.Faults && len(r.Events) == 0, "no trouble was made")
	add(r.Busy < r.Load*runtime.NumCPU(), "%d busy processes at the end, want %d", r.Busy, r.Load*runtime.NumCPU())
	seen := 0
	for _, s := range r.Samples {
		if s.D > 0 && s.Gaps["0.5"] > 0 {
			seen++
		}
	}
	add(seen == 0, "no leader ever told its detection time")
	return why
}

// unexcused are the stalls that the bystander did not share.
func (r *Run) unexcused() []Stall {
	return slices.DeleteFunc(slices.Clone(r.Stalls), Stall.excused)
}
