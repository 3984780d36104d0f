package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// Run is everything that was seen. Durations are in seconds.
type Run struct {
	Seed    uint64
	Started time.Time
	Minutes float64
	Faults  bool
	Load    int // busy processes for each processor
	Busy    int // of them alive at the end
	// Node and Epoch are the active ones at the beginning, and should be at the end.
	Node  string
	Epoch uint64
	// Lives are the job's processes that committed.
	Lives []life
	// History is what the log says after the grant of Epoch.
	History []HistoryEntry `json:",omitempty"`
	// Job and Bystander describe the gaps between commits of the job, and of one who has nothing to do with duoflow.
	Job, Bystander Spread
	// Bound is how long the job may commit nothing while the bystander does; Stalls were longer.
	Bound   float64
	Stalls  []Stall `json:",omitempty"`
	Events  []Event `json:",omitempty"`
	Samples []Sample
	Order   commitorder.Verdict
	// Switchover is what was wrong with the one at the end; empty when nothing.
	Switchover     string `json:",omitempty"`
	SwitchoverTook float64
	// Broken is the verdict: every promise that was not kept.
	Broken []string
}

// Event is one trouble.
type Event struct {
	Trouble string
	At      time.Time
	Leader  string // raft leader before
	Lasted  float64
	Whole   float64 // from its end until every node was well
	Epoch   uint64  // active afterwards
	Moved   string  `json:",omitempty"`
	Stuck   string  `json:",omitempty"`
}

// HistoryEntry is a transition that the replicated log knows of.
type HistoryEntry struct {
	Epoch  uint64 `json:"epoch"`
	Node   string `json:"node"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

// measure fills in what the commits say.
func (r *Run) measure(w window, commits []commit, others []time.Time, bound time.Duration) {
	r.Lives = lives(commits)
	r.Job = w.spread(instants(commits))
	beside := window{w.from, r.lastOf(w)}
	r.Bystander = beside.spread(others)
	r.Stalls = w.stalls(instants(commits), others, bound)
}

// lastOf is when the bystander stopped: at the end of the run's minutes, while the job goes on for a moment.
func (r *Run) lastOf(w window) time.Time {
	end := w.from.Add(time.Duration(r.Minutes * float64(time.Minute)))
	if end.After(w.to) {
		return w.to
	}
	return end
}

// elections counts raft terms that began during the run.
func (r *Run) elections() uint64 {
	if len(r.Samples) == 0 {
		return 0
	}
	return r.Samples[len(r.Samples)-1].Term - r.Samples[0].Term
}

// failovers counts grants after the first.
func failovers(history []HistoryEntry) int {
	n := 0
	for _, e := range history {
		if e.Kind == "grant" || e.Kind == "observe" {
			n++
		}
	}
	return n
}

// worst returns the greatest of what the samples say.
func (r *Run) worst(of func(Sample) float64) float64 {
	top := 0.0
	for _, s := range r.Samples {
		top = max(top, of(s))
	}
	return top
}

func fsync(s Sample) float64 {
	top := 0.0
	for _, v := range s.Fsync {
		top = max(top, v)
	}
	return top
}

// minute is the progress line.
func (r *Run) minute(n int, w window, commits []commit) string {
	spread := w.spread(instants(commits))
	line := fmt.Sprintf("steady: minute %3d: %d commits of %v, longest gap %s", n, len(commits), lives(commits), ms(spread.Max))
	if k := len(r.Samples); k > 0 {
		s := r.Samples[k-1]
		line += fmt.Sprintf("; leader %s, term %d, D %s, beat gaps p50 %s p99 %s p99.9 %s max %s, fsync p99 %s",
			s.Leader, s.Term, ms(s.D), ms(s.Gaps["0.5"]), ms(s.Gaps["0.99"]), ms(s.Gaps["0.999"]), ms(s.Gaps["1"]), ms(fsync(s)))
	}
	if k := len(r.Events); k > 0 {
		e := r.Events[k-1]
		line += fmt.Sprintf("; %d troubles, last %s for %.1f s, whole after %.1f s", k, e.Trouble, e.Lasted, e.Whole)
		if e.Moved != "" {
			line += "; MOVED " + e.Moved
		}
	}
	return line
}

func ms(seconds float64) string { return fmt.Sprintf("%.0f ms", 1000*seconds) }

// table writes the report for people.
func (r *Run) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if r.Faults {
		r.troubleTable(w)
	}
	fmt.Fprintln(w, "gaps between\tn\tp50\tp99\tp99.9\tmax")
	for _, row := range []struct {
		name string
		s    Spread
	}{{"commits of the job", r.Job}, {"commits of a bystander", r.Bystander}} {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", row.name, row.s.Commits, ms(row.s.P50), ms(row.s.P99), ms(row.s.P999), ms(row.s.Max))
	}
	quantile := func(q string) func(Sample) float64 { return func(s Sample) float64 { return s.Gaps[q] } }
	fmt.Fprintf(w, "beats (worst look)\t\t%s\t%s\t%s\t%s\n", ms(r.worst(quantile("0.5"))), ms(r.worst(quantile("0.99"))),
		ms(r.worst(quantile("0.999"))), ms(r.worst(quantile("1"))))
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d, %.4g minutes: lives of the job %v, failovers %d, entries in the history %d, raft elections %d\n",
		r.Seed, r.Minutes, r.Lives, failovers(r.History), len(r.History), r.elections())
	fmt.Fprintf(out, "detection at most %s, raft log fsync p99 at most %s, busy processes %d, stalls above %s: %d (not of the metastore: %d)\n",
		ms(r.worst(func(s Sample) float64 { return s.D })), ms(r.worst(fsync)), r.Busy, ms(r.Bound), len(r.Stalls), len(r.unexcused()))
	_, err := fmt.Fprintf(out, "committed by an old epoch after a newer one's first: %d of %d; switchover at the end %s\n",
		r.Order.Stale, r.Order.Rows, ms(r.SwitchoverTook))
	return err
}

func (r *Run) troubleTable(w io.Writer) {
	by := map[string][]Event{}
	for _, e := range r.Events {
		by[e.Trouble] = append(by[e.Trouble], e)
	}
	fmt.Fprintln(w, "trouble\tn\tlasted in all\twhole after, max\tmoved the job")
	for _, name := range slices.Sorted(maps.Keys(by)) {
		var lasted, moved float64
		slowest := slices.MaxFunc(by[name], func(a, b Event) int { return cmp.Compare(a.Whole, b.Whole) })
		for _, e := range by[name] {
			lasted += e.Lasted
			if e.Moved != "" {
				moved++
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f s\t%.1f s\t%.0f\n", name, len(by[name]), lasted, slowest.Whole, moved)
	}
	fmt.Fprintln(w)
}
