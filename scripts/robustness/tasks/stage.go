package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// DAGs of scripts/airflow/dags/tasks.py.
const (
	chainDAG  = "tasks_chain"
	mappedDAG = "tasks_mapped"
	longDAG   = "tasks_long"
	clockDAG  = "tasks_clock"
)

const (
	// every is the distance of the dates of clockDAG.
	every = 30 * time.Second
	// slots are how many tasks run at a time. It is little: the cores are for who fails over.
	slots = 4
)

// stage is a complete Airflow whose scheduler three nodes run, and the folder for what is seen.
type stage struct {
	*takeover.World
	*takeover.Managed
	folder   string
	progress io.Writer
	clock    Clock
}

// newStage sets all up and returns when the scheduler is active and its standby warm.
func newStage(ctx context.Context, folder string, progress io.Writer) (*stage, error) {
	s := &stage{folder: folder, progress: progress, clock: Clock{DAG: clockDAG, Every: every}}
	s.say("setting up hosts, Postgres, RabbitMQ, Airflow and three nodes")
	var err error
	s.World, err = takeover.New(ctx, takeover.Options{Hosts: []string{"a", "b", "t"}, Concurrency: slots, Prepare: s.prepare})
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *stage) start(ctx context.Context) error {
	if !s.Lab.Net.Real() {
		return errors.New("network namespaces cannot be made here, and without them nobody can be cut off")
	}
	if _, err := s.Pool.Exec(ctx, noteSQL); err != nil {
		return fmt.Errorf("have Postgres note what happens to tasks: %w", err)
	}
	var err error
	if s.Managed, err = takeover.NewManaged(ctx, s.World, true, nil); err != nil {
		return err
	}
	_, err = s.Ready(ctx)
	return err
}

// prepare puts the DAGs where Airflow looks for them, and says where their journal is.
func (s *stage) prepare(_ context.Context, _ *lab.Lab, a *lab.Airflow) (map[string]string, error) {
	root, err := lab.Root()
	if err != nil {
		return nil, err
	}
	s.clock.Start = time.Now().UTC().Truncate(every)
	file := filepath.Join(root, "scripts", "airflow", "dags", "tasks.py")
	err = errors.Join(
		os.MkdirAll(filepath.Join(s.folder, "locks"), 0o755),
		os.WriteFile(filepath.Join(s.folder, journalName), nil, 0o644),
		os.Symlink(file, filepath.Join(a.Home(), "dags", filepath.Base(file))))
	return map[string]string{
		"DUOFLOW_TASKS":       s.folder,
		"DUOFLOW_TASKS_START": s.clock.Start.Format(time.RFC3339),
		"DUOFLOW_TASKS_EVERY": strconv.Itoa(int(every.Seconds())),
		// The files do not change, and the cores are for who fails over.
		"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
	}, err
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "tasks: "+format+"\n", args...)
}

// now is the metastore's clock.
func (s *stage) now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("read the metastore's clock: %w", err)
	}
	return now, nil
}

// schedulerPID finds the process of the node's active scheduler: of all lives only that one has a service file.
func (s *stage) schedulerPID(node string) (int, error) {
	n := s.Cluster.Nodes[node]
	files, err := filepath.Glob(filepath.Join(n.DataDir(), "jobs", takeover.Job, "lives", "*", "service"))
	if err != nil || len(files) != 1 {
		return 0, fmt.Errorf("find the scheduler of node %s: %d service files, %w", node, len(files), err)
	}
	pids, err := n.PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && slices.Contains(strings.Split(string(environ), "\x00"), "PGSERVICEFILE="+files[0]) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("find the scheduler of node %s: none of %d processes", node, len(pids))
}

// holdWorker has the worker take up no message until the returned function is called. What it has taken up goes on.
func (s *stage) holdWorker() (release func() error, err error) {
	worker := s.Airflow.Process["worker"]
	return func() error { return worker.Signal(syscall.SIGCONT) }, worker.Signal(syscall.SIGSTOP)
}

// begun waits until the DAGs are known and a first body has run.
func (s *stage) begun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, againWithin)
	defer cancel()
	return s.awaitEntries(ctx, endEntry, 1)
}
