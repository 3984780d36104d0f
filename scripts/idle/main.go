// Command idle measures what a duoflow cluster costs that has nothing to do: three real daemons, one job active, the
// metastore connected. Three idle members of etcd and a program that does nothing but wake up run beside them, so that
// the figures can be judged on the machine they were taken on. It is a benchmark, not a timed test: with limits its exit
// code says whether they were kept.
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
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "idle", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.DurationVar(&o.watch, "for", time.Minute, "how long to measure")
	set.DurationVar(&o.settle, "settle", 20*time.Second, "how long to leave everything alone before")
	set.Float64Var(&o.maxCPU, "max-cpu", 0, "most that a daemon may use, in % of one core; 0: no limit")
	set.Float64Var(&o.maxRSS, "max-rss", 0, "most that a daemon may hold resident, in MB of 2^20 bytes; 0: no limit")
	set.StringVar(&o.detection, "detection", "lan", "the daemons' detection profile")
	set.BoolVar(&o.peers, "peers", true, "measure etcd and a bare timer too")
}

func (o *options) check(rest []string) error {
	switch {
	case o.watch < time.Second || o.settle < 0:
		return fmt.Errorf("-for %s, -settle %s; want at least 1s and 0s", o.watch, o.settle)
	case o.maxCPU < 0 || o.maxRSS < 0:
		return errors.New("a limit below 0")
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag", rest[0])
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	r, err := measure(ctx, *o, progress)
	if err != nil {
		return nil, err
	}
	return &program.Result{Report: r, Table: r.table, Broken: r.above(o.maxCPU, o.maxRSS)}, nil
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
