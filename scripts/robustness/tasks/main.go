package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: tasks [-failovers N] [-minutes N] [-seed N] [-only FAULT[,FAULT]] [-out DIR] [-o table|json]
       tasks check [-o table|json] DIR...

A run keeps what it has seen in DIR/airflow-SEED (.run/robustness/airflow-SEED). check judges such folders again, together, and needs nothing else.

Examples:
  make robustness JOB=airflow FAILOVERS=100
  go run ./scripts/robustness/tasks -failovers 5 -only kill-host
  go run ./scripts/robustness/tasks check .run/robustness/airflow-*

Exit codes: 0 no try ran twice, no run was lost or doubled, and all ended; 1 one of it is broken; 2 usage; 3 the run could not be carried
out, or its records cannot be read.

`

type options struct {
	failovers int
	minutes   float64
	seed      uint64
	only      string
	out       string
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return new(checker).program().Run(ctx, args[1:], stdout, stderr)
	}
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "tasks", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.IntVar(&o.failovers, "failovers", 100, "go on until the scheduler has moved so often")
	set.Float64Var(&o.minutes, "minutes", 0, "end earlier, after so many; 0: do not")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.StringVar(&o.only, "only", "", "faults to draw from; empty: all")
	set.StringVar(&o.out, "out", filepath.Join(".run", "robustness"), "folder for the folders of runs")
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("what is %q?", rest[0])
	}
	if o.failovers < 1 || o.minutes < 0 {
		return errors.New("-failovers has to be above 0, -minutes not below")
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	_, err := o.chosen()
	return err
}

// chosen are the faults to draw from.
func (o *options) chosen() ([]fault, error) {
	if o.only == "" {
		return faults, nil
	}
	var some []fault
	for name := range strings.SplitSeq(o.only, ",") {
		f, err := faultNamed(name)
		if err != nil {
			return nil, fmt.Errorf("-only: %w", err)
		}
		some = append(some, f)
	}
	return some, nil
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	folder, err := program.NewFolder(o.out, "airflow-"+strconv.FormatUint(o.seed, 10))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "tasks: seed %d; records are in %s\n", o.seed, folder)
	if err := o.perform(ctx, folder, progress); err != nil {
		return nil, fmt.Errorf("seed %d: %w", o.seed, err)
	}
	return judged([]string{folder})
}

// perform makes a run and leaves its records in the folder.
func (o *options) perform(ctx context.Context, folder string, progress io.Writer) (err error) {
	about := Run{Seed: o.seed, Commit: lab.Commit(ctx), Started: time.Now()}
	s, err := newStage(ctx, folder, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	dice := rand.New(rand.NewPCG(o.seed, 0))              // #nosec: this is chance, not secrecy
	feed := s.feed(ctx, rand.New(rand.NewPCG(o.seed, 1))) // #nosec: as above
	if err = s.begun(ctx); err == nil {
		err = o.trials(ctx, s, feed, dice)
	}
	err = errors.Join(err, feed.stop())
	if err == nil {
		err = s.finish(ctx)
	}
	return errors.Join(err, s.describe(ctx, about), s.keepLogs())
}

// trials makes faults until there were enough failovers: each with each moment, in an order that the dice decide, again and again.
func (o *options) trials(ctx context.Context, s *stage, feed *feeder, dice *rand.Rand) error {
	some, err := o.chosen()
	if err != nil {
		return err
	}
	var deck []pair
	began, moved := time.Now(), 0
	for n := 1; moved < o.failovers && (o.minutes == 0 || time.Since(began).Minutes() < o.minutes); n++ {
		if len(deck) == 0 {
			deck = shuffled(some, dice)
		}
		t, err := s.trial(ctx, n, deck[0].fault, deck[0].moment, feed, dice)
		if err != nil {
			return err
		}
		deck = deck[1:]
		s.say("%s", t)
		if err := s.record(t); err != nil {
			return err
		}
		if t.Stuck != "" {
			return nil // the rest of the run would only repeat it
		}
		if t.Moved() {
			moved++
		}
	}
	return nil
}

type pair struct {
	fault  fault
	moment moment
}

func shuffled(some []fault, dice *rand.Rand) []pair {
	var deck []pair
	for _, f := range some {
		for _, m := range moments {
			deck = append(deck, pair{f, m})
		}
	}
	dice.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// checker judges the folders of earlier runs.
type checker struct{ folders []string }

func (c *checker) program() program.Program {
	return program.Program{
		Name: "tasks", Usage: usage, Flags: func(*flag.FlagSet) {},
		Check: func(rest []string) error {
			if len(rest) == 0 {
				return errors.New("check: name the folders of runs")
			}
			c.folders = rest
			return nil
		},
		Play: func(context.Context, io.Writer) (*program.Result, error) { return judged(c.folders) },
	}
}

func judged(folders []string) (*program.Result, error) {
	r, err := newReport(folders)
	if err != nil {
		return nil, err
	}
	return &program.Result{Report: r, Table: r.table, Broken: r.Wrong}, nil
}
