// Command chaos kills, freezes and cuts off the nodes of a real duoflow cluster at random, from a printed seed, while
// a writer runs as the job and a thief writes with every epoch's stolen credentials. Afterwards it reads the commit
// order from Postgres: all commits of an epoch must come before all commits of a later one. The exit code says it.
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
	"strings"
	"syscall"
	"time"
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
		fmt.Fprintln(stderr, "chaos:", err)
		return 2
	}
	fmt.Fprintf(stderr, "chaos: seed %d\n", o.seed)
	r, err := play(ctx, o, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "chaos: seed %d: %v\n", o.seed, err)
		return 3
	}
	if o.output == "json" {
		if err := json.NewEncoder(stdout).Encode(r); err != nil {
			fmt.Fprintln(stderr, "chaos:", err)
			return 3
		}
	} else {
		r.table(stdout)
	}
	if !r.Sound() {
		fmt.Fprintf(stderr, "chaos: seed %d: a promise was broken\n", o.seed)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("chaos", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	set.Float64Var(&o.minutes, "minutes", 1, "how long to go on; ignored with -faults")
	set.IntVar(&o.faults, "faults", 0, "how many faults; 0: as many as fit into -minutes")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.StringVar(&o.only, "only", "", "names of faults to draw from; empty: all")
	set.StringVar(&o.output, "o", "table", "table or json")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o %q; want table or json", o.output)
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	return o, nil
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
