// Command bench does the same harm to duoflow and to what people use instead, with the same writer on the same hosts
// and the same Postgres in one run, and reads from the write-ahead log what came of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/figures"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: bench [-parts stub,airflow] [-runs N] [-kills N] [-native N] [-out FILE [-resume]] [-plot FILE] [-readme FILE]
       bench -from FILE[,FILE...] [-o table|json] [-out FILE] [-plot FILE] [-readme FILE]

Examples:
  make bench
  go run ./scripts/bench -runs 3 -faults kill-host,power-loss -parts stub
  go run ./scripts/bench -runs 30 -out bench.json -plot bench.svg          with -resume it goes on where it was interrupted
  go run ./scripts/bench -parts airflow -kills 10 -native 5 -out airflow.json
  go run ./scripts/bench -from stub.json,airflow.json -out bench.json -plot bench.svg -readme README.md

Part stub: a job that commits a row every 5 ms, under every fault, on every system; about 4.5 s for each run, so all of
them 30 times take an hour and a half. Part airflow: kills of a real scheduler, warm, cold and native. Each finished run is in
the file at once. Needs root, and the network only to fetch the peers once.

Exit codes: 0 measured, whatever the times; 1 duoflow broke a promise: an old epoch committed after a newer one, not
exactly one writer in the end, a task ran twice or never; 2 usage; 3 the benchmark could not be carried out, or not all of it.

`

type options struct {
	parts   []string
	runs    int
	faults  []fault
	systems []string

	parallel                        int
	kills, native, labs             int
	cap                             time.Duration
	output                          string
	out, plot, from, readme, beside string
	resume                          bool
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return program.Refuse("bench", err, stderr)
	}
	report, err := o.report(ctx, stderr)
	if report == nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 3
	}
	if ctx.Err() != nil && o.out != "" {
		fmt.Fprintf(stderr, "bench: stopped; -resume goes on with %s\n", o.out)
	}
	if shown := o.show(report, stdout); shown != nil || err != nil {
		fmt.Fprintln(stderr, "bench:", errors.Join(err, shown))
		return 3
	}
	for _, b := range report.broken() {
		fmt.Fprintln(stderr, "bench: a promise was broken:", b)
	}
	for _, l := range report.lacking() {
		fmt.Fprintln(stderr, "bench: not all was measured:", l)
	}
	switch {
	case len(report.broken()) > 0:
		return 1
	case len(report.lacking()) > 0:
		return 3
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var someParts, someFaults, someSystems string
	set := program.NewFlags("bench", usage, stderr)
	help := set.Usage
	set.Usage = func() {
		help()
		fmt.Fprintln(stderr, "\nFaults:")
		for _, f := range faults {
			fmt.Fprintf(stderr, "  %-17s %s\n", f.name, f.about)
		}
	}
	set.StringVar(&someParts, "parts", "stub,airflow", "names of parts")
	set.IntVar(&o.runs, "runs", 30, "stub: how often each fault is done to each system")
	set.StringVar(&someFaults, "faults", "", "stub: names of faults; empty: all")
	set.StringVar(&someSystems, "systems", "duoflow,duoflow-fast,etcd,keepalived,advisory", "stub: names of systems")
	set.IntVar(&o.parallel, "parallel", 1, "stub: laboratories side by side; only one makes a fault at a time")
	set.IntVar(&o.kills, "kills", 10, "airflow: kills of duoflow's active host, warm and cold each")
	set.IntVar(&o.native, "native", 5, "airflow: kills of one of two native schedulers that leave unsent tasks")
	set.IntVar(&o.labs, "labs", 1, "airflow: laboratories of native schedulers side by side; only one has work at a time")
	set.DurationVar(&o.cap, "cap", 330*time.Second, "airflow: how long a native scheduler's task is waited for; Airflow's timer is 300 s")
	set.StringVar(&o.output, "o", "table", "table or json")
	set.StringVar(&o.out, "out", "", "file for every single run, as JSON; empty: none; one that exists is kept as FILE.before")
	set.BoolVar(&o.resume, "resume", false, "go on with the file of -out")
	set.StringVar(&o.plot, "plot", "", "file for a plot, as SVG; empty: none")
	set.StringVar(&o.readme, "readme", "", "file in which the marked block gets the figures; empty: none")
	set.StringVar(&o.from, "from", "", "measure nothing, read what -out has written; several files become one report")
	set.StringVar(&o.beside, "beside", "", "another file written by -out, whose gaps are set beside those of this one")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o %q; want table or json", o.output)
	}
	if min(o.runs, o.parallel, o.kills, o.native, o.labs) < 1 || o.cap < time.Second || set.NArg() > 0 {
		return o, errors.New("want numbers of at least 1, a -cap of at least 1s and no other arguments")
	}
	if o.resume && (o.out == "" || o.from != "") {
		return o, errors.New("-resume goes on with the file of -out, and not with -from")
	}
	o.parts = strings.Split(someParts, ",")
	for _, part := range o.parts {
		if part != "stub" && part != "airflow" {
			return o, fmt.Errorf("-parts: no part is called %q", part)
		}
	}
	return o, o.choose(someFaults, someSystems)
}

func (o *options) choose(someFaults, someSystems string) error {
	o.faults = faults
	if someFaults != "" {
		o.faults = nil
	}
	for name := range strings.SplitSeq(someFaults, ",") {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 && name != "" {
			return fmt.Errorf("-faults: no fault is called %q", name)
		}
		if i >= 0 {
			o.faults = append(o.faults, faults[i])
		}
	}
	for name := range strings.SplitSeq(someSystems, ",") {
		if !slices.ContainsFunc(systems, func(s struct {
			name string
			make func(context.Context, *stage) (System, error)
		}) bool {
			return s.name == name
		}) {
			return fmt.Errorf("-systems: no system is called %q", name)
		}
		o.systems = append(o.systems, name)
	}
	return nil
}

// report measures, or reads what was measured. With an error there may be a report of what was measured until then.
func (o options) report(ctx context.Context, progress io.Writer) (*Report, error) {
	if o.from != "" {
		report, err := readReports(o.from)
		if err == nil && o.out != "" {
			err = report.write(o.out)
		}
		return report, err
	}
	report, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	r := newRecord(report, o, progress)
	if slices.Contains(o.parts, "stub") {
		err = playStubs(ctx, o, r)
	}
	if err == nil && slices.Contains(o.parts, "airflow") {
		err = playAirflow(ctx, o, r)
	}
	return report, errors.Join(err, r.save())
}

// begin is a new report with its plan, or the one to go on with.
func (o options) begin(ctx context.Context) (*Report, error) {
	report := newReport()
	if o.resume {
		var err error
		if report, err = readReports(o.out); err != nil {
			return nil, err
		}
	} else if err := os.Rename(o.out, o.out+".before"); o.out != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keep what was measured before: %w", err)
	}
	report.Sittings = append(report.Sittings, Sitting{Started: time.Now(), Commit: lab.Commit(ctx)})
	if slices.Contains(o.parts, "stub") {
		for _, f := range o.faults {
			for _, system := range o.systems {
				report.Plan[stubKey(f.name, system)] = o.runs
			}
		}
	}
	if slices.Contains(o.parts, "airflow") {
		report.Plan[airflowKey(warm)], report.Plan[airflowKey(cold)] = o.kills, o.kills
		report.Plan[airflowKey(native)] = o.native
	}
	return report, nil
}

func (o options) show(r *Report, stdout io.Writer) error {
	if o.plot != "" {
		if err := figures.Replace(o.plot, []byte(plot(r))); err != nil {
			return err
		}
	}
	if o.readme != "" {
		if err := r.rewrite(o.readme); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return json.NewEncoder(stdout).Encode(r)
	}
	r.table(stdout)
	if o.beside == "" {
		return nil
	}
	other, err := readReports(o.beside)
	if err == nil {
		beside(stdout, r, other)
	}
	return err
}
