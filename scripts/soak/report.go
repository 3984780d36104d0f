package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
)

// Sample is what there was of everything at one time. What could not be seen, as of a daemon that was frozen, is missing.
type Sample struct {
	Seconds float64            `json:"seconds"` // since the run began
	Values  map[string]float64 `json:"values"`
}

// load reads a file of samples.
func load(path string) ([]Sample, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	defer file.Close()
	var all []Sample
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s Sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read samples: line %d of %s: %w", len(all)+1, path, err)
		}
		all = append(all, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	return all, nil
}

// note appends a sample to a file.
func note(out io.Writer, s Sample) error {
	if err := json.NewEncoder(out).Encode(s); err != nil {
		return fmt.Errorf("write sample: %w", err)
	}
	return nil
}

func (r *Report) table(out io.Writer) error {
	fmt.Fprintf(out, "%.2f hours, %d samples", r.Hours, r.Samples)
	for _, what := range slices.Sorted(maps.Keys(r.Events)) {
		fmt.Fprintf(out, ", %d %s", r.Events[what], what)
	}
	fmt.Fprint(out, "\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\tfirst quarter\tsecond\tlast\tlimit for the last\tper hour\t\t")
	for _, v := range r.Series {
		verdict := "flat"
		if !v.Flat {
			verdict = "NOT FLAT"
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%+.1f\t%s\t\n", v.Name, v.Quarter[0], v.Quarter[1], v.Quarter[3], v.Limit, v.PerHour, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprint(out, "\nlimit: the median of the second quarter, and so much more:\n")
	for _, a := range allowances {
		fmt.Fprintf(out, "  %-14s %3.0f %% and %4.0f: %s\n", a.ends, 100*a.share, a.plus, a.why)
	}
	return nil
}
