package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// report is a whole run.
type report struct {
	Started  time.Time
	Took     float64 // seconds
	Cap      float64 // seconds that a task was waited for
	Cores    int
	Versions string
	Cases    []caseSummary
	Trials   []*trial
}

// caseSummary is what several trials of a case say together.
type caseSummary struct {
	Case    string
	Missed  int
	Started takeover.Summary
	Left    takeover.Summary
	Wait    takeover.Summary
	Next    takeover.Summary
	Before  takeover.Summary
	After   takeover.Summary
}

// summarizeCases fills in Cases.
func (r *report) summarizeCases() {
	for _, e := range experiments {
		hits, missed := r.of(e.Name)
		if len(hits)+missed == 0 {
			continue
		}
		r.Cases = append(r.Cases, caseSummary{
			Case: e.Name, Missed: missed,
			Started: summaryOf(hits, func(t *trial) takeover.Span { return t.Started }),
			Left:    summaryOf(hits, func(t *trial) takeover.Span { return t.Left }),
			Wait:    summaryOf(hits, func(t *trial) takeover.Span { return t.Wait }),
			Next:    summaryOf(hits, func(t *trial) takeover.Span { return t.Next }),
			Before:  summaryOf(hits, func(t *trial) takeover.Span { return t.Before }),
			After:   summaryOf(hits, func(t *trial) takeover.Span { return t.After }),
		})
	}
}

// broken says which promise of duoflow was not kept, empty when all were. Native Airflow promised nothing here, and no
// time is judged.
func (r *report) broken() string {
	for _, t := range r.Trials {
		if e, ok := caseNamed(t.Case); ok && e.Side == duoflow && t.Twice+t.Never > 0 {
			return fmt.Sprintf("%s, round %d: %d tasks ran twice, %d never", t.Case, t.Round, t.Twice, t.Never)
		}
	}
	return ""
}

// of returns the trials of a case that hit, and how many faults missed.
func (r *report) of(name string) (hits []*trial, missed int) {
	for _, t := range r.Trials {
		if t.Case != name {
			continue
		}
		missed += t.Missed
		if t.Hit {
			hits = append(hits, t)
		}
	}
	return hits, missed
}

// line is one row of the table: a figure of every side.
type line struct {
	name   string
	faults []string                   // of which it is told
	span   func(*trial) takeover.Span // a duration, or
	text   func([]*trial, int) string // anything else, of the hits and the number of misses
	ratio  []string                   // faults for which native is divided by duoflow
}

// lines are what is told. There is no ratio of times that the 1.5 s between two runs decide.
func lines() []line {
	both, killed, frozen := []string{kill, freeze}, []string{kill}, []string{freeze}
	total := func(of func(*trial) int) func([]*trial, int) string {
		return func(hits []*trial, _ int) string { return fmt.Sprint(sum(hits, of)) }
	}
	return []line{
		{name: "faults that hit (missed)", faults: both, text: func(hits []*trial, missed int) string {
			return fmt.Sprintf("%d (%d)", len(hits), missed)
		}},
		{name: "tasks the victim had queued (of them never sent)", faults: killed, text: func(hits []*trial, _ int) string {
			return fmt.Sprintf("%d (%d)", sum(hits, func(t *trial) int { return len(t.Orphans) }), sum(hits, (*trial).unsent))
		}},
		{name: "until all of them had begun", faults: killed, span: func(t *trial) takeover.Span { return t.Started }, ratio: killed},
		{name: "of them not begun within the limit", faults: killed, text: total((*trial).stuck)},
		{name: "until none of them was the victim's any more", faults: killed, span: func(t *trial) takeover.Span { return t.Left }, ratio: killed},
		{name: "until another scheduler queued a task", faults: both, span: func(t *trial) takeover.Span { return t.Next }, ratio: frozen},
		{name: "tasks queued by others during the freeze", faults: frozen, text: total(func(t *trial) int { return t.Meanwhile })},
		{name: "longest wait of a task triggered in the 15 s after", faults: both, span: func(t *trial) takeover.Span { return t.Wait }, ratio: both},
		{name: "longest time without a task queued, 20 s before", faults: both, span: func(t *trial) takeover.Span { return t.Before }},
		{name: "longest time without a task queued, 20 s after", faults: both, span: func(t *trial) takeover.Span { return t.After }, ratio: frozen},
		{name: "tasks of all runs", faults: both, text: total(func(t *trial) int { return t.Tasks })},
		{name: "  run twice", faults: both, text: total(func(t *trial) int { return t.Twice })},
		{name: "  not run within the limit", faults: both, text: total(func(t *trial) int { return t.Never })},
	}
}

func sum(trials []*trial, of func(*trial) int) int {
	total := 0
	for _, t := range trials {
		total += of(t)
	}
	return total
}

func summaryOf(trials []*trial, of func(*trial) takeover.Span) takeover.Summary {
	var all []takeover.Span
	for _, t := range trials {
		all = append(all, of(t))
	}
	return takeover.Summarize(all)
}

// text writes the report for people: every trial, then the table.
func (r *report) text(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %d cores; %s, %.0f s in all\n", r.Versions, r.Cores, r.Started.Format("2006-01-02 15:04 MST"), r.Took)
	fmt.Fprintf(&b, "work: a run of %d independent tasks every %s; a task is waited for up to %.0f s after the fault\n", perRun, runEvery, r.Cap)
	fmt.Fprint(&b, "a time behind > is not over: nobody waited any longer\n\nevery fault\n")
	for _, t := range r.Trials {
		t.write(&b)
	}
	for _, f := range []struct{ fault, title string }{
		{kill, "killed when it had queued tasks and not sent them yet"},
		{freeze, "frozen for 15 s while it held the scheduling lock"},
	} {
		r.table(&b, f.fault, f.title)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// orphanInterval is Airflow's default for orphaned_tasks_check_interval, in seconds.
const orphanInterval = 300

// write tells of one trial, with every value.
func (t *trial) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s, round %d: ", t.Case, t.Round)
	if !t.Hit {
		fmt.Fprintf(b, "missed %d times, nothing measured\n", t.Missed)
		return
	}
	fmt.Fprintf(b, "%s; load %s; %d misses before\n", t.Victim, t.Load, t.Missed)
	if t.Age > 0 && t.Meanwhile < 0 {
		fmt.Fprintf(b, "    the other scheduler was %.0f s old, so its next look for orphans came %.0f s after the fault\n",
			t.Age, orphanInterval-math.Mod(t.Age, orphanInterval))
	}
	if len(t.Orphans) > 0 {
		fmt.Fprintf(b, "    left %d tasks queued, %d of them never sent; all begun after %s, %d not begun; not the victim's any more after %s\n",
			len(t.Orphans), t.unsent(), t.Started, t.stuck(), t.Left)
	}
	fmt.Fprintf(b, "    next task queued by another after %s; longest wait of a task %s; longest time without a task queued: before %s, after %s",
		t.Next, t.Wait, t.Before, t.After)
	if t.Meanwhile >= 0 {
		fmt.Fprintf(b, "; queued by others during the freeze: %d", t.Meanwhile)
	}
	fmt.Fprintf(b, "\n    of %d tasks %d ran twice, %d not at all\n", t.Tasks, t.Twice, t.Never)
}

// table sets native beside duoflow for one fault. Times are medians and, of more than one, the longest.
func (r *report) table(b *strings.Builder, fault, title string) {
	var cases []experiment
	for _, e := range experiments {
		if hits, missed := r.of(e.Name); e.Fault == fault && len(hits)+missed > 0 {
			cases = append(cases, e)
		}
	}
	if len(cases) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s: p50 / max\n", title)
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprint(w, " ")
	for _, c := range cases {
		fmt.Fprintf(w, "\t%s", c.Side)
	}
	own := cases[len(cases)-1]
	for _, c := range cases {
		if c.Side != duoflow && own.Side == duoflow {
			fmt.Fprintf(w, "\t%s : duoflow", map[string]string{pair: "two", restart: "one"}[c.Side])
		}
	}
	fmt.Fprintln(w)
	for _, l := range lines() {
		if slices.Contains(l.faults, fault) {
			fmt.Fprintln(w, strings.TrimRight(l.name+"\t"+strings.Join(r.cells(l, cases), "\t"), "\t"))
		}
	}
	_ = w.Flush() // a strings.Builder never fails
}

// cells are the figures of the cases, and for a duration the ratio of each native one to duoflow's, which is last.
func (r *report) cells(l line, cases []experiment) []string {
	var cells []string
	var all []takeover.Summary
	for _, c := range cases {
		hits, missed := r.of(c.Name)
		if l.text != nil {
			cells = append(cells, l.text(hits, missed))
			continue
		}
		s := summaryOf(hits, l.span)
		all = append(all, s)
		cells = append(cells, s.String())
	}
	last := cases[len(cases)-1]
	if last.Side != duoflow || !slices.Contains(l.ratio, last.Fault) {
		return cells
	}
	for _, s := range all[:len(all)-1] {
		cells = append(cells, ratio(s, all[len(all)-1]))
	}
	return cells
}
