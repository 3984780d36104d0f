package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	output, only string
	parallel     int
	events       bool
}

func main() {
	var o options
	flag.StringVar(&o.output, "o", "table", "table or json")
	flag.StringVar(&o.only, "only", "", "only searches with this in their name")
	flag.IntVar(&o.parallel, "parallel", 2, "searches at a time")
	flag.BoolVar(&o.events, "events", false, "tell each counterexample")
	flag.Parse()
	if flag.NArg() > 0 || (o.output != "table" && o.output != "json") || o.parallel < 1 {
		fmt.Fprintln(os.Stderr, "model: usage: model [-o table|json] [-only WORD] [-parallel N] [-events]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(1)
	}
}

// run does the searches, tells them in their order and fails unless each came out as it must.
func run(ctx context.Context, out io.Writer, o options) error {
	for _, program := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: scripts/setup model installs it", err)
		}
	}
	began := time.Now()
	results := searchAll(ctx, chosen(o.only), o.parallel)
	if err := ctx.Err(); err != nil {
		return err
	}
	sum := sumOf(results)
	sum.Seconds = time.Since(began).Seconds()
	if o.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(struct {
			Summary summary  `json:"summary"`
			Runs    []result `json:"runs"`
		}{sum, results}); err != nil {
			return err
		}
	} else {
		printTable(out, results, sum, o.events)
	}
	if sum.Failed > 0 || len(results) == 0 {
		return fmt.Errorf("%d of %d searches did not come out as they must", sum.Failed, len(results))
	}
	return nil
}

func chosen(only string) []search {
	var out []search
	for _, s := range append(append([]search{}, worlds...), mutants...) {
		if strings.Contains(s.name, only) {
			out = append(out, s)
		}
	}
	return out
}

func searchAll(ctx context.Context, searches []search, parallel int) []result {
	results := make([]result, len(searches))
	turn := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i, s := range searches {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			results[i] = s.do(ctx)
		})
	}
	all.Wait()
	return results
}

// summary is the whole in figures.
type summary struct {
	Worlds  int `json:"worlds"`
	Mutants int `json:"mutants"`
	// Violated counts the mutants that were seen.
	Violated   int     `json:"violated"`
	States     int     `json:"states"`
	Depth      int     `json:"depth"`
	Properties int     `json:"properties"`
	Failed     int     `json:"failed"`
	Seconds    float64 `json:"seconds"`
}

func sumOf(results []result) summary {
	s := summary{Properties: int(served)}
	for _, r := range results {
		s.States += r.States
		s.Depth = max(s.Depth, r.Depth)
		switch {
		case !r.OK:
			s.Failed++
		case r.Kind == "mutant":
			s.Violated++
		}
		if r.Kind == "mutant" {
			s.Mutants++
		} else {
			s.Worlds++
		}
	}
	return s
}

func printTable(out io.Writer, results []result, sum summary, events bool) {
	fmt.Fprintf(out, "%-50s %10s %6s %6s  %s\n", "world or mutant", "states", "depth", "s", "verdict")
	for _, r := range results {
		verdict := "holds"
		switch {
		case !r.OK:
			verdict = "WRONG: " + r.Problem
		case r.Kind == "mutant":
			verdict = fmt.Sprintf("violated: %s, after %d events", r.Breaks, len(r.Events))
		}
		fmt.Fprintf(out, "%-50s %10d %6d %6.1f  %s\n", r.Name, r.States, r.Depth, r.Seconds, verdict)
		if events {
			for _, e := range r.Events {
				fmt.Fprintln(out, "    "+e)
			}
		}
	}
	fmt.Fprintf(out, "%d worlds hold, %d of %d mutants violated, %d properties, %d states, depth %d, %d wrong, %.0f s\n",
		sum.Worlds-worldsWrong(results), sum.Violated, sum.Mutants, sum.Properties, sum.States, sum.Depth, sum.Failed, sum.Seconds)
}

func worldsWrong(results []result) (n int) {
	for _, r := range results {
		if r.Kind == "world" && !r.OK {
			n++
		}
	}
	return n
}
