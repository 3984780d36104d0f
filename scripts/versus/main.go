// Command versus measures, side by side on one machine and in one run, what a fault of the scheduler costs with Airflow's
// own means (two schedulers, or one that is restarted) and with duoflow. Everything is real: Airflow with Celery,
// RabbitMQ, Postgres. It judges no time; it fails only when duoflow ran a task twice or never.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: versus [-runs N] [-only CASE[,CASE]] [-cap DURATION] [-o text|json]

Why not simply two native Airflow schedulers? This measures it. Cases:
%s
Examples:
  go run ./scripts/versus                          all cases once, about ten minutes
  go run ./scripts/versus -runs 5 -o json          five times, with every single value
  go run ./scripts/versus -only duoflow-kill,duoflow-freeze
  go run ./scripts/versus -only native-kill -cap 13m   until Airflow's own last resort (600 s) has had its say

Most of the time goes into waiting for Airflow's timer for orphaned tasks (300 s). Needs root and scripts/setup all.

Exit codes: 0 it was carried out, whatever the times; 1 duoflow ran a task twice, or never; 2 usage; 3 it could not be
carried out.

`

type options struct {
	runs  int
	list  string   // value of -only
	only  []string // empty: all
	limit time.Duration
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{
		Name: "versus", Usage: fmt.Sprintf(usage, listCases()), Flags: o.flags, Check: o.check, Play: o.play,
		Text: "text", Indent: "  ",
	}
}

func (o *options) flags(set *flag.FlagSet) {
	set.IntVar(&o.runs, "runs", 1, "how often each case is measured; every time with a fresh database")
	set.StringVar(&o.list, "only", "", "cases to measure; empty: all")
	set.DurationVar(&o.limit, "cap", 330*time.Second, "how long to wait for a task; more than Airflow's 300 s timer")
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unknown argument %q", rest[0])
	}
	if o.runs < 1 {
		return fmt.Errorf("-runs %d; want at least 1", o.runs)
	}
	if o.limit < window+hold {
		return fmt.Errorf("-cap %s; want at least %s", o.limit, window+hold)
	}
	if o.list != "" {
		o.only = strings.Split(o.list, ",")
	}
	for _, name := range o.only {
		if _, ok := caseNamed(name); !ok {
			return fmt.Errorf("-only: no case is called %q", name)
		}
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	r, err := play(ctx, *o, newProgress(progress))
	if err != nil {
		return nil, err
	}
	result := &program.Result{Report: r, Table: r.text}
	if broken := r.broken(); broken != "" {
		result.Broken = []string{"a promise of duoflow was broken: " + broken}
	}
	return result, nil
}

// wants tells whether a case is to be measured.
func (o options) wants(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }
