package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/scripts/figures"
)

const (
	blockBegin = "<!-- bench-etl:begin; written by `make bench-etl` from scripts/benchetl/results/benchetl.json -->\n"
	blockEnd   = "<!-- bench-etl:end -->\n"
)

var marked = figures.Block{Begin: blockBegin, End: blockEnd}

// rewrite puts the figures into the marked block of a file.
func (r *Report) rewrite(path string) error {
	if r.Engine == kindSpark {
		return markedSpark.Rewrite(path, r.sparkBlock())
	}
	return marked.Rewrite(path, r.block())
}

// block is what the README says of the benchmark.
func (r *Report) block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d years of synthetic tiles of real size: %.1f M rows, %.0f MB of packed files.\n\n", r.Years, float64(r.Rows)/1e6, float64(r.Packed)/1e6)
	r.goalTable(&b)
	r.pipelineLine(&b)
	b.WriteString("\n| work | system | n | seconds p50 / max | rate at p50 | peak memory | duoetl to it |\n|---|---|---:|---:|---:|---:|---:|\n")
	for _, c := range r.cells() {
		if c.Part == partPipeline {
			continue
		}
		note := ""
		if whole := r.scaled(c); whole > 0 && c.Work == workSums {
			note = fmt.Sprintf(" (%.1f M rows; all would take %.0f s)", c.Amount/1e6, whole)
		} else if c.Part == partLoad {
			note = fmt.Sprintf(" (%.1f M rows)", c.Amount/1e6)
		}
		ratio := c.ratio()
		if c.System == ours {
			ratio = ""
		}
		fmt.Fprintf(&b, "| %s: %s | %s | %d | %.2f / %.2f%s | %s | %s | %s |\n", c.Part, c.Work, c.System, c.N, c.P50, c.Max, note, c.rate(c.Rate), mebibytes(c.Peak), ratio)
	}
	fmt.Fprintf(&b, "\nMeasured on %s, %d processors, Linux %s, %s, PostgreSQL %d with fsync, commit %s; load average before the runs %s.\nPeers: ",
		r.Started.Format("2006-01-02"), r.CPUs, r.Kernel, r.Go, r.Postgres, r.Commit, r.loads())
	var versions []string
	for _, system := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, r.Versions[system])
	}
	fmt.Fprintf(&b, "%s.\n\n", strings.Join(versions, "; "))
	return b.String()
}

func (r *Report) goalTable(b *strings.Builder) {
	goals := r.goals()
	if len(goals) == 0 {
		return
	}
	b.WriteString("| goal | wanted | measured | held |\n|---|---|---:|---|\n")
	for _, g := range goals {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", g.name, g.wanted, g.measured, g.verdict())
	}
}

// pipelineLine says where the time of the whole pipeline goes.
func (r *Report) pipelineLine(b *strings.Builder) {
	c := r.cell(partPipeline, workWhole, ours)
	if c.N == 0 {
		return
	}
	fmt.Fprintf(b, "\nThe whole pipeline, %s: %.1f s (p50 of %d, max %.1f), %s, %s at most in duoetl.", workWhole, c.P50, c.N, c.Max, c.rate(c.Rate), mebibytes(c.Peak))
	last := slices.IndexFunc(r.Runs, func(run Run) bool { return run.Part == partPipeline })
	var steps []string
	for _, name := range []string{"extract", "copy", "ingest", "aggregate", "load", "publish"} {
		steps = append(steps, fmt.Sprintf("%s %.1f", name, r.Runs[last].Steps[name]))
	}
	fmt.Fprintf(b, " Seconds in each step, three of which are at work at a time: %s;\nduoetl used %.1f s of processor time.\n", strings.Join(steps, ", "), r.Runs[last].CPU)
}
