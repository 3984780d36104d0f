// Command benchetl measures the lightning pipeline on synthetic tiles of real size: as a whole, from files in Google Cloud
// Storage to tables in Postgres, and its parts beside other tools that do the same work, in the same run on the same files.
// Stores and database are on this machine too and use its processors; their time is in the figures, their memory is not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: benchetl [-years 34] [-parts pipeline,ingest,load,copy] [-runs 3] [-long 1] [-out FILE] [-readme FILE] [-o table|json]
       benchetl -from FILE [-readme FILE] [-o table|json]

Examples:
  make bench-etl YEARS=2
  bin/benchetl -years 34 -out scripts/benchetl/results/benchetl.json -readme README.md
  bin/benchetl -years 34 -parts load -out FILE      keeps what FILE has of other parts
  make bench-etl ENGINE=spark YEARS=2               the whole pipeline with Spark beside DuckDB, and nothing else

It wants bin/duoetl, bin/duosandbox, bin/part and the peers in .cache/benchetl, or Spark in .cache/spark, which make bench-etl
makes. Tiles that are made are kept in .cache/tiles.

Exit codes: 0 measured; 1 results differ; 2 usage; 3 the run could not be carried out.

`

type options struct {
	years, runs, long int
	someParts, remark string
	engine            string
	parts             []string
	out, readme, from string
}

func main() {
	runtime.LockOSThread() // processes end with the thread that has started them
	os.Exit(program.Main(run))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "benchetl", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.IntVar(&o.years, "years", lastYear-firstYear+1, "years of tiles, the newest of 34")
	set.IntVar(&o.runs, "runs", 3, "runs of what takes seconds")
	set.IntVar(&o.long, "long", 1, "runs of what goes over all years")
	set.StringVar(&o.someParts, "parts", strings.Join(parts, ","), "what to measure")
	set.StringVar(&o.engine, "engine", kindDuckDB, "spark: only the whole pipeline, with Spark and with DuckDB; -readme's block is another then")
	set.StringVar(&o.remark, "remark", "", "what else is to be said of the machine, with the load average")
	set.StringVar(&o.out, "out", "", "file for every single run, as JSON; empty: none; parts that are not measured now stay in it")
	set.StringVar(&o.readme, "readme", "", "file in which the marked block gets the figures; empty: none")
	set.StringVar(&o.from, "from", "", "measure nothing, read what -out has written")
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%q is no flag", rest[0])
	}
	if o.years < 1 || o.years > lastYear-firstYear+1 || min(o.runs, o.long) < 1 {
		return fmt.Errorf("-years is within 1..%d, -runs and -long are at least 1", lastYear-firstYear+1)
	}
	if o.engine != kindDuckDB && o.engine != kindSpark {
		return fmt.Errorf("-engine: %q is neither %s nor %s", o.engine, kindDuckDB, kindSpark)
	}
	o.parts = strings.Split(o.someParts, ",")
	if o.engine == kindSpark {
		o.parts = []string{partPipeline}
	}
	for _, p := range o.parts {
		if !slices.Contains(parts, p) {
			return fmt.Errorf("-parts: no part is called %q", p)
		}
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	r, err := o.report(ctx, progress)
	if err == nil && o.readme != "" {
		err = r.rewrite(o.readme)
	}
	if err != nil {
		return nil, err
	}
	return &program.Result{Report: r, Table: r.table, Broken: r.Broken}, nil
}

// report measures, or reads what was measured.
func (o *options) report(ctx context.Context, progress io.Writer) (*Report, error) {
	if o.from != "" {
		return readReport(o.from)
	}
	r := newReport(ctx, o.years)
	if r.Remark = o.remark; o.engine == kindSpark {
		r.Engine = kindSpark
	}
	if old, err := readReport(o.out); err == nil && old.Years == o.years && old.Engine == r.Engine {
		r.keep(old, o.parts)
	} else if o.out != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	s, err := newStage(ctx, o, r, progress)
	if err != nil {
		return nil, err
	}
	err = s.play(ctx)
	return r, errors.Join(err, s.close())
}

func readReport(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}
