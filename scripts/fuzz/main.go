// Command fuzz finds every fuzz test of the repository by itself, so that none is forgotten, and runs one after the other, each in
// a binary of its own that is instrumented for it. What is new and interesting stays in Go's cache and is where the next run
// goes on; what a fuzzer fails at, Go writes to the package's testdata/fuzz.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: fuzz [-seconds 60] [-only WORD[,WORD]] [-parallel 1] [-memory 1024] [-list | -keep] [-o table|json]

-only takes those whose package and name, as in raftstore.FuzzEnvelope, hold one of the words. -keep runs nothing, but takes of
the cache and of what the repository has the fewest and smallest inputs that reach all code that any of them reaches, and
leaves these in testdata/fuzz; it looks at the smallest first, for -seconds.

Examples:
  make fuzz
  make fuzz SECONDS=600 ONLY=lease,FuzzEnvelope OUT=json
  go run ./scripts/fuzz -list

Exit codes: 0 nothing was found; 1 a fuzzer failed, ran nothing, or took more memory than -memory; 2 usage; 3 the run could not be
carried out.

`

type options struct {
	seconds    float64
	only       string
	parallel   int
	memory     int64 // MiB
	list, keep bool
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "fuzz", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play, Indent: "  "}
}

func (o *options) flags(set *flag.FlagSet) {
	set.Float64Var(&o.seconds, "seconds", 60, "how long each runs")
	set.StringVar(&o.only, "only", "", "words, separated by commas; empty: all")
	set.IntVar(&o.parallel, "parallel", 1, "workers of a fuzzer")
	set.Int64Var(&o.memory, "memory", 1024, "most that a worker may hold resident, in MiB")
	set.BoolVar(&o.list, "list", false, "only say which there are")
	set.BoolVar(&o.keep, "keep", false, "only make the corpora of the repository anew")
}

func (o *options) check(rest []string) error {
	switch {
	case o.seconds < 1 || o.parallel < 1 || o.memory < 1:
		return errors.New("-seconds, -parallel and -memory must be 1 or more")
	case o.list && o.keep:
		return errors.New("-list or -keep, not both")
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag", rest[0])
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	all, err := find(".")
	if err != nil {
		return nil, err
	}
	some := o.chosen(all)
	if len(some) == 0 {
		return nil, fmt.Errorf("of %d fuzzers none is called like %q", len(all), o.only)
	}
	r := &Report{Seconds: o.seconds, Parallel: o.parallel, Memory: o.memory}
	if o.list {
		for _, f := range some {
			r.Runs = append(r.Runs, Run{Fuzzer: f})
		}
		return &program.Result{Report: r, Table: r.names}, nil
	}
	work, err := os.MkdirTemp("", "fuzz-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	b := &bench{work: work, built: map[string]string{}, o: *o}
	began := time.Now()
	for _, f := range some {
		if err := o.one(ctx, b, f, r, progress); err != nil {
			return nil, err
		}
	}
	r.Took = time.Since(began).Seconds()
	return &program.Result{Report: r, Table: r.table, Broken: r.broken()}, nil
}

// one runs a fuzzer, or minimises its corpus, and notes what came of it.
func (o *options) one(ctx context.Context, b *bench, f Fuzzer, r *Report, progress io.Writer) error {
	do := b.run
	if o.keep {
		do = b.keep
	}
	run, err := do(ctx, f)
	if err != nil {
		return fmt.Errorf("%s: %w", f, err)
	}
	r.Runs = append(r.Runs, run)
	fmt.Fprintln(progress, "fuzz:", run)
	return nil
}

// chosen are those that -only names.
func (o *options) chosen(all []Fuzzer) []Fuzzer {
	if o.only == "" {
		return all
	}
	var some []Fuzzer
	for _, f := range all {
		for word := range strings.SplitSeq(o.only, ",") {
			if strings.Contains(f.String(), word) {
				some = append(some, f)
				break
			}
		}
	}
	return some
}
