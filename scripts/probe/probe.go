// Package probe sets up the cluster that the robustness run and the steady run look at: three nodes, the program in the folder
// writer as their job, the table that it fills, and a metastore that keeps the order of its commits.
package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe/journal"
)

const (
	// Job is what the cluster's one job is called.
	Job = "scheduler"
	// Table holds a row for each commit of the job: node, epoch, pid and seq are the writer's, id and at are Postgres's.
	Table = "public.probe"
)

// tableSQL can be carried out when the role of all epochs is there.
const tableSQL = `
CREATE TABLE public.probe (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON public.probe(at);
GRANT SELECT, INSERT ON public.probe TO airflow`

// Stage is the cluster with its lab and its metastore.
type Stage struct {
	Lab     *lab.Lab
	Store   *lab.Metastore
	Cluster *lab.Cluster
	Pool    *pgxpool.Pool // of the administrator
}

// Options say what is set up; the zero value is all that a cluster needs.
type Options struct {
	Journal string // folder for the journals of the job's processes; "" = they keep none
	Relay   bool   // Lab.Net.Disturb works
}

// SetUp makes all of it on hosts a, b and t and starts no node. The caller closes it.
func SetUp(ctx context.Context, options Options) (*Stage, error) {
	s := &Stage{}
	if err := s.build(ctx, options); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) build(ctx context.Context, options Options) error {
	var err error
	if s.Lab, err = lab.Up(ctx, lab.Options{Hosts: []string{"a", "b", "t"}, Relay: options.Relay}); err != nil {
		return err
	}
	if !s.Lab.Net.Real() {
		return errors.New("network namespaces cannot be made here, and without them nobody can be cut off")
	}
	if s.Store, err = s.Lab.StartMetastore(ctx, nil); err != nil {
		return err
	}
	if s.Pool, err = pgxpool.New(ctx, s.Store.Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	writer, err := s.Lab.Build(ctx, "./scripts/probe/writer")
	if err != nil {
		return err
	}
	job := lab.Job{Kind: "command", Command: []string{writer}}
	if options.Journal != "" {
		job.Env = map[string]string{journal.Env: options.Journal}
	}
	s.Cluster, err = s.Lab.NewCluster(ctx, s.Store, lab.ClusterOptions{Jobs: map[string]lab.Job{Job: job}})
	if err != nil {
		return err
	}
	if _, err := s.Pool.Exec(ctx, tableSQL); err != nil {
		return fmt.Errorf("prepare the table that the writers fill: %w", err)
	}
	return commitorder.Watch(ctx, s.Pool)
}

// Close ends everything and returns when it is gone. Who else uses Pool or Cluster has to have ended before.
func (s *Stage) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.Pool != nil {
		s.Pool.Close()
	}
	if s.Lab != nil {
		_ = s.Lab.Down(ctx) // what is left is cleaned up at the next start
	}
}

// Clock reads the metastore's clock, the only one that measurements use.
func (s *Stage) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("read the metastore's clock: %w", err)
	}
	return now, nil
}
