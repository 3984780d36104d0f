package main

import (
	"fmt"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// AirflowCell is what the kills of one way to have a scheduler run say together.
type AirflowCell struct {
	System                        string
	N, Unsent                     int
	JobRow, Adopted, First, Again takeover.Summary
	Tasks, Twice, Never           int
	Rows, Stale                   int
}

func (r *Report) airflowCells() []AirflowCell {
	var out []AirflowCell
	for _, system := range airflowSystems {
		c := AirflowCell{System: system}
		var row, adopted, first, again []takeover.Span
		rows := map[int64]int{} // they count from the beginning of a laboratory
		for _, k := range r.Airflow.Kills {
			if k.System != system {
				continue
			}
			c.N++
			c.Unsent += k.Unsent
			c.Tasks, c.Twice, c.Never = c.Tasks+k.Tasks, c.Twice+k.Twice, c.Never+k.Never
			rows[k.World.UnixNano()] = max(rows[k.World.UnixNano()], k.Rows)
			c.Stale = max(c.Stale, k.Stale)
			first = append(first, k.First)
			row, adopted, again = known(row, k.JobRow), known(adopted, k.Adopted), known(again, k.Again)
		}
		if c.N == 0 {
			continue
		}
		for _, n := range rows {
			c.Rows += n
		}
		c.JobRow, c.Adopted = takeover.Summarize(row), takeover.Summarize(adopted)
		c.First, c.Again = takeover.Summarize(first), takeover.Summarize(again)
		out = append(out, c)
	}
	return out
}

func known(spans []takeover.Span, s *takeover.Span) []takeover.Span {
	if s == nil {
		return spans
	}
	return append(spans, *s)
}

// stale says how many commits of how many were of an old epoch; natively there are no epochs.
func (c AirflowCell) stale() string {
	if c.System == native {
		return "-"
	}
	return fmt.Sprintf("%d of %d", c.Stale, c.Rows)
}
