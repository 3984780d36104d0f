// Command steady watches for an hour that nothing happens. A real cluster of three nodes runs a writer as its job, and
//
//   - with -faults everything around the active node is killed, frozen, cut off, wiped and restarted in turn: the standby,
//     the witness, both (no quorum), the raft leader, gossip. The active host and its way to Postgres are left alone;
//   - with -load N the machine gets N busy processes for each processor, and nothing else goes wrong.
//
// "Staying up" means that the job does not notice: the same epoch and the same process from the first minute to the
// last, no gap between its commits above a bound, no failover, and at the end a switchover that works. The commits are
// read from Postgres, with its own commit times; no code of duoflow has a part in the verdict. Beside the job a
// bystander commits who has nothing to do with duoflow: what stopped him too was the metastore or the machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: steady [-minutes N] [-faults | -load N] [-seed N] [-gap D] [-o table|json]

Examples:
  make steady MINUTES=60
  make steady MINUTES=30 LOAD=8
  go run ./scripts/steady -minutes 10 -faults -seed 7 -o json

Exit codes: 0 nothing happened; 1 the job noticed something, or the cluster was not whole afterwards; 2 usage; 3 the run
could not be carried out.

`

type options struct {
	minutes float64
	faults  bool
	load    int
	seed    uint64
	gap     time.Duration
	output  string
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
		fmt.Fprintln(stderr, "steady:", err)
		return 2
	}
	fmt.Fprintf(stderr, "steady: seed %d\n", o.seed)
	r, err := play(ctx, o, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "steady: seed %d: %v\n", o.seed, err)
		return 3
	}
	if o.output == "json" {
		if err := json.NewEncoder(stdout).Encode(r); err != nil {
			fmt.Fprintln(stderr, "steady:", err)
			return 3
		}
	} else {
		r.table(stdout)
	}
	for _, line := range r.Broken {
		fmt.Fprintf(stderr, "steady: seed %d: %s\n", o.seed, line)
	}
	if len(r.Broken) > 0 {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("steady", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	set.Float64Var(&o.minutes, "minutes", 60, "how long to watch")
	set.BoolVar(&o.faults, "faults", false, "break everything but the active host")
	set.IntVar(&o.load, "load", 0, "busy processes for each processor")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.DurationVar(&o.gap, "gap", time.Second, "how long the job may commit nothing while a bystander does")
	set.StringVar(&o.output, "o", "table", "table or json")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("-o %q; want table or json", o.output)
	case o.minutes <= 0 || o.gap <= 0 || o.load < 0:
		return o, errors.New("-minutes and -gap must be above 0, -load not below")
	case o.faults && o.load > 0:
		return o, errors.New("-faults and -load: one at a time, or nobody could say what was the cause")
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	return o, nil
}
