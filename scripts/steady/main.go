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
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
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
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "steady", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.Float64Var(&o.minutes, "minutes", 60, "how long to watch")
	set.BoolVar(&o.faults, "faults", false, "break everything but the active host")
	set.IntVar(&o.load, "load", 0, "busy processes for each processor")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.DurationVar(&o.gap, "gap", time.Second, "how long the job may commit nothing while a bystander does")
}

func (o *options) check([]string) error {
	switch {
	case o.minutes <= 0 || o.gap <= 0 || o.load < 0:
		return errors.New("-minutes and -gap must be above 0, -load not below")
	case o.faults && o.load > 0:
		return errors.New("-faults and -load: one at a time, or nobody could say what was the cause")
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	fmt.Fprintf(progress, "steady: seed %d\n", o.seed)
	r, err := play(ctx, *o, progress)
	if err != nil {
		return nil, fmt.Errorf("seed %d: %w", o.seed, err)
	}
	result := &program.Result{Report: r, Table: r.table}
	for _, line := range r.Broken {
		result.Broken = append(result.Broken, fmt.Sprintf("seed %d: %s", o.seed, line))
	}
	return result, nil
}
