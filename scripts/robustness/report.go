package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Figures are what the trials of one type came to. Gaps are in seconds.
type Figures struct {
	Trials    int
	Failovers int // new epochs under which the job committed
	Paired    int // more trials, in which the type was one of a pair
	False     int // trials with a failover that nothing gave a reason for
	Excused   int // the same, on a machine that stood still
	Stuck     int
	Refused   int64
	P50, P99  float64 // of the longest time without a row, in trials with a failover; of all when there is none
	Longest   float64
}

// Report adds up runs.
type Report struct {
	Runs      []*Verdict
	Types     map[string]*Figures
	Trials    int
	Failovers int
	False     int
	Excused   int
	Stuck     int
	Refused   int64
	Rows      int
	Stolen    int
	// Violations are broken promises about what is committed.
	Violations int
	// Bound is the upper end of the 95 % confidence interval (Clopper-Pearson, one-sided) of violations for each failover.
	Bound     float64
	LostAsync int
	Wrong     []string
	Oracle    []string
}

// added examines folders and adds them up. The error says that they cannot be read, or not be trusted.
func added(folders []string) (*Report, error) {
	r := &Report{Types: map[string]*Figures{}}
	for _, path := range folders {
		v, err := examine(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		r.add(v)
	}
	r.addTypes()
	r.Bound = upperBound(r.Violations, r.Failovers)
	if len(r.Oracle) > 0 {
		return nil, fmt.Errorf("the records cannot be trusted: %s", describe(r.Oracle, 10))
	}
	return r, nil
}

func (r *Report) add(v *Verdict) {
	r.Runs = append(r.Runs, v)
	for _, t := range v.Trials {
		r.Trials++
		r.Failovers += len(t.Served)
		r.Refused += t.Refused
		if t.Stuck != "" {
			r.Stuck++
		}
	}
	r.countFalse(v.Trials)
	r.Rows += v.Order.Rows
	r.Stolen += v.Order.StolenRows
	r.LostAsync += v.LostAsync
	r.Violations += v.Violations
	for _, line := range v.Wrong {
		r.Wrong = append(r.Wrong, v.Folder+": "+line)
	}
	for _, line := range v.Oracle {
		r.Oracle = append(r.Oracle, v.Folder+": "+line)
	}
}

func (r *Report) countFalse(trials []Trial) {
	for i, t := range trials {
		if !t.falseMove() && (i == 0 || !t.movedBetween(trials[i-1])) {
			continue
		}
		if t.unfit() {
			r.Excused++
		} else {
			r.False++
		}
	}
}

func (r *Report) addTypes() {
	moved, all := map[string][]float64{}, map[string][]float64{}
	for _, v := range r.Runs {
		for _, t := range v.Trials {
			r.addTrial(t)
			if len(t.Harms) != 1 || t.Stuck != "" {
				continue
			}
			name := t.Type()
			all[name] = append(all[name], t.Gap)
			if len(t.Served) > 0 {
				moved[name] = append(moved[name], t.Gap)
			}
		}
	}
	for name, f := range r.Types {
		gaps := moved[name]
		if len(gaps) == 0 {
			gaps = all[name]
		}
		slices.Sort(gaps)
		f.P50, f.P99, f.Longest = quantile(gaps, 0.5), quantile(gaps, 0.99), quantile(gaps, 1)
	}
}

func (r *Report) addTrial(t Trial) {
	for _, h := range t.Harms {
		if r.Types[h.Trouble] == nil {
			r.Types[h.Trouble] = &Figures{}
		}
		f := r.Types[h.Trouble]
		if len(t.Harms) > 1 {
			f.Paired++
			continue
		}
		f.Trials++
		f.Failovers += len(t.Served)
		f.Refused += t.Refused
		switch {
		case t.falseMove() && t.unfit():
			f.Excused++
		case t.falseMove():
			f.False++
		}
		if t.Stuck != "" {
			f.Stuck++
		}
	}
}

// quantile of sorted values, the nearest that is there; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// upperBound is the largest rate at which no more than so many violations of n would still come about with 5 % chance.
func upperBound(violations, n int) float64 {
	if n == 0 || violations >= n {
		return 1
	}
	low, high := 0.0, 1.0
	for range 100 {
		p := (low + high) / 2
		if atMost(violations, n, p) > 0.05 {
			low = p
		} else {
			high = p
		}
	}
	return high
}

// atMost is the chance of at most k of n events, each with chance p between 0 and 1.
func atMost(k, n int, p float64) float64 {
	logChoose := func(n, k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	sum := 0.0
	for i := range k + 1 {
		sum += math.Exp(logChoose(n, i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

// table writes the report for people.
func (r *Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "trouble\ttrials\tin pairs\tfailovers\tfalse\tstuck\tstale refused\tp50\tp99\tmax")
	for _, name := range slices.Sorted(maps.Keys(r.Types)) {
		fmt.Fprintln(w, strings.Join(r.Types[name].cells(name), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return r.sum(out)
}

// markdown writes the same for a document.
func (r *Report) markdown(out io.Writer) error {
	fmt.Fprintln(out, "| trouble | trials | in pairs | failovers | false | stuck | stale refused | p50 | p99 | max |")
	fmt.Fprintln(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, name := range slices.Sorted(maps.Keys(r.Types)) {
		fmt.Fprintf(out, "| %s |\n", strings.Join(r.Types[name].cells(name), " | "))
	}
	fmt.Fprintln(out)
	return r.sum(out)
}

func (f *Figures) cells(name string) []string {
	cells := []string{name}
	for _, n := range []int{f.Trials, f.Paired, f.Failovers, f.False, f.Stuck, int(f.Refused)} {
		cells = append(cells, strconv.Itoa(n))
	}
	return append(cells, short(f.P50), short(f.P99), short(f.Longest))
}

func (r *Report) sum(out io.Writer) error {
	fmt.Fprintf(out, "%d runs, %d trials, %d failovers, %d false (and %d on a machine that stood still), %d stuck; %d rows committed, %d of them with stolen credentials; %d stale attempts refused\n",
		len(r.Runs), r.Trials, r.Failovers, r.False, r.Excused, r.Stuck, r.Rows, r.Stolen, r.Refused)
	_, err := fmt.Fprintf(out, "violations: %d; with 95 %% confidence less than %.3g %% of failovers; acknowledged rows that a failover to an asynchronous standby lost: %d\n",
		r.Violations, 100*r.Bound, r.LostAsync)
	return err
}

func short(s float64) string { return seconds(s).Round(time.Millisecond).String() }
