// Command soak runs a real cluster of three nodes with a job that changes hosts all the time, for hours, and looks whether anything
// grows that should not: memory, open files, goroutines and threads of the daemons, roles and sessions in Postgres, files and
// bytes on disk, duoflow's own tables. The samples are kept, so that a run can be judged again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: soak [-hours 2] [-every 20s] [-sample 10s] [-out soak.jsonl] [-o table|json]
       soak [-o table|json] check FILE

A run, and a file of samples again, is flat if of everything that is watched the median of the last quarter of the time is no higher
than that of the second quarter, by more than a share and a constant that the table shows. The first quarter is for warming up. So a
run of two hours finds what grows by the constant, and the share of what is there, in an hour.

Examples:
  make soak HOURS=2
  go run ./scripts/soak -hours 0.5 -every 10s
  go run ./scripts/soak check soak.jsonl

Exit codes: 0 all is flat; 1 something is not, or the cluster was stuck; 2 usage; 3 the run could not be carried out.

`

type options struct {
	hours         float64
	every, sample time.Duration
	out           string
	check         string // file to judge again; "" = run
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "soak", Usage: usage, Flags: o.flags, Check: o.complete, Play: o.play, Indent: "  "}
}

func (o *options) flags(set *flag.FlagSet) {
	set.Float64Var(&o.hours, "hours", 2, "how long to go on")
	set.DurationVar(&o.every, "every", 20*time.Second, "between two changes of the job's host")
	set.DurationVar(&o.sample, "sample", 10*time.Second, "between two samples")
	set.StringVar(&o.out, "out", "soak.jsonl", "file for the samples, a line each")
}

func (o *options) complete(rest []string) error {
	switch {
	case len(rest) == 2 && rest[0] == "check":
		o.check = rest[1]
	case len(rest) > 0:
		return fmt.Errorf("%q; want nothing, or check FILE", rest)
	case o.hours <= 0 || o.every < time.Second || o.sample < time.Second:
		return errors.New("-hours must be above 0, -every and -sample 1s or more")
	case o.out == "":
		return errors.New("-out: empty")
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	file := o.check
	var events []Event
	if file == "" {
		file = o.out
		var err error
		if events, err = soak(ctx, *o, progress); err != nil {
			return nil, err
		}
	}
	samples, err := load(file)
	if err != nil {
		return nil, err
	}
	r, err := judge(samples)
	if err != nil {
		return nil, fmt.Errorf("judge %s: %w", file, err)
	}
	r.Events = count(events)
	broken := r.broken()
	for _, e := range events {
		if e.Stuck != "" {
			broken = append(broken, fmt.Sprintf("%s: %s", e.What, e.Stuck))
		}
	}
	return &program.Result{Report: r, Table: r.table, Broken: broken}, nil
}
