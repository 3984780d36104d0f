package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// recoverWithin is how long after the end of a fault an instance must be active and writing. It is a limit for being
// stuck, not a measurement.
const recoverWithin = 20 * time.Second

// stage is the cluster, its metastore, and who steals from it.
type stage struct {
	*probe.Stage
	thieves *thieves
}

func newStage(ctx context.Context, progress io.Writer) (*stage, error) {
	fmt.Fprintln(progress, "chaos: setting up hosts, Postgres and three nodes")
	set, err := probe.SetUp(ctx, probe.Options{})
	if err != nil {
		return nil, err
	}
	s := &stage{Stage: set}
	s.thieves = newThieves(ctx, s)
	if err := s.startNodes(); err != nil {
		s.close()
		return nil, err
	}
	if _, err := s.await(ctx, time.Minute); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// startNodes starts all daemons without damping: a run makes more failovers in a minute than a site in a year, and
// what is to be measured is each of them.
func (s *stage) startNodes() error {
	for _, name := range []string{"a", "b", "t"} {
		err := s.Cluster.Nodes[name].WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" })
		if err != nil {
			return err
		}
	}
	return s.Cluster.Start()
}

func (s *stage) close() {
	s.thieves.stop()
	s.Close()
}

func (s *stage) others(name string) []string {
	return slices.DeleteFunc([]string{"a", "b", "t"}, func(n string) bool { return n == name })
}

// inject does harm once and waits until the cluster is whole again.
func (s *stage) inject(ctx context.Context, f fault, dice *rand.Rand) (event, error) {
	active, err := s.await(ctx, recoverWithin)
	if err != nil {
		return event{Fault: f.name, Stuck: err.Error()}, nil
	}
	// Let it run for a while, so that faults do not only ever hit a fresh start.
	if err := lab.Pause(ctx, between(dice, 300*time.Millisecond, 1500*time.Millisecond)); err != nil {
		return event{}, err
	}
	e := event{Fault: f.name, Node: active.Node, Epoch: active.Epoch, planned: f.planned}
	if f.anywhere {
		e.Node = []string{"a", "b", "t"}[dice.IntN(3)]
	}
	if e.from, err = s.Clock(ctx); err != nil {
		return e, err
	}
	if err := f.do(ctx, s, s.Cluster.Nodes[e.Node], dice); err != nil {
		return e, fmt.Errorf("%s on %s: %w", f.name, e.Node, err)
	}
	// The daemon must have had the time to notice, or a fault that was just made would count as survived.
	if err := lab.Pause(ctx, 500*time.Millisecond); err != nil {
		return e, err
	}
	after, err := s.await(ctx, recoverWithin)
	if err != nil {
		e.Stuck = err.Error()
		return e, nil
	}
	e.After = after.Epoch
	if e.to, err = s.Clock(ctx); err != nil {
		return e, err
	}
	return e, s.measure(ctx, &e)
}

// await waits until the cluster agrees on an active instance and that instance commits rows.
func (s *stage) await(ctx context.Context, within time.Duration) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		active, err := s.Cluster.AwaitActive(ctx, probe.Job, 0)
		if err != nil {
			return active, err
		}
		s.thieves.rob(active)
		if s.writes(ctx, active) {
			return active, nil
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return active, fmt.Errorf("epoch %d on %s is active and commits nothing: %w", active.Epoch, active.Node, err)
		}
	}
}

// writes reports whether the job itself, not a thief, has committed under the active epoch within the last second.
func (s *stage) writes(ctx context.Context, active lab.Active) bool {
	var recent bool
	err := s.Pool.QueryRow(ctx, `SELECT count(*) > 0 FROM public.probe
		WHERE epoch = $1 AND pid > 0 AND at > clock_timestamp() - interval '1 second'`, active.Epoch).Scan(&recent)
	return err == nil && recent
}

func (s *stage) writerPID(ctx context.Context) (int, error) {
	var pid int
	err := s.Pool.QueryRow(ctx, `SELECT pid FROM public.probe WHERE pid > 0 ORDER BY id DESC LIMIT 1`).Scan(&pid)
	return pid, err
}

// cutFor cuts, waits, and heals everything.
func (s *stage) cutFor(ctx context.Context, d time.Duration, cut func() error) error {
	if err := cut(); err != nil {
		return err
	}
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	return s.Lab.Net.HealAll(ctx)
}

// measure reads the longest time without a row of the job around a fault.
func (s *stage) measure(ctx context.Context, e *event) error {
	var gap float64
	err := s.Pool.QueryRow(ctx, `
		SELECT coalesce(max(extract(epoch FROM at - before)), 0) FROM (
		  SELECT at, lag(at) OVER (ORDER BY at) AS before FROM public.probe
		  WHERE pid > 0 AND at BETWEEN $1::timestamptz - interval '200 milliseconds' AND $2) AS steps`,
		e.from, e.to).Scan(&gap)
	if err != nil {
		return fmt.Errorf("measure the gap: %w", err)
	}
	e.Gap = time.Duration(gap * float64(time.Second))
	return nil
}
