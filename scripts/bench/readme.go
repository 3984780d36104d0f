package main

import (
	"fmt"
	"strings"

	"github.com/duoflow/duoflow/scripts/figures"
)

const (
	blockBegin = "<!-- bench:begin; written by `make bench-readme` from scripts/bench/results/bench.json -->\n"
	blockEnd   = "<!-- bench:end -->\n"
)

var marked = figures.Block{Begin: blockBegin, End: blockEnd}

// rewrite puts the figures into the marked block of a file.
func (r *Report) rewrite(path string) error { return marked.Rewrite(path, r.block()) }

// block is what the README says of the benchmark.
func (r *Report) block() string {
	var b strings.Builder
	b.WriteString("\n")
	if cells := r.airflowCells(); len(cells) > 0 {
		r.airflowBlock(&b, cells)
	}
	if len(r.Runs) > 0 {
		r.stubBlock(&b)
	}
	fmt.Fprintf(&b, "Measured on %s, %d processors, Linux %s, %s; load average at the faults %s.\n\n",
		r.Started.UTC().Format("2006-01-02"), r.CPUs, r.Kernel, r.commits(), r.loads())
	return b.String()
}

func (r *Report) airflowBlock(b *strings.Builder, cells []AirflowCell) {
	fmt.Fprintf(b, `Real Airflow (%s), the scheduler's host killed in the moment at which tasks are queued and not sent; seconds from the
kill, p50 / max:

| | kills | row in table `+"`job`"+` | dead one's tasks adopted | first task queued | unsent tasks queued again | tasks run twice | commits of an old epoch after a newer one's first |
|---|---:|---:|---:|---:|---:|---:|---:|
`, r.Airflow.Versions)
	for _, c := range cells {
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %d of %d | %s |\n", c.System, c.N, c.JobRow, c.Adopted, c.First, c.Again,
			c.Twice, c.Tasks, c.stale())
	}
	b.WriteString("\n")
}

func (r *Report) stubBlock(b *strings.Builder) {
	fmt.Fprintf(b, `A stub job that commits a row every 5 ms, up to %d runs of each: time from the old owner's last row to the new one's first; in brackets
runs in which the old owner committed after the new one (split), in which two wrote at the end, and in which nobody did:

| fault | duoflow p50 | p99 | max |`, r.most())
	var peers []string
	for _, s := range r.Systems {
		if s.Name != ours {
			peers = append(peers, s.Name)
			fmt.Fprintf(b, " %s p50 / max |", s.Name)
		}
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", 3+len(peers)) + "\n")
	byKey := map[string]Cell{}
	for _, c := range r.cells() {
		byKey[stubKey(c.Fault, c.System)] = c
	}
	for _, f := range faults {
		row := ""
		if cell, ok := byKey[stubKey(f.name, ours)]; ok {
			row = fmt.Sprintf(" %s |", strings.Join(strings.Split(cell.Gap.text(cell.N > cell.None), "\t"), " | "))
			row = strings.TrimSuffix(row, " |") + cell.bracket() + " |"
		}
		for _, peer := range peers {
			row += " " + byKey[stubKey(f.name, peer)].peer() + " |"
		}
		if row != strings.Repeat("  |", len(peers)) {
			fmt.Fprintf(b, "| %s |%s\n", f.name, row)
		}
	}
	b.WriteString("\n")
	if r.Postgres < 16 {
		fmt.Fprintf(b, "queued-statement: on Postgres %d, as on all before 16, duoflow takes over only when the stopped session is gone, so its gap is as long as the stop.\n", r.Postgres)
	}
	mine := r.own()
	fmt.Fprintf(b, "duoflow, all %d runs: %d rows of an old epoch after a newer one's first, %d runs without exactly one writer at the end.\n\n",
		mine.N, mine.StaleMax, mine.Split+mine.Nobody)
}

// own is all that duoflow's runs say together.
func (r *Report) own() Cell {
	var runs []Run
	for _, run := range r.Runs {
		if own(run.System) {
			runs = append(runs, run)
		}
	}
	return cellOf(runs)
}

// peer is a cell of the README: the gap where there was one, and what went wrong.
func (c Cell) peer() string {
	switch {
	case c.N == 0:
		return ""
	case c.N == c.None && c.Nobody == c.N:
		return fmt.Sprintf("nobody took over%s", c.bracket())
	case c.N == c.None && c.Silence.Max > 1:
		return fmt.Sprintf("stays, up to %s without a row%s", seconds(c.Silence.Max), c.bracket())
	case c.N == c.None:
		return fmt.Sprintf("stays%s", c.bracket())
	case c.N == c.None+c.StaleRuns:
		return strings.Trim(c.bracket(), " ()")
	}
	return fmt.Sprintf("%s / %s%s", seconds(c.Gap.P50), seconds(c.Gap.Max), c.bracket())
}

func (c Cell) bracket() string {
	var parts []string
	for _, p := range []struct {
		n    int
		text string
	}{{c.StaleRuns, "split"}, {c.Split, "two at the end"}, {c.Nobody, "nobody at the end"}, {c.Late, "only after it was undone"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
