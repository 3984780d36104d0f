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
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: robustness [-minutes N | -trials N] [-seed N] [-only TYPE[,TYPE]] [-pairs=false] [-out DIR] [-o table|json]
       robustness check [-o table|json] [-markdown] DIR...
       robustness -list

A run keeps what it has seen in DIR/SEED (.run/robustness/SEED). check judges such folders again, all together, and needs nothing else.

Examples:
  make robustness MINUTES=30 SEED=7 ONLY=kill-host,freeze-host
  go run ./scripts/robustness -trials 20 -seed 7
  go run ./scripts/robustness check .run/robustness/*

Exit codes: 0 nothing was lost or done twice and every trouble was survived; 1 a promise was broken; 2 usage; 3 the run could
not be carried out, or its records cannot be trusted.

`

type options struct {
	minutes float64
	trials  int
	seed    uint64
	only    string
	pairs   bool
	list    bool
	out     string
	broken  string // name of a sabotage
}

func main() { os.Exit(program.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return new(checker).program().Run(ctx, args[1:], stdout, stderr)
	}
	return new(options).program().Run(ctx, args, stdout, stderr)
}

func (o *options) program() program.Program {
	return program.Program{Name: "robustness", Usage: usage, Flags: o.flags, Check: o.check, Play: o.play}
}

func (o *options) flags(set *flag.FlagSet) {
	set.Float64Var(&o.minutes, "minutes", 2, "how long to go on; ignored with -trials")
	set.IntVar(&o.trials, "trials", 0, "how many trials; 0: as many as fit into -minutes")
	set.Uint64Var(&o.seed, "seed", 0, "decides everything that is left to chance; 0: a new one")
	set.StringVar(&o.only, "only", "", "types of trouble to draw from; empty: all")
	set.BoolVar(&o.pairs, "pairs", true, "one trial of four has two troubles that overlap")
	set.BoolVar(&o.list, "list", false, "say which types there are, and do nothing")
	set.StringVar(&o.broken, "sabotage", "", "break a promise on purpose, from the outside: stale, lost or false; the run has to end with 1")
	set.StringVar(&o.out, "out", filepath.Join(".run", "robustness"), "folder for the folders of runs")
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("what is %q?", rest[0])
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	_, err := chosenTroubles(o.only)
	_, unknown := sabotageNamed(o.broken)
	return errors.Join(err, unknown)
}

func (o *options) play(ctx context.Context, progress io.Writer) (*program.Result, error) {
	if o.list {
		return listed()
	}
	fmt.Fprintf(progress, "robustness: seed %d\n", o.seed)
	path, err := o.perform(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("seed %d: %w", o.seed, err)
	}
	r, err := added([]string{path})
	if err != nil {
		return nil, err
	}
	return &program.Result{Report: r, Table: r.table, Broken: r.Wrong}, nil
}

// perform carries out a run and returns the folder with its records.
func (o *options) perform(ctx context.Context, progress io.Writer) (path string, err error) {
	deck, err := chosenTroubles(o.only)
	if err != nil {
		return "", err
	}
	out, err := newFolder(o.out, o.seed)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	fmt.Fprintf(progress, "robustness: records are in %s\n", out.path)
	lasting, end := context.WithCancel(context.WithoutCancel(ctx)) // the cluster outlives an interruption, to be judged
	defer end()
	s, err := newStage(lasting, out, progress)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	about := Run{Seed: o.seed, Commit: lab.Commit(ctx), Postgres: s.Store.Version(), Started: time.Now(), Only: o.only}
	if err := out.writeJSON(runName, about); err != nil {
		return "", err
	}
	p := &player{stage: s, seed: o.seed, deck: deck, pairs: o.pairs}
	err = o.trialsOf(ctx, p, progress)
	if ctx.Err() != nil { // what was seen until then counts
		fmt.Fprintln(progress, "robustness: interrupted; the trials that ended are judged")
		if err = p.restartStore(lasting); err == nil { // Ctrl-C is for all of the terminal's processes, Postgres as well
			_, err = p.await(lasting, false)
		}
	}
	if err != nil { // the trials before stay judgeable, by check; what could not be carried out may have left somebody hanging
		bounded, cancel := context.WithTimeout(lasting, recoverWithin)
		defer cancel()
		return "", errors.Join(err, p.finish(bounded))
	}
	return out.path, p.finish(lasting)
}

func (o *options) trialsOf(ctx context.Context, p *player, progress io.Writer) error {
	sabotage, err := sabotageNamed(o.broken)
	if err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(o.minutes * float64(time.Minute)))
	for n := 1; (o.trials > 0 && n <= o.trials) || (o.trials == 0 && time.Now().Before(end)); n++ {
		p.mark()
		t, err := p.trial(ctx, n)
		if err != nil {
			return errors.Join(err, p.evidence(n))
		}
		fmt.Fprintln(progress, t)
		if err := p.out.writeJSON(trialsName, t); err != nil {
			return err
		}
		if len(t.wrong()) > 0 {
			if err := p.evidence(n); err != nil {
				return err
			}
		}
		if t.Stuck != "" {
			break // the rest of the run would only repeat it
		}
		if sabotage != nil && n == sabotageAfter {
			if err := sabotage(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func listed() (*program.Result, error) {
	var names []string
	for _, t := range allTroubles() {
		names = append(names, t.name)
	}
	return &program.Result{Report: names, Table: func(out io.Writer) error {
		_, err := fmt.Fprintln(out, strings.Join(names, "\n"))
		return err
	}}, nil
}

// checker judges the folders of earlier runs.
type checker struct {
	folders  []string
	markdown bool
}

func (c *checker) program() program.Program {
	return program.Program{
		Name: "robustness", Usage: usage, Flags: func(set *flag.FlagSet) {
			set.BoolVar(&c.markdown, "markdown", false, "write the table as documents have it")
		},
		Check: func(rest []string) error {
			if len(rest) == 0 {
				return errors.New("check: name the folders of runs")
			}
			c.folders = rest
			return nil
		},
		Play: func(context.Context, io.Writer) (*program.Result, error) { return c.judge() },
	}
}

func (c *checker) judge() (*program.Result, error) {
	r, err := added(c.folders)
	if err != nil {
		return nil, err
	}
	result := &program.Result{Report: r, Table: r.table, Broken: r.Wrong}
	if c.markdown {
		result.Table = r.markdown
	}
	return result, nil
}
