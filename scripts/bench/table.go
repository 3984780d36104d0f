package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// table writes the report for people.
func (r *Report) table(out io.Writer) {
	if len(r.Runs)+len(r.Void) > 0 {
		r.stubTable(out)
	}
	if len(r.Airflow.Kills) > 0 {
		r.airflowTable(out)
	}
	fmt.Fprintf(out, "\nstarted %s, %d processors, Linux %s, %s, load average at the faults %s\n",
		r.Started.Format(time.RFC3339), r.CPUs, r.Kernel, r.commits(), r.loads())
}

func (r *Report) stubTable(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tsystem\tn\tnone\tlate\tgap p50\tp99\tmax\tfault->new p50\tp99\tmax\tsilence max\tstale runs\tstale rows max\t2 writers\t0 writers\tvoid")
	for _, c := range r.cells() {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", c.Fault, c.System, c.N, c.None, c.Late,
			c.Gap.text(c.N > c.None), c.After.text(c.N > c.None), seconds(c.Silence.Max),
			c.StaleRuns, c.StaleMax, c.Split, c.Nobody, c.Void)
	}
	_ = w.Flush()
	fmt.Fprintf(out, `
gap: old owner's last row before the new one's first, to that first row; a gap near 0 with stale rows is a split, not speed.
none: nobody took over while watched (the old one stayed, or nobody wrote: see silence). late: only after the fault was undone.
stale: rows that an older owner committed after a newer one's first, in the order of the write-ahead log. p99 of n < 100 is the maximum.
queued-statement: before Postgres 16 duoflow takes over only when the stopped session is gone, so its gap is as long as the stop.
`)
	for _, s := range r.Systems {
		fmt.Fprintf(out, "%s: %s; %s\n", s.Name, s.Version, s.Settings)
	}
	fmt.Fprintf(out, "all on Postgres %d\n", r.Postgres)
}

// commits names what was measured.
func (r *Report) commits() string {
	var all []string
	for _, s := range r.Sittings {
		if !slices.Contains(all, s.Commit) {
			all = append(all, s.Commit)
		}
	}
	return "commit " + strings.Join(all, ", ")
}

func (r *Report) airflowTable(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nreal Airflow\tkills\tjob row p50\tmax\tadopted p50\tmax\tfirst task queued p50\tmax\tunsent tasks\tqueued again p50\tmax\ttasks\ttwice\tnever\tstale commits")
	for _, c := range r.airflowCells() {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\n", c.System, c.N, both(c.JobRow), both(c.Adopted),
			both(c.First), c.Unsent, both(c.Again), c.Tasks, c.Twice, c.Never, c.stale())
	}
	_ = w.Flush()
	for _, v := range r.Void {
		if v.Fault == "airflow" {
			fmt.Fprintf(out, "given up, %s: %s\n", v.System, v.Why)
		}
	}
	fmt.Fprintf(out, `
Every kill comes when the scheduler has committed that tasks are queued and may not have sent them yet; times are from the kill.
adopted: the last task that the dead one had queued was over or another scheduler's. queued again: the last one it had not sent.
never: not begun when nobody waited any more, after %.0f s natively. A time behind > is not over.
%s
`, r.Airflow.Cap, r.Airflow.Versions)
}

func both(s takeover.Summary) string {
	if s.N == 0 {
		return "-\t-"
	}
	return s.P50.String() + "\t" + s.Max.String()
}

func (r *Report) loads() string {
	var all []float64
	for _, run := range r.Runs {
		all = append(all, run.Load)
	}
	for _, kill := range r.Airflow.Kills {
		all = append(all, kill.Load)
	}
	s := spread(all)
	return fmt.Sprintf("p50 %.1f, max %.1f", s.P50, s.Max)
}

func (s Spread) text(known bool) string {
	if !known {
		return "-\t-\t-"
	}
	return seconds(s.P50) + "\t" + seconds(s.P99) + "\t" + seconds(s.Max)
}

func seconds(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.0f ms", v*1000)
	}
	return fmt.Sprintf("%.2f s", v)
}

// String is the line of progress.
func (r Run) String() string {
	text := fmt.Sprintf("%s -> %s  gap %s, new after %s, ", r.Host, r.NewHost, seconds(r.Gap), seconds(r.After))
	if r.New == 0 {
		text = fmt.Sprintf("%s stays  ", r.Host)
	}
	text += fmt.Sprintf("silence %s, stale %d, writers %d", seconds(r.Silence), r.Stale, r.Writers)
	if r.Late {
		text += ", only after it was healed"
	}
	return text
}
