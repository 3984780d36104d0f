package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report is of all fuzzers.
type Report struct {
	Seconds  float64 `json:"seconds"`  // for each
	Parallel int     `json:"parallel"` // workers of each
	Memory   int64   `json:"memory_mib"`
	Runs     []Run   `json:"runs"`
	Took     float64 `json:"took_seconds"`
}

// Run is what came of one fuzzer.
type Run struct {
	Fuzzer
	Executions int64   `json:"executions"`
	New        int64   `json:"new_interesting"`
	Total      int64   `json:"interesting"` // those of before included
	Took       float64 `json:"took_seconds"`
	CPU        float64 `json:"cpu_seconds"` // of all its processes
	Peak       int64   `json:"peak_mib"`    // resident, of the largest of them
	Kept       int     `json:"kept,omitempty"`
	Failure    string  `json:"failure,omitempty"`
}

// wrong says why the run is not sound; "" = it is.
func (r Run) wrong(memory int64) string {
	switch {
	case r.Failure != "":
		return "FAILED:\n" + r.Failure
	case r.Executions == 0 && r.Kept == 0:
		return "ran nothing; is it behind a build tag?"
	case r.Peak > memory:
		return fmt.Sprintf("held %d MiB, more than %d", r.Peak, memory)
	}
	return ""
}

func (r Run) String() string {
	if r.Kept > 0 {
		return fmt.Sprintf("%-44s %d inputs kept of %d", r.Fuzzer, r.Kept, r.Total)
	}
	result := "ok"
	if r.Failure != "" {
		result = "FAILED"
	}
	return fmt.Sprintf("%-44s %12d executions %5d new interesting %6.0f s %6.0f s CPU %5d MiB  %s",
		r.Fuzzer, r.Executions, r.New, r.Took, r.CPU, r.Peak, result)
}

func (r *Report) broken() (all []string) {
	for _, run := range r.Runs {
		if why := run.wrong(r.Memory); why != "" {
			all = append(all, fmt.Sprintf("%s %s", run.Fuzzer, why))
		}
	}
	return all
}

func (r *Report) names(out io.Writer) error {
	for _, run := range r.Runs {
		fmt.Fprintln(out, run.Fuzzer)
	}
	return nil
}

func (r *Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fuzzer\texecutions\tnew interesting\tin all\ttime s\tCPU s\tpeak MiB\tresult")
	var sum Run
	for _, run := range r.Runs {
		result := "ok"
		switch {
		case run.Kept > 0:
			result = fmt.Sprintf("%d kept", run.Kept)
		case run.wrong(r.Memory) != "":
			result = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.0f\t%.0f\t%d\t%s\n", run.Fuzzer, run.Executions, run.New, run.Total, run.Took, run.CPU, run.Peak, result)
		sum.Executions += run.Executions
		sum.New += run.New
		sum.Total += run.Total
		sum.CPU += run.CPU
		sum.Peak = max(sum.Peak, run.Peak)
	}
	failed := len(r.broken())
	fmt.Fprintf(w, "total\t%d\t%d\t%d\t%.0f\t%.0f\t%d\t%d ok, %d failed\n", sum.Executions, sum.New, sum.Total, r.Took, sum.CPU, sum.Peak, len(r.Runs)-failed, failed)
	return w.Flush()
}
