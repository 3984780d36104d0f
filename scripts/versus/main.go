// Command versus measures, side by side on one machine and in one run, what a fault of the scheduler costs with Airflow's
// own means (two schedulers, or one that is restarted) and with duoflow. Everything is real: Airflow with Celery,
// RabbitMQ, Postgres. It judges no time; it fails only when duoflow ran a task twice or never.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
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
	runs   int
	only   []string // empty: all
	limit  time.Duration
	output string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "versus:", err)
		return 2
	}
	r, err := play(ctx, o, newProgress(stderr))
	if err == nil {
		err = r.write(stdout, o.output)
	}
	if err != nil {
		fmt.Fprintln(stderr, "versus:", err)
		return 3
	}
	if broken := r.broken(); broken != "" {
		fmt.Fprintln(stderr, "versus: a promise of duoflow was broken:", broken)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	set := flag.NewFlagSet("versus", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprintf(stderr, usage, listCases())
		set.PrintDefaults()
	}
	set.IntVar(&o.runs, "runs", 1, "how often each case is measured; every time with a fresh database")
	set.StringVar(&only, "only", "", "cases to measure; empty: all")
	set.DurationVar(&o.limit, "cap", 330*time.Second, "how long to wait for a task; more than Airflow's 300 s timer")
	set.StringVar(&o.output, "o", "text", "text or json")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	if o.output != "text" && o.output != "json" {
		return o, fmt.Errorf("-o %q; want text or json", o.output)
	}
	if o.runs < 1 {
		return o, fmt.Errorf("-runs %d; want at least 1", o.runs)
	}
	if o.limit < window+hold {
		return o, fmt.Errorf("-cap %s; want at least %s", o.limit, window+hold)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	for _, name := range o.only {
		if _, ok := caseNamed(name); !ok {
			return o, fmt.Errorf("-only: no case is called %q", name)
		}
	}
	return o, nil
}

// wants tells whether a case is to be measured.
func (o options) wants(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }

// write writes the report in the wanted form.
func (r *report) write(out io.Writer, form string) error {
	if form == "text" {
		return r.text(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
