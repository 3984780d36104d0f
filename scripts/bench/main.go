// Command bench does the same harm to duoflow and to what people use instead, with the same writer on the same hosts
// and the same Postgres in one run, and reads from the write-ahead log what came of it.
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
)

const usage = `usage: bench [-runs N] [-faults NAME,...] [-systems NAME,...] [-o table|json] [-out FILE] [-plot FILE]
       bench -from FILE [-o table|json] [-plot FILE]

Examples:
  make bench
  go run ./scripts/bench -runs 3 -faults kill-host,power-loss
  go run ./scripts/bench -runs 30 -out bench.json -plot bench.svg
  go run ./scripts/bench -systems duoflow -faults queued-statement -o json
  go run ./scripts/bench -from bench.json -plot bench.svg

A run takes about seven seconds: all faults on all systems 30 times take about two and a half hours. An interrupted benchmark
keeps what it has measured. Needs root, and the network only to fetch the peers once.

Exit codes: 0 measured, whatever the times; 1 duoflow let an old epoch commit after a newer one, or had not exactly one
writer in the end; 2 usage; 3 the benchmark could not be carried out.

`

type options struct {
	runs    int
	faults  []fault
	systems []string
	output  string
	out     string
	plot    string
	from    string
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
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	report, err := o.report(ctx, stderr)
	if report == nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 3
	}
	if shown := o.show(report, stdout); shown != nil || err != nil {
		fmt.Fprintln(stderr, "bench:", errors.Join(err, shown))
		return 3
	}
	if broken := report.broken(); len(broken) > 0 {
		for _, b := range broken {
			fmt.Fprintf(stderr, "bench: a promise was broken: %s of %s: %s\n", b.Fault, b.At.Format("15:04:05"), b)
		}
		return 1
	}
	if empty := report.empty(); len(empty) > 0 {
		for _, c := range empty {
			fmt.Fprintf(stderr, "bench: %s on %s: no valid run, %d void\n", c.Fault, c.System, c.Void)
		}
		return 3
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var someFaults, someSystems string
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
		fmt.Fprintln(stderr, "\nFaults:")
		for _, f := range faults {
			fmt.Fprintf(stderr, "  %-17s %s\n", f.name, f.about)
		}
	}
	set.IntVar(&o.runs, "runs", 30, "how often each fault is done to each system")
	set.StringVar(&someFaults, "faults", "", "names of faults; empty: all")
	set.StringVar(&someSystems, "systems", "duoflow,etcd,keepalived,advisory", "names of systems")
	set.StringVar(&o.output, "o", "table", "table or json")
	set.StringVar(&o.out, "out", "", "file for every single run, as JSON; empty: none")
	set.StringVar(&o.plot, "plot", "", "file for a plot of the gaps, as SVG; empty: none")
	set.StringVar(&o.from, "from", "", "measure nothing, read a file written by -out")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o %q; want table or json", o.output)
	}
	if o.runs < 1 || set.NArg() > 0 {
		return o, fmt.Errorf("-runs %d, arguments %q; want at least 1 and none", o.runs, set.Args())
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
		return readReport(o.from)
	}
	p, err := newPlayer(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	defer p.stage.close()
	return p.report, p.play(ctx, o.faults, o.runs)
}

// save keeps what has been measured so far.
func (o options) save(r *Report) error {
	if o.out == "" {
		return nil
	}
	return r.write(o.out)
}

func (o options) show(r *Report, stdout io.Writer) error {
	if o.plot != "" {
		if err := replace(o.plot, []byte(plot(r))); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return json.NewEncoder(stdout).Encode(r)
	}
	r.table(stdout)
	return nil
}
