// Command demo sets up Postgres, RabbitMQ, Airflow and three duoflow nodes on this machine, lets the lightning pipeline run as a DAG
// beside chains of short tasks, kills and freezes the host of the active scheduler, and shows phase by phase how the work goes on; and
// at its end the dashboard over what the pipeline has loaded. Data and tasks are synthetic, BigQuery, Cloud Storage and S3 are emulated; everything else is
// the real thing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: demo [-check] [-kills N] [-engine duckdb|spark] [-o text|json]

Examples:
  make demo                     stays up with its URLs until Ctrl-C
  make demo CHECK=1             ends by itself; the exit code says whether every figure is right
  make demo CHECK=1 KILLS=10    ten failovers in a row, with the phases of each
  make demo ENGINE=spark        Spark adds up, and not DuckDB

Exit codes: 0 all figures are right; 1 one is wrong; 2 usage; 3 the demo could not be carried out.

`

type options struct {
	check  bool
	kills  int
	engine string
	output string
}

// Engines that add up.
const (
	duckEngine  = "DuckDB"
	sparkEngine = "Spark"
)

// engines are they, by what the flag calls them.
var engines = map[string]string{"duckdb": duckEngine, "spark": sparkEngine}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	set := program.NewFlags("demo", usage, stderr)
	set.BoolVar(&o.check, "check", false, "do not stay up; exit 1 when a figure is wrong")
	set.IntVar(&o.kills, "kills", 1, "how often the active host is killed")
	set.StringVar(&o.engine, "engine", "duckdb", "what adds the tiles up: duckdb or spark")
	set.StringVar(&o.output, "o", "text", "of the figures at the end: text or json")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || o.kills < 1 || engines[o.engine] == "" || (o.output != "text" && o.output != "json") {
		return 2
	}
	f, err := perform(ctx, o, stderr)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "demo: stopped, everything is cleaned up")
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 3
	}
	switch {
	case o.output == "json":
		err = json.NewEncoder(stdout).Encode(f)
	case o.check: // otherwise they have been shown before it stayed up
		err = f.write(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 3
	}
	if wrong := f.wrong(); wrong != "" {
		fmt.Fprintln(stderr, "demo: a figure is wrong:", wrong)
		return 1
	}
	return 0
}

// perform is the play: set up, work, kill, freeze, finish, count.
func perform(ctx context.Context, o options, out io.Writer) (*figures, error) {
	began := time.Now()
	s, err := newStage(ctx, engines[o.engine], out)
	if err != nil {
		return nil, err
	}
	defer s.close()
	f := &figures{SetUp: time.Since(began)}
	stopWork := s.keepWorking(ctx)
	defer stopWork()
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	t, passage, err := s.killInTheMiddle(ctx)
	if err != nil {
		return nil, err
	}
	f.Takeovers, f.Pipeline = append(f.Takeovers, t), passage
	for range o.kills - 1 {
		if t, err = s.killActive(ctx); err != nil {
			return nil, err
		}
		f.Takeovers = append(f.Takeovers, t)
	}
	t, err = s.freezeActive(ctx)
	if err != nil {
		return nil, err
	}
	f.Takeovers = append(f.Takeovers, t)
	stopWork()
	if err := s.finish(ctx, f); err != nil {
		return nil, err
	}
	if f.Dashboard, err = s.dashboard(ctx); err != nil {
		return nil, err
	}
	if !o.check {
		if err := f.write(out); err != nil {
			return nil, err
		}
		s.stay(ctx, f)
	}
	return f, nil
}
