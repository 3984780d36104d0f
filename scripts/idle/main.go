// Command idle measures what a duoflow cluster costs that has nothing to do: three real daemons, one job active, the
// metastore connected. Three idle members of etcd and a program that does nothing but wake up run beside them, so that
// the figures can be judged on the machine they were taken on. It is a benchmark, not a timed test: with limits its exit
// code says whether they were kept.
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
	"syscall"
	"time"
)

const usage = `usage: idle [-for 60s] [-settle 20s] [-detection lan] [-max-cpu 1] [-max-rss 30] [-peers=false] [-o table|json]

Examples:
  make idle
  go run ./scripts/idle -for 10s -peers=false
  go run ./scripts/idle -max-cpu 1 -max-rss 30 -o json

Exit codes: 0 measured, and within the limits given; 1 a daemon is above a limit; 2 usage; 3 the run could not be
carried out.

`

type options struct {
	watch, settle  time.Duration
	maxCPU, maxRSS float64 // 0 = no limit
	detection      string
	peers          bool
	output         string
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
		fmt.Fprintln(stderr, "idle:", err)
		return 2
	}
	r, err := measure(ctx, o, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "idle:", err)
		return 3
	}
	if o.output == "json" {
		err = json.NewEncoder(stdout).Encode(r)
	} else {
		err = r.table(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "idle:", err)
		return 3
	}
	above := r.above(o.maxCPU, o.maxRSS)
	for _, line := range above {
		fmt.Fprintln(stderr, "idle:", line)
	}
	if len(above) > 0 {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("idle", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	set.DurationVar(&o.watch, "for", time.Minute, "how long to measure")
	set.DurationVar(&o.settle, "settle", 20*time.Second, "how long to leave everything alone before")
	set.Float64Var(&o.maxCPU, "max-cpu", 0, "most that a daemon may use, in % of one core; 0: no limit")
	set.Float64Var(&o.maxRSS, "max-rss", 0, "most that a daemon may hold resident, in MB of 2^20 bytes; 0: no limit")
	set.StringVar(&o.detection, "detection", "lan", "the daemons' detection profile")
	set.BoolVar(&o.peers, "peers", true, "measure etcd and a bare timer too")
	set.StringVar(&o.output, "o", "table", "table or json")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("-o %q; want table or json", o.output)
	case o.watch < time.Second || o.settle < 0:
		return o, fmt.Errorf("-for %s, -settle %s; want at least 1s and 0s", o.watch, o.settle)
	case o.maxCPU < 0 || o.maxRSS < 0:
		return o, errors.New("a limit below 0")
	case set.NArg() > 0:
		return o, fmt.Errorf("%q is no flag", set.Arg(0))
	}
	return o, nil
}

// measure sets everything up, leaves it alone, and compares two looks at it.
func measure(ctx context.Context, o options, progress io.Writer) (*Report, error) {
	fmt.Fprintln(progress, "idle: setting up hosts, Postgres and three daemons")
	s, err := newStage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	fmt.Fprintf(progress, "idle: settling for %s, then measuring for %s\n", o.settle, o.watch)
	if err := s.await(ctx, o.settle); err != nil {
		return nil, err
	}
	before, err := readAll(s.watched)
	if err != nil {
		return nil, err
	}
	if err := s.await(ctx, o.watch); err != nil {
		return nil, err
	}
	after, err := readAll(s.watched)
	if err != nil {
		return nil, err
	}
	r := &Report{Detection: o.detection, For: o.watch.Seconds()}
	for i, w := range s.watched {
		r.Processes = append(r.Processes, figures(w, before[i], after[i]))
	}
	return r, nil
}
