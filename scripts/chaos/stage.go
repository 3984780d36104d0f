package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	job = "scheduler"
	// recoverWithin is how long after the end of a fault an instance must be active and writing. It is a limit for
	// being stuck, not a measurement.
	recoverWithin = 20 * time.Second
)

// stage is the cluster, its metastore, and who watches them.
type stage struct {
	lab     *lab.Lab
	store   *lab.Metastore
	cluster *lab.Cluster
	pool    *pgxpool.Pool
	thieves *thieves
}

const probeSQL = `
CREATE TABLE public.probe (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp())`

func newStage(ctx context.Context, progress io.Writer) (*stage, error) {
	fmt.Fprintln(progress, "chaos: setting up hosts, Postgres and three nodes")
	s := &stage{}
	if err := s.build(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context) error {
	var err error
	if s.lab, err = lab.Up(ctx, lab.Options{Hosts: []string{"a", "b", "t"}}); err != nil {
		return err
	}
	if !s.lab.Net.Real() {
		return fmt.Errorf("network namespaces cannot be made here, and without them nobody can be cut off")
	}
	if s.store, err = s.lab.StartMetastore(ctx, map[string]string{"wal_level": "logical"}); err != nil {
		return err
	}
	if s.pool, err = pgxpool.New(ctx, s.store.Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	writer, err := buildWriter(ctx, s.lab.Dir)
	if err != nil {
		return err
	}
	s.cluster, err = s.lab.NewCluster(ctx, s.store, lab.ClusterOptions{
		Jobs: map[string]lab.Job{job: {Kind: "command", Command: []string{writer}}},
	})
	if err != nil {
		return err
	}
	for _, sql := range []string{probeSQL, "GRANT SELECT, INSERT ON public.probe TO airflow"} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare the table that the writers fill: %w", err)
		}
	}
	if err := commitorder.Watch(ctx, s.pool); err != nil {
		return err
	}
	if err := s.startNodes(); err != nil {
		return err
	}
	s.thieves = newThieves(ctx, s)
	_, err = s.await(ctx, time.Minute)
	return err
}

// startNodes starts all daemons without damping: a run makes more failovers in a minute than a site in a year, and
// what is to be measured is each of them.
func (s *stage) startNodes() error {
	for _, name := range []string{"a", "b", "t"} {
		err := s.cluster.Nodes[name].WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" })
		if err != nil {
			return err
		}
	}
	return s.cluster.Start()
}

func buildWriter(ctx context.Context, dir string) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "writer")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./scripts/chaos/writer")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build writer: %w: %s", err, out)
	}
	return path, nil
}

func (s *stage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.thieves != nil {
		s.thieves.stop()
	}
	if s.pool != nil {
		s.pool.Close()
	}
	if s.lab != nil {
		_ = s.lab.Down(ctx) // what is left is cleaned up at the next start
	}
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
	if e.from, err = s.clock(ctx); err != nil {
		return e, err
	}
	if err := f.do(ctx, s, s.cluster.Nodes[e.Node], dice); err != nil {
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
	if e.to, err = s.clock(ctx); err != nil {
		return e, err
	}
	return e, s.measure(ctx, &e)
}

// await waits until the cluster agrees on an active instance and that instance commits rows.
func (s *stage) await(ctx context.Context, within time.Duration) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		active, err := s.cluster.AwaitActive(ctx, job, 0)
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
	err := s.pool.QueryRow(ctx, `SELECT count(*) > 0 FROM public.probe
		WHERE epoch = $1 AND pid > 0 AND at > clock_timestamp() - interval '1 second'`, active.Epoch).Scan(&recent)
	return err == nil && recent
}

func (s *stage) writerPID(ctx context.Context) (int, error) {
	var pid int
	err := s.pool.QueryRow(ctx, `SELECT pid FROM public.probe WHERE pid > 0 ORDER BY id DESC LIMIT 1`).Scan(&pid)
	return pid, err
}

// clock reads the metastore's clock, the only one a measurement uses.
func (s *stage) clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now, err
}

// cutFor cuts, waits, and heals everything.
func (s *stage) cutFor(ctx context.Context, d time.Duration, cut func() error) error {
	if err := cut(); err != nil {
		return err
	}
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	return s.lab.Net.HealAll(ctx)
}

// measure reads the longest time without a row of the job around a fault.
func (s *stage) measure(ctx context.Context, e *event) error {
	var gap float64
	err := s.pool.QueryRow(ctx, `
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
