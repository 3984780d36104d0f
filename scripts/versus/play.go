package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// play carries out all rounds. In a round each side gets a fresh laboratory, and only one of them works at a time; while
// the tasks of a native case wait for a timer of Airflow, with no work going on there, the next side has its turn.
func play(ctx context.Context, o options, p *progress) (*report, error) {
	r := &report{Started: time.Now().UTC(), Cap: o.limit.Seconds(), Cores: runtime.NumCPU()}
	for round := 1; round <= o.runs; round++ {
		trials, err := playRound(ctx, o, p, round)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		for _, t := range trials {
			if r.Versions == "" {
				r.Versions = t.versions
			}
			r.Trials = append(r.Trials, t)
		}
	}
	r.Took = time.Since(r.Started).Seconds()
	r.summarizeCases()
	return r, nil
}

func playRound(ctx context.Context, o options, p *progress, round int) ([]*trial, error) {
	waiting, waitCtx := errgroup.WithContext(ctx)
	var trials []*trial
	var err error
	for _, side := range sides {
		cases := o.of(side)
		if len(cases) == 0 {
			continue
		}
		h := &heat{progress: p, side: side, round: round, limit: o.limit}
		var some []*trial
		some, err = h.perform(waitCtx, cases, waiting)
		trials = append(trials, some...)
		if err != nil {
			err = fmt.Errorf("%s: %w", side, err)
			break
		}
	}
	if err != nil {
		// Those that wait are ended by the first error of the group.
		waiting.Go(func() error { return err })
	}
	if late := waiting.Wait(); late != nil {
		return nil, late
	}
	// Parts of a trial are filled in while others go on; all is read only after the wait.
	return trials, nil
}

// heat is one round of one side.
type heat struct {
	*progress
	side  string
	round int
	limit time.Duration

	world *world
	who   takeover.Side
}

// perform carries the cases out and leaves the last wait, and the end of the laboratory, to waiting.
func (h *heat) perform(ctx context.Context, cases []experiment, waiting *errgroup.Group) ([]*trial, error) {
	h.say("", "round %d: setting up %s (about half a minute)", h.round, h.side)
	var err error
	if h.world, h.who, err = sideOf(ctx, h.side, h.progress); err != nil {
		return nil, err
	}
	var trials []*trial
	for i, c := range cases {
		t, err := h.strike(ctx, c)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", c.Name, err), h.world.Close())
		}
		trials = append(trials, t)
		if i == len(cases)-1 {
			break
		}
		if err := h.await(ctx, t); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", c.Name, err), h.world.Close())
		}
	}
	last := trials[len(trials)-1]
	if h.side == duoflow { // nothing is left that could use the time
		return trials, errors.Join(h.await(ctx, last), h.world.Close())
	}
	waiting.Go(func() error { return errors.Join(h.await(ctx, last), h.world.Close()) })
	return trials, nil
}

// loadAverages are the machine's, over 1, 5 and 15 minutes.
func loadAverages() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", fmt.Errorf("read load: %w", err)
	}
	return strings.Join(slices.Collect(strings.FieldsSeq(string(text)))[:3], " "), nil
}
