// Command benchjobs measures what many jobs on one cluster cost: three real daemons on hosts of the lab, a Postgres, and jobs that do
// nothing, spread over two of the hosts. It tells what the daemons and their metastore take at rest, and, host a or b killed in turns,
// how long it takes until the other serves all of its jobs. It is a benchmark, not a timed test: it judges nothing but that the jobs
// are where they have to be.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: benchjobs [-jobs 100] [-kills 4] [-for 30s] [-settle 10s] [-dir FOLDER] [-o table|json]

Examples:
  make bench-jobs JOBS=100
  go run ./scripts/benchjobs -jobs 20 -kills 2 -for 10s

Exit codes: 0 measured; 1 a job was not where it has to be; 2 usage; 3 the run could not be carried out.

`

type options struct {
	jobs, kills   int
	watch, settle time.Duration
	dir           string
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "benchjobs", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.IntVar(&o.jobs, "jobs", 100, "how many jobs")
	set.IntVar(&o.kills, "kills", 4, "how often a host is killed, a and b in turns")
	set.StringVar(&o.dir, "dir", "", "folder for the logs and data of the cluster, which is kept; empty: none is")
	set.DurationVar(&o.watch, "for", 30*time.Second, "how long to look at a cluster at rest")
	set.DurationVar(&o.settle, "settle", 10*time.Second, "how long to leave everything alone before")
}

func (o *options) check(rest []string) error {
	switch {
	case o.jobs < 2 || o.jobs > 1000:
		return fmt.Errorf("-jobs %d; want 2 to 1000", o.jobs)
	case o.kills < 0:
		return fmt.Errorf("-kills %d; want 0 or more", o.kills)
	case o.watch < time.Second || o.settle < 0:
		return fmt.Errorf("-for %s, -settle %s; want at least 1s and 0s", o.watch, o.settle)
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
	return &program.Result{Report: r, Table: r.table, Broken: r.broken}, nil
}

// measure sets everything up, looks at it at rest, and kills.
func measure(ctx context.Context, o options, progress io.Writer) (*Report, error) {
	say := func(format string, args ...any) { fmt.Fprintf(progress, "benchjobs: "+format+"\n", args...) }
	say("setting up hosts, Postgres, %d jobs and three daemons", o.jobs)
	s, err := newStage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	r := &Report{Jobs: o.jobs, For: o.watch.Seconds(), Kills: map[string][]float64{}}
	if r.Started, r.First, err = s.begin(ctx); err != nil {
		return nil, err
	}
	say("all served %.1f s after the daemons were started, on %v; spreading", r.Started, r.First)
	if r.Spread, err = s.spread(ctx, r); err != nil {
		return nil, err
	}
	say("at rest for %s, then looking for %s", o.settle, o.watch)
	if err := s.rest(ctx, o, r); err != nil {
		return nil, err
	}
	for i := range o.kills {
		victim := hosts[i%2]
		took, err := s.kill(ctx, victim)
		if err != nil {
			return nil, err
		}
		r.Kills[victim] = append(r.Kills[victim], took...)
		say("host %s killed: its %d jobs are served again after %s", victim, len(took), quantilesOf(took))
		if err := s.back(ctx, victim, r); err != nil {
			return nil, err
		}
	}
	r.LoadAfter = loadAverage()
	return r, nil
}
