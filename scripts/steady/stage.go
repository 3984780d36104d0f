package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	job     = "scheduler"
	witness = "t"
	// wholeWithin is how long after the end of a trouble every node must be well again. It is a limit for being stuck.
	wholeWithin = time.Minute
)

// stage is the cluster, its metastore, and who writes beside it.
type stage struct {
	lab     *lab.Lab
	store   *lab.Metastore
	cluster *lab.Cluster
	pool    *pgxpool.Pool
	eye     *eye
}

const tablesSQL = `
CREATE TABLE public.probe (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL);
GRANT SELECT, INSERT ON public.probe TO airflow;
CREATE TABLE public.bystander (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`

func newStage(ctx context.Context) (*stage, error) {
	s := &stage{}
	if err := s.build(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context) error {
	var err error
	if s.lab, err = lab.Up(ctx, lab.Options{Hosts: []string{"a", "b", witness}}); err != nil {
		return err
	}
	if !s.lab.Net.Real() {
		return fmt.Errorf("network namespaces cannot be made here, and without them nobody can be cut off")
	}
	if s.store, err = s.lab.StartMetastore(ctx, nil); err != nil {
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
	if _, err := s.pool.Exec(ctx, tablesSQL); err != nil {
		return fmt.Errorf("prepare the tables that the writers fill: %w", err)
	}
	if err := commitorder.Watch(ctx, s.pool); err != nil {
		return err
	}
	if s.eye, err = newEye(s); err != nil {
		return err
	}
	return s.cluster.Start()
}

// buildWriter makes the job: the writer of the chaos run, which commits a row every few milliseconds.
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
	if s.pool != nil {
		s.pool.Close()
	}
	if s.lab != nil {
		_ = s.lab.Down(ctx) // what is left is cleaned up at the next start
	}
}

// standby is the other candidate.
func standby(active string) string {
	if active == "a" {
		return "b"
	}
	return "a"
}

// clock reads the metastore's clock, the only one that gaps are measured by.
func (s *stage) clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("read the metastore's clock: %w", err)
	}
	return now, nil
}

// whole waits until every node is well and one of them is active, and returns that one.
func (s *stage) whole(ctx context.Context) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeWithin)
	defer cancel()
	for {
		active, missing := s.look(ctx)
		if missing == "" {
			return active, nil
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return lab.Active{}, fmt.Errorf("not whole within %s: %s", wholeWithin, missing)
		}
	}
}

// look says what the cluster lacks to be whole; empty when nothing.
func (s *stage) look(ctx context.Context) (active lab.Active, missing string) {
	status, err := s.cluster.Status(ctx)
	if err != nil {
		return active, err.Error()
	}
	if !status.GetView().GetAuthoritative() {
		return active, status.GetView().GetReason()
	}
	for _, n := range status.GetNodes() {
		if n.GetTrouble() != "" || !n.GetConnected() || n.LastBeatAgeMs == nil || n.GetLastBeatAgeMs() > 1000 {
			return active, fmt.Sprintf("node %s: connected %v, last beat %d ms ago, trouble %q",
				n.GetName(), n.GetConnected(), n.GetLastBeatAgeMs(), n.GetTrouble())
		}
	}
	j := status.GetJobs()[0]
	states := []string{}
	for _, on := range j.GetNodes() {
		if on.GetState() == "active" && on.GetNode() == j.GetHolder() {
			active = lab.Active{Node: on.GetNode(), Epoch: j.GetEpoch()}
		}
		states = append(states, on.GetState())
	}
	slices.Sort(states)
	if active.Node == "" || !slices.Equal(states, []string{"active", "standby", "witness"}) {
		return active, fmt.Sprintf("the nodes are %v", states)
	}
	return active, ""
}
