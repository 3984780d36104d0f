package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// beside sets two stub measurements side by side, to see whether another way of measuring changes the figures.
func beside(out io.Writer, a, b *Report) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nfault\tsystem\tn\tgap p50\tmax\tbeside n\tgap p50\tmax\tchance that both are alike")
	for _, c := range a.cells() {
		for _, d := range b.cells() {
			if c.Fault == d.Fault && c.System == d.System {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%d\t%s\t%s\t%.3f\n", c.Fault, c.System, c.N, seconds(c.Gap.P50), seconds(c.Gap.Max),
					d.N, seconds(d.Gap.P50), seconds(d.Gap.Max), alike(a.gaps(c), b.gaps(d)))
			}
		}
	}
	_ = w.Flush()
}

func (r *Report) gaps(c Cell) []float64 {
	var out []float64
	for _, run := range r.Runs {
		if run.Fault == c.Fault && run.System == c.System && run.New != 0 {
			out = append(out, run.Gap)
		}
	}
	return out
}

// alike is the chance of ranks at least as unlike as those of a and b if both were of one kind (Mann-Whitney, two sides,
// by the normal approximation, which wants some ten values of each). 1 without values.
func alike(a, b []float64) float64 {
	// Gaps are measured to the microsecond, so that equal ones do not matter.
	sorted := slices.Sorted(slices.Values(slices.Concat(a, b)))
	sum := 0.0
	for _, v := range a {
		rank, _ := slices.BinarySearch(sorted, v)
		sum += float64(rank + 1)
	}
	n, m := float64(len(a)), float64(len(b))
	if n*m == 0 {
		return 1
	}
	u := sum - n*(n+1)/2
	z := math.Abs(u-n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
	return math.Erfc(z / math.Sqrt2)
}
