package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

type options struct {
	output, only string
	parallel     int
	verbose      bool
}

func main() {
	var o options
	flag.StringVar(&o.output, "o", "table", "table or json")
	flag.StringVar(&o.only, "only", "", "only mutants with this in their name")
	flag.IntVar(&o.parallel, "parallel", 2, "tests at a time")
	flag.BoolVar(&o.verbose, "v", false, "say what each test said")
	flag.Parse()
	if (o.output != "table" && o.output != "json") || o.parallel < 1 || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "mutants: usage: mutants [-o table|json] [-only WORD] [-parallel N] [-v] FILE...")
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Args(), o); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// verdict is what became of one mutant at one test.
type verdict struct {
	Mutant string `json:"mutant"`
	// Of is the changed file.
	Of string `json:"of"`
	// By is the test, and the version of Postgres it ran on when that is one of several.
	By     string `json:"by"`
	Caught bool   `json:"caught"`
	// After is how long the test took to see it, in seconds; Took includes the compiler.
	After float64 `json:"after"`
	Took  float64 `json:"took"`
	Why   string  `json:"why,omitempty"`
	// said is all that the test wrote.
	said string
}

// run plays the mutants of the files, and returns an error unless each was seen.
func run(out io.Writer, files []string, o options) error {
	trials, mutants, err := chosen(files, o.only)
	if err != nil {
		return err
	}
	began := time.Now()
	verdicts := playAll(trials, o.parallel, func(v verdict) {
		if o.output == "table" {
			fmt.Fprintln(out, v)
		}
		if o.output == "table" && o.verbose {
			fmt.Fprint(out, v.said)
		}
	})
	missed := 0
	for _, v := range verdicts {
		if !v.Caught {
			missed++
		}
	}
	if err := summarize(out, o.output, verdicts, summary{mutants, len(trials), len(trials) - missed, missed, time.Since(began).Seconds()}); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d runs did not see their mutant", missed)
	}
	return nil
}

// summary is the whole in figures.
type summary struct {
	Mutants int     `json:"mutants"`
	Runs    int     `json:"runs"` // a mutant has one for each version of Postgres that it is tried on
	Caught  int     `json:"caught"`
	Missed  int     `json:"missed"`
	Seconds float64 `json:"seconds"`
}

func summarize(out io.Writer, output string, verdicts []verdict, sum summary) error {
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Summary summary   `json:"summary"`
			Runs    []verdict `json:"runs"`
		}{sum, verdicts})
	}
	_, err := fmt.Fprintf(out, "%d mutants in %d runs: %d caught, %d not, %.0f s\n", sum.Mutants, sum.Runs, sum.Caught, sum.Missed, sum.Seconds)
	return err
}

func (v verdict) String() string {
	if !v.Caught {
		return fmt.Sprintf("%-66s NOT CAUGHT by %s: %s", v.Mutant, v.By, v.Why)
	}
	return fmt.Sprintf("%-66s %-62s %6.2f s", v.Mutant, v.By, v.After)
}

// chosen reads the lists.
func chosen(files []string, only string) (trials []trial, mutants int, err error) {
	for _, file := range files {
		found, err := read(file)
		if err != nil {
			return nil, 0, err
		}
		for _, m := range slices.DeleteFunc(found, func(m mutant) bool { return !strings.Contains(m.name, only) }) {
			mutants++
			trials = append(trials, m.trials()...)
		}
	}
	if len(trials) == 0 {
		return nil, 0, errors.New("nothing to do: name a mutants.txt")
	}
	return trials, mutants, nil
}

// playAll plays some at a time, and tells each in its order.
func playAll(trials []trial, parallel int, tell func(verdict)) []verdict {
	verdicts := make([]verdict, len(trials))
	ready := make([]chan struct{}, len(trials))
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	var next int
	var mu sync.Mutex
	sound := &soundness{tests: map[string]*sounded{}}
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(trials) {
					return
				}
				verdicts[i] = trials[i].judge(sound)
				close(ready[i])
			}
		})
	}
	for i := range trials {
		<-ready[i]
		tell(verdicts[i])
	}
	all.Wait()
	return verdicts
}
