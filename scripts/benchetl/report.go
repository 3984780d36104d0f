package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/duoflow/duoflow/scripts/figures"
)

// Parts of the benchmark, in the order in which they are played.
const (
	partPipeline = "pipeline"
	partIngest   = "ingest"
	partLoad     = "load"
	partCopy     = "copy"
)

var parts = []string{partPipeline, partIngest, partLoad, partCopy}

// ours is the system that the others are beside.
const ours = "duoetl"

// Report is all that was measured.
type Report struct {
	Started  time.Time
	Commit   string
	CPUs     int
	Kernel   string
	Remark   string `json:",omitempty"` // on the load
	Go       string
	Postgres int
	Engine   string `json:",omitempty"` // spark: the pipeline with both engines; empty in older reports
	Years    int
	Rows     int64 // tiles of those years, as the generator says
	Strikes  int64
	Packed   int64             // bytes of their files
	Versions map[string]string // of the peers
	Runs     []Run
	Broken   []string // results that are not what they should be, a line each
}

// Run is one process that did one thing once.
type Run struct {
	Part    string
	Work    string // what of the part, such as "all years"
	System  string
	Seconds float64 // of the work, without the start of the process; of the whole pipeline with it
	Rows    int64   `json:",omitempty"`
	Bytes   int64   `json:",omitempty"`
	Peak    int64   // bytes resident at most, of this process alone
	Tree    int64   `json:",omitempty"` // bytes resident at most, of it and all that it has started; looked at five times a second
	CPU     float64 // seconds of processors that it used, and all that it has started
	Load    float64 // load average of the minute before
	At      time.Time
	Steps   map[string]float64 `json:",omitempty"` // seconds that each step of the pipeline was at work
}

func newReport(ctx context.Context, years int) *Report {
	return &Report{
		Started: time.Now().UTC().Truncate(time.Second), Commit: said(ctx, "git", "describe", "--always", "--dirty"), CPUs: runtime.NumCPU(),
		Kernel: said(ctx, "uname", "-r"), Go: runtime.Version(), Years: years, Versions: map[string]string{},
	}
}

// said is the first line that a program prints; "unknown" if it cannot be asked.
func said(ctx context.Context, name string, args ...string) string {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// keep takes over the runs of an older report but those of some parts.
func (r *Report) keep(old *Report, but []string) {
	for _, run := range old.Runs {
		if !slices.Contains(but, run.Part) {
			r.Runs = append(r.Runs, run)
		}
	}
	if len(r.Runs) > 0 {
		r.Started, r.Versions, r.Broken = old.Started, old.Versions, old.Broken
		if r.Remark == "" {
			r.Remark = old.Remark
		}
	}
}

// write replaces the file as a whole.
func (r *Report) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return figures.Replace(path, append(text, '\n'))
}

// Cell is all runs of one system at one work.
type Cell struct {
	Part, Work, System string
	N                  int
	P50, Max           float64 // seconds
	Amount             float64 // rows, or bytes of the copy, of one run
	Rate               float64 // amount a second, at P50
	PerCore            float64 // amount a second of processor time
	CPU                float64 // seconds of processors, the mean of all runs
	Peak, Tree         int64   // bytes, the most of all runs
	Ratio              float64 // our rate by this one's; 0 = unknown
}

// cells are in the order in which they were measured first.
func (r *Report) cells() []Cell {
	var out []Cell
	for _, run := range r.Runs {
		same := func(c Cell) bool { return c.Part == run.Part && c.Work == run.Work && c.System == run.System }
		if !slices.ContainsFunc(out, same) {
			out = append(out, r.cell(run.Part, run.Work, run.System))
		}
	}
	rank := func(c Cell) int { return slices.Index(parts, c.Part) }
	slices.SortStableFunc(out, func(a, b Cell) int { return rank(a) - rank(b) })
	for i, c := range out {
		own := slices.IndexFunc(out, func(o Cell) bool { return o.Part == c.Part && o.Work == c.Work && o.System == ours })
		if own >= 0 && c.Rate > 0 {
			out[i].Ratio = out[own].Rate / c.Rate
		}
	}
	return out
}

func (r *Report) cell(part, work, system string) Cell {
	c := Cell{Part: part, Work: work, System: system}
	var seconds []float64
	cpu := 0.0
	for _, run := range r.Runs {
		if run.Part != part || run.Work != work || run.System != system {
			continue
		}
		seconds = append(seconds, run.Seconds)
		c.Amount, c.Peak, c.Tree = float64(max(run.Rows, run.Bytes)), max(c.Peak, run.Peak), max(c.Tree, run.Tree)
		cpu += run.CPU
	}
	c.N = len(seconds)
	if c.N == 0 {
		return c
	}
	c.P50, c.Max = median(seconds), slices.Max(seconds)
	c.Rate, c.CPU = c.Amount/c.P50, cpu/float64(c.N)
	if cpu > 0 {
		c.PerCore = c.Amount * float64(c.N) / cpu
	}
	return c
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// rate spells the amount of a second: rows in millions, bytes in megabytes of 10^6.
func (c Cell) rate(perSecond float64) string {
	if c.Part == partCopy {
		return fmt.Sprintf("%.0f MB/s", perSecond/1e6)
	}
	return fmt.Sprintf("%.2f M rows/s", perSecond/1e6)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func (c Cell) ratio() string {
	if c.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", c.Ratio)
}

// scaled is the time for all years of a system that did fewer.
func (r *Report) scaled(c Cell) float64 {
	if c.Part != partIngest || c.Rate == 0 || int64(c.Amount) == r.Rows {
		return 0
	}
	return float64(r.Rows) / c.Rate
}

func (r *Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "part\twork\tsystem\tn\tseconds p50\tmax\trate\ta second of its processor time\tpeak memory\tduoetl to it")
	for _, c := range r.cells() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.2f\t%.2f\t%s\t%s\t%s\t%s\n", c.Part, c.Work, c.System, c.N, c.P50, c.Max, c.rate(c.Rate), c.rate(c.PerCore), mebibytes(c.Peak), c.ratio())
	}
	fmt.Fprintln(w, "\ngoal\twanted\tmeasured\t")
	for _, g := range r.goals() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.name, g.wanted, g.measured, g.verdict())
	}
	fmt.Fprintf(w, "\n%d years, %d rows, load average before the runs %s\n", r.Years, r.Rows, r.loads())
	return w.Flush()
}

func (r *Report) loads() string {
	var all []float64
	for _, run := range r.Runs {
		all = append(all, run.Load)
	}
	if len(all) == 0 {
		return "unknown"
	}
	text := fmt.Sprintf("%.1f to %.1f", slices.Min(all), slices.Max(all))
	if r.Remark != "" {
		text += " (" + r.Remark + ")"
	}
	return text
}
