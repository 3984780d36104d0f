// Command chaos kills, freezes and cuts off the nodes of a real duoflow cluster at random, from a printed seed, while
// a writer runs as the job and a thief writes with every epoch's stolen credentials. Afterwards it reads the commit
// order from Postgres: all commits of an epoch must come before all commits of a later one. The exit code says it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: chaos [-minutes N | -faults N] [-seed N] [-only NAME[,NAME]] [-o table|json]

Examples:
  make chaos MINUTES=5
  go run ./scripts/chaos -faults 20 -seed 7
  go run ./scripts/chaos -minutes 1 -only kill-host,freeze-host -o json

Exit codes: 0 nothing was lost or done twice and every fault was survived; 1 a promise was broken; 2 usage; 3 the run
could not be carried out.

`

type options struct {
	minutes float64
	faults  int
	seed    uint64
	only    string
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "chaos", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.Float64Var(&o.minutes, "minutes", 1, "how long to go on; ignored with -faults")
	set.IntVar(&o.faults, "faults", 0, "how many faults; 0: as many as fit into -minutes")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.StringVar(&o.only, "only", "", "names of faults to draw from; empty: all")
}

func (o *options) check([]string) error {
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	return nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	fmt.Fprintf(progress, "chaos: seed %d\n", o.seed)
	r, err := play(ctx, *o, progress)
	if err != nil {
		return nil, fmt.Errorf("seed %d: %w", o.seed, err)
	}
	result := &program.Result{Report: r, Table: r.table}
	if !r.Sound() {
		result.Broken = []string{fmt.Sprintf("seed %d: a promise was broken", o.seed)}
	}
	return result, nil
}

// chosen returns the faults to draw from.
func (o options) chosen() ([]fault, error) {
	if o.only == "" {
		return faults, nil
	}
	var some []fault
	for _, name := range strings.Split(o.only, ",") {
		f, ok := faultNamed(name)
		if !ok {
			return nil, fmt.Errorf("-only: no fault is called %q", name)
		}
		some = append(some, f)
	}
	return some, nil
}

// play sets the stage, injects faults one after the other, and judges.
func play(ctx context.Context, o options, progress io.Writer) (*report, error) {
	some, err := o.chosen()
	if err != nil {
		return nil, err
	}
	s, err := newStage(ctx, progress)
	if err != nil {
		return nil, err
	}
	defer s.close()
	r := &report{Seed: o.seed, Started: time.Now()}
	dice := rand.New(rand.NewPCG(o.seed, 0)) // #nosec: this is chance, not secrecy
	end := time.Now().Add(time.Duration(o.minutes * float64(time.Minute)))
	for n := 0; (o.faults > 0 && n < o.faults) || (o.faults == 0 && time.Now().Before(end)); n++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		event, err := s.inject(ctx, some[dice.IntN(len(some))], dice)
		if err != nil {
			return nil, err
		}
		r.add(event)
		fmt.Fprintln(progress, event)
		if event.Stuck != "" {
			break // the rest of the run would only repeat it
		}
	}
	if err := s.judge(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}
