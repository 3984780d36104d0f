package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

// figures are what the demo has counted.
type figures struct {
	SetUp     time.Duration
	Takeovers []account
	Pipeline  *passage
	// Runs are the DAG runs, Unfinished those of them that did not succeed.
	Runs, Unfinished int
	Tasks            lab.Beats
	Order            commitorder.Verdict
	// Dashboard is where the strikes are drawn; it has answered.
	Dashboard string
}

// finish waits for every run to end and counts.
func (s *stage) finish(ctx context.Context, f *figures) error {
	ctx, cancel := context.WithTimeout(ctx, 2*stuckAfter)
	defer cancel()
	s.say("no new runs; waiting for those under way to end")
	for _, id := range s.runs {
		state, err := s.world.Airflow.AwaitRun(ctx, id)
		if err != nil {
			return err
		}
		f.Runs++
		if state != "success" {
			f.Unfinished++
		}
	}
	var err error
	if f.Tasks, err = s.world.Airflow.Beats(ctx, ""); err != nil {
		return err
	}
	f.Order, err = s.world.CommitOrder(ctx)
	return err
}

// wrong says which figure breaks a promise; empty when none does. How long things took is shown and never judged: a
// slow machine is not a broken one.
func (f *figures) wrong() string {
	switch {
	case f.Tasks.Twice != 0:
		return fmt.Sprintf("%d tasks ran twice", f.Tasks.Twice)
	case f.Unfinished != 0:
		return fmt.Sprintf("%d of %d runs did not succeed", f.Unfinished, f.Runs)
	case f.Tasks.Tasks == 0 || f.Order.Rows == 0:
		return "no work was done, so nothing was shown"
	case !f.Order.Sound():
		return "an old epoch committed after a newer one: " + f.Order.Example
	case f.Order.Epochs != len(f.Takeovers)+1:
		return fmt.Sprintf("%d epochs wrote, want one more than the %d takeovers", f.Order.Epochs, len(f.Takeovers))
	}
	if f.Dashboard == "" {
		return "the dashboard did not answer"
	}
	return f.Pipeline.wrong()
}

func (f *figures) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "takeover\tfault\tfrom\tto\tbeat lost\tgrant\tfence\tdrain\tadopt\tgo to job row\tfault to job row\tfault to first task queued\t")
	for i, t := range f.Takeovers {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t", i+1, t.Fault, t.From, t.To)
		for _, name := range []string{"detect", "grant", "fence", "drain", "adopt", "start"} {
			fmt.Fprintf(w, "%.0f ms\t", ms(t.took(name)))
		}
		fmt.Fprintf(w, "%.0f ms\t%.0f ms\t\n", ms(t.JobRow), ms(t.FirstQueued))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var kills []time.Duration
	for _, t := range f.Takeovers {
		if t.Fault == "SIGKILL" {
			kills = append(kills, t.FirstQueued)
		}
	}
	slices.SortFunc(kills, cmp.Compare)
	_, err := fmt.Fprintf(out, `set up in %s
takeovers                                           %6d
  SIGKILL to first task queued, median of %-3d       %6.0f ms
DAG runs, all of them successful                    %6d of %d
tasks run                                           %6d
tasks run twice                                     %6d
commits of the schedulers, by %d epochs            %9d
commits of an old epoch after a newer one's first   %6d
`, f.SetUp.Round(100*time.Millisecond), len(f.Takeovers), len(kills), ms(kills[len(kills)/2]),
		f.Runs-f.Unfinished, f.Runs, f.Tasks.Tasks, f.Tasks.Twice, f.Order.Epochs, f.Order.Rows, f.Order.Stale)
	if err != nil {
		return err
	}
	if err := f.Pipeline.write(out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "dashboard %s\n", f.Dashboard)
	return err
}

func (t account) took(name string) time.Duration {
	for _, p := range t.Phases {
		if p.Name == name {
			return p.Took
		}
	}
	return 0
}
