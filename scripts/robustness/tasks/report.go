package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// Report is what the folders of runs say together.
type Report struct {
	Runs   []Run
	Bodies int
	Tasks  int // different ones
	// Asked and Scheduled are DAG runs.
	Asked, Scheduled int
	Order            commitorder.Verdict // of all runs: counts are added up
	Counts           []*Count
	Total            *Count
	Wrong            []string
}

// newReport judges folders.
func newReport(folders []string) (*Report, error) {
	r := &Report{}
	byFault := map[string]*Count{}
	for _, folder := range folders {
		e, err := readEvidence(folder)
		if err != nil {
			return nil, err
		}
		for _, line := range judge(e) {
			r.Wrong = append(r.Wrong, folder+": "+line)
		}
		r.add(e)
		for _, count := range countAll(e) {
			if byFault[count.Fault] == nil {
				byFault[count.Fault] = &Count{}
				r.Counts = append(r.Counts, byFault[count.Fault])
			}
			sum := total([]*Count{byFault[count.Fault], count})
			sum.Fault = count.Fault
			*byFault[count.Fault] = *sum
		}
	}
	r.Total = total(r.Counts)
	return r, nil
}

func (r *Report) add(e *Evidence) {
	r.Runs = append(r.Runs, e.Run)
	r.Bodies += len(e.Bodies)
	tasks := map[Task]bool{}
	for _, b := range e.Bodies {
		tasks[b.Task] = true
	}
	r.Tasks += len(tasks)
	r.Asked += len(e.Triggers)
	for _, run := range e.Runs {
		if run.DAG == e.Run.Clock.DAG {
			r.Scheduled++
		}
	}
	order := commitorder.Examine(e.Commits)
	r.Order.Rows += order.Rows
	r.Order.Epochs += order.Epochs
	r.Order.Stale += order.Stale
}

// table writes the report for people.
func (r *Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tn\tfailovers\tunsent\tsent\trunning\tended\ttaken back\trefused\tno body\tcut\tunheard\tagain\tfirst p50\tmax\twithout p50\tmax")
	for _, c := range append(r.Counts, r.Total) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", c.Fault, c.Trials, c.Moved, c.Unsent, c.Sent, c.Running,
			c.Finished, c.TakenBack, c.Refused, c.Bodiless, c.Cut, c.Unheard, c.Again, median(c.First), longest(c.First), median(c.Without), longest(c.Without))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprint(out, legend)
	for _, run := range r.Runs {
		fmt.Fprintf(out, "seed %d, %s at %s, %s\n", run.Seed, run.Commit, run.Started.UTC().Format(time.RFC3339), run.Versions)
	}
	_, err := fmt.Fprintf(out, "%d failovers in %d faults; %d runs triggered, %d by schedule; %d tasks, %d bodies; %d statements of %d epochs, %d of them late; %d violations\n",
		r.Total.Moved, r.Total.Trials, r.Asked, r.Scheduled, r.Tasks, r.Bodies, r.Order.Rows, r.Order.Epochs, r.Order.Stale, len(r.Wrong))
	return err
}

const legend = `unsent, sent, running, ended: what tasks were at, at the faults: queued only; with a message sent; body at work; body over, Airflow not told or not done
taken back: queued again as the same try; refused: messages taken up that began no body; tries followed by another other than as planned: no body, cut in
the body, unheard (the body had ended well); again: tasks with more than one body; first: fault to first task queued by the next scheduler; without: longest
time without a task queued; seconds
`

func median(sorted []float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", sorted[len(sorted)/2])
}

func longest(sorted []float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", sorted[len(sorted)-1])
}
