package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// record is the report while it grows, with the line of progress. Its methods are safe for concurrent use, and every
// finished run is in the file before the next one begins.
type record struct {
	file string // empty: none
	out  io.Writer

	mu     sync.Mutex
	report *Report
	began  time.Time
	pace   map[string]*pace
}

// pace is how long one kind of run takes.
type pace struct {
	expected float64 // seconds, before anything is known
	total    float64
	n        int
	side     int // how many go side by side
}

func (p *pace) mean() float64 {
	if p.n == 0 {
		return p.expected
	}
	return p.total / float64(p.n)
}

const stub = "stub"

func newRecord(r *Report, o options, out io.Writer) *record {
	return &record{file: o.out, out: out, report: r, began: time.Now(), pace: map[string]*pace{
		stub: {expected: 4.5, side: o.parallel}, warm: {expected: 20, side: 1}, cold: {expected: 25, side: 1},
		native: {expected: o.cap.Seconds() + 50, side: o.labs},
	}}
}

func (r *record) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.print(format, args...)
}

func (r *record) print(format string, args ...any) {
	fmt.Fprintf(r.out, "bench: %7s  %s\n", time.Since(r.began).Round(time.Second), fmt.Sprintf(format, args...))
}

// count is how many valid runs or kills there are under a key of the plan.
func (r *record) count(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.have(key)
}

func (r *record) want(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Plan[key]
}

func (r *record) addRun(run Run) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Runs = append(r.report.Runs, run)
	r.took(stub, run.Took)
	key := stubKey(run.Fault, run.System)
	r.print("%-16s %-10s %2d/%d  %s  (%s)", run.Fault, run.System, r.report.have(key), r.report.Plan[key], run, r.eta())
	return r.save()
}

func (r *record) addVoid(v Void) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Void = append(r.report.Void, v)
	r.print("%-16s %-10s void: %s", v.Fault, v.System, v.Why)
	return r.save()
}

func (r *record) addKill(k *Kill) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Airflow.Kills = append(r.report.Airflow.Kills, k)
	r.took(k.System, k.Took)
	key := airflowKey(k.System)
	r.print("%s %d/%d: %s  (%s)", k.System, r.report.have(key), r.report.Plan[key], k, r.eta())
	return r.save()
}

// change changes something that is in the report already.
func (r *record) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *record) setVersions(versions string, limit time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Airflow.Versions, r.report.Airflow.Cap = versions, limit.Seconds()
}

func (r *record) setPostgres(version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Postgres = version
}

func (r *record) addSystem(about About) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.report.Systems, func(a About) bool { return a.Name == about.Name }) {
		r.report.Systems = append(r.report.Systems, about)
	}
}

func (r *record) took(kind string, seconds float64) {
	r.pace[kind].total += seconds
	r.pace[kind].n++
}

// eta is what is left to do, by the mean of what it has taken so far.
func (r *record) eta() string {
	left := 0.0
	for key, want := range r.report.Plan {
		p := r.pace[kindOf(key)]
		left += float64(max(want-r.report.have(key), 0)) * p.mean() / float64(p.side)
	}
	if left == 0 {
		return "done"
	}
	return "about " + (time.Duration(left) * time.Second).String() + " left"
}

func (r *record) save() error {
	if n := len(r.report.Sittings); n > 0 {
		r.report.Sittings[n-1].Took = time.Since(r.began).Seconds()
	}
	if r.file == "" {
		return nil
	}
	return r.report.write(r.file)
}
