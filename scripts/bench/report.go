package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is a whole benchmark: every single run, so that whatever is said of them can be computed again.
type Report struct {
	Started  time.Time
	CPUs     int
	Kernel   string
	Go       string
	Postgres int // major version
	Systems  []About
	Runs     []Run
	Void     []Void `json:",omitempty"`
}

// Void is a run that was thrown away, and why.
type Void struct{ Fault, System, Why string }

func newReport(postgres int) *Report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // only for people to read
	return &Report{
		Started: time.Now(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Postgres: postgres,
		Kernel: string(trimNewline(kernel)),
	}
}

func trimNewline(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return text[:n-1]
	}
	return text
}

// write replaces the file as a whole.
func (r *Report) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return replace(path, text)
}

func replace(path string, text []byte) error {
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readReport(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}

// Cell is what the runs of one fault on one system say together.
type Cell struct {
	Fault, System    string
	N, Void          int
	None, Late       int // runs without a new incarnation, and with one only after the fault was healed
	Gap, After       Spread
	Silence          Spread
	StaleRuns        int
	StaleMax         int
	Split, Nobody    int // runs with more than one writer at the end, and with none
	LoadMin, LoadMax float64
}

// Spread is of the runs that had a new incarnation, of Silence of all; in seconds.
type Spread struct{ P50, P99, Max float64 }

func spread(values []float64) Spread {
	return Spread{quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)}
}

// cells groups the runs, in the order in which faults and systems appear. A cell with void runs only is there too.
func (r *Report) cells() []Cell {
	type key struct{ fault, system string }
	grouped, void := map[key][]Run{}, map[key]int{}
	var faultNames []string
	note := func(name string) {
		if !slices.Contains(faultNames, name) {
			faultNames = append(faultNames, name)
		}
	}
	for _, run := range r.Runs {
		note(run.Fault)
		k := key{run.Fault, run.System}
		grouped[k] = append(grouped[k], run)
	}
	for _, v := range r.Void {
		note(v.Fault)
		void[key{v.Fault, v.System}]++
	}
	var out []Cell
	for _, name := range faultNames {
		for _, system := range r.Systems {
			k := key{name, system.Name}
			if len(grouped[k])+void[k] == 0 {
				continue
			}
			c := cellOf(grouped[k])
			c.Fault, c.System, c.Void = name, system.Name, void[k]
			out = append(out, c)
		}
	}
	return out
}

func cellOf(runs []Run) Cell {
	c := Cell{N: len(runs)}
	var gaps, afters, silences, loads []float64
	for _, run := range runs {
		silences = append(silences, run.Silence)
		loads = append(loads, run.Load)
		c.StaleMax = max(c.StaleMax, run.Stale)
		c.StaleRuns += count(run.Stale > 0)
		c.Split += count(run.Writers > 1)
		c.Nobody += count(run.Writers == 0)
		c.Late += count(run.Late)
		if run.New == 0 {
			c.None++
			continue
		}
		gaps, afters = append(gaps, run.Gap), append(afters, run.After)
	}
	c.Gap, c.After, c.Silence = spread(gaps), spread(afters), spread(silences)
	c.LoadMin, c.LoadMax = quantile(loads, 0), quantile(loads, 1)
	return c
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// table writes the report for people.
func (r *Report) table(out io.Writer) {
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
	fmt.Fprintf(out, "started %s, %d processors, Linux %s, Postgres %d, load average at the faults %s\n",
		r.Started.Format(time.RFC3339), r.CPUs, r.Kernel, r.Postgres, r.loads())
}

func (r *Report) loads() string {
	var all []float64
	for _, run := range r.Runs {
		all = append(all, run.Load)
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

// broken lists the runs in which duoflow did not keep its promise. Time is no part of it, and no peer is judged.
func (r *Report) broken() []Run {
	var out []Run
	for _, run := range r.Runs {
		if run.System == "duoflow" && (run.Stale > 0 || run.Shared > 0 || run.Writers != 1) {
			out = append(out, run)
		}
	}
	return out
}

// empty lists the cells that no valid run fills.
func (r *Report) empty() []Cell {
	return slices.DeleteFunc(r.cells(), func(c Cell) bool { return c.N > 0 })
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
