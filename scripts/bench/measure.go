package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// committed is a row with the commit time that Postgres noted.
type committed struct {
	commitorder.Row
	At time.Time
}

// Run is what one fault did to one system. Durations are in seconds.
type Run struct {
	Fault, System string
	Host          string    // that had the writer
	At            time.Time // of the fault
	Old, New      uint64    // incarnations; New 0 = none came
	NewHost       string
	// Gap is from the old incarnation's last row before the new one's first to that first row.
	Gap float64
	// After is from the fault to the new one's first row.
	After float64
	// Silence is the longest time without any row, from the last one before the fault to the end.
	Silence float64
	// Late: the new one came only after the fault was healed.
	Late bool
	// Stale are rows of an older incarnation after a newer one's first, in the order of the log; StaleByTime the same
	// by commit time.
	Stale, StaleByTime int
	// Shared are rows of an incarnation by another host than its first; of value for epochs only.
	Shared int
	// Writers are incarnations that committed in the last second of the observation.
	Writers int
	Rows    int
	Load    float64 // of the machine, one minute, at the fault
	Took    float64 // seconds that the whole run took
}

// window is the time in which a run was watched.
type window struct {
	fault, healed, end time.Time
}

// aliveWithin is how far back from the end a row proves a writer.
const aliveWithin = time.Second

// measure fills in what the rows, in commit order, say. r.Old is the incarnation before the fault.
func (r *Run) measure(rows []committed, w window) {
	r.At, r.Rows = w.fault, len(rows)
	r.order(rows)
	r.takeover(rows, w)
	alive := map[uint64]bool{}
	byTime := slices.Clone(rows)
	slices.SortStableFunc(byTime, func(a, b committed) int { return a.At.Compare(b.At) })
	last := time.Time{}
	for _, row := range byTime {
		if row.At.After(w.fault) && row.At.Before(w.end) && !last.IsZero() {
			r.Silence = max(r.Silence, row.At.Sub(last).Seconds())
		}
		if row.At.After(w.end.Add(-aliveWithin)) && row.At.Before(w.end) {
			alive[row.Epoch] = true
		}
		if row.At.Before(w.end) {
			last = row.At
		}
	}
	r.Silence = max(r.Silence, w.end.Sub(last).Seconds())
	r.Writers = len(alive)
}

func (r *Run) order(rows []committed) {
	plain := func(rows []committed) []commitorder.Row {
		out := make([]commitorder.Row, 0, len(rows))
		for _, row := range rows {
			out = append(out, row.Row)
		}
		return out
	}
	verdict := commitorder.Examine(plain(rows))
	r.Stale, r.Shared = verdict.Stale, verdict.Shared
	byTime := slices.Clone(rows)
	slices.SortStableFunc(byTime, func(a, b committed) int { return a.At.Compare(b.At) })
	r.StaleByTime = commitorder.Examine(plain(byTime)).Stale
}

func (r *Run) takeover(rows []committed, w window) {
	var before time.Time
	for _, row := range rows {
		if row.Epoch <= r.Old {
			before = row.At
			continue
		}
		r.New, r.NewHost = row.Epoch, row.Node
		r.Gap, r.After = row.At.Sub(before).Seconds(), row.At.Sub(w.fault).Seconds()
		r.Late = !w.healed.IsZero() && row.At.After(w.healed)
		return
	}
}

// quantile is the smallest value that at least the share q of the values does not exceed (nearest rank); with n below
// 100 the p99 is therefore the maximum. 0 without values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare)
	rank := int(q * float64(len(sorted)))
	if float64(rank) < q*float64(len(sorted)) {
		rank++
	}
	return sorted[min(max(rank, 1), len(sorted))-1]
}
