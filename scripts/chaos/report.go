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

// event is one injected fault and what came of it.
type event struct {
	Fault string
	Node  string
	// Epoch was active before, After after it.
	Epoch, After uint64
	// Gap is the longest time without a committed row of the job.
	Gap time.Duration
	// Stuck says why the cluster did not recover; empty when it did.
	Stuck string `json:",omitempty"`

	planned  bool
	from, to time.Time
}

func (e event) String() string {
	if e.Stuck != "" {
		return fmt.Sprintf("chaos: %-18s %s  did not recover: %s", e.Fault, e.Node, e.Stuck)
	}
	return fmt.Sprintf("chaos: %-18s %s  epoch %d -> %d, longest time without a row %s",
		e.Fault, e.Node, e.Epoch, e.After, e.Gap.Round(time.Millisecond))
}

// report is a whole run.
type report struct {
	Seed    uint64
	Started time.Time
	Events  []event
	Order   commitorder.Verdict
}

func (r *report) add(e event) { r.Events = append(r.Events, e) }

// Sound reports whether every promise was kept.
func (r *report) Sound() bool {
	for _, e := range r.Events {
		if e.Stuck != "" {
			return false
		}
	}
	return r.Order.Sound()
}

func (r *report) failovers() int {
	n := 0
	for _, e := range r.Events {
		if e.After != e.Epoch {
			n++
		}
	}
	return n
}

// table writes the report for people.
func (r *report) table(out io.Writer) error {
	byFault := map[string][]event{}
	for _, e := range r.Events {
		byFault[e.Fault] = append(byFault[e.Fault], e)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tn\tmoved\tgap p50\tgap max")
	for _, name := range slices.Sorted(maps.Keys(byFault)) {
		events := byFault[name]
		gaps, moved := make([]time.Duration, 0, len(events)), 0
		for _, e := range events {
			gaps = append(gaps, e.Gap)
			if e.After != e.Epoch {
				moved++
			}
		}
		slices.SortFunc(gaps, cmp.Compare)
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", name, len(events), moved,
			gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d: %d faults, %d moves of the job, %d epochs, %d rows committed (%d of them with stolen credentials)\n",
		r.Seed, len(r.Events), r.failovers(), r.Order.Epochs, r.Order.Rows, r.Order.StolenRows)
	_, err := fmt.Fprintf(out, "committed by an old epoch after a newer one's first: %d; epochs with two nodes: %d; rows twice: %d\n",
		r.Order.Stale, r.Order.Shared, r.Order.Twice)
	if r.Order.Example != "" {
		_, err = fmt.Fprintf(out, "for example: %s\n", r.Order.Example)
	}
	return err
}
