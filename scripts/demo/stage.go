package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	job = "scheduler"
	// stuckAfter is when a step of the demo counts as never coming. It is a limit, not a measurement.
	stuckAfter = 2 * time.Minute
	// runsAtOnce keeps enough tasks waiting that a new scheduler always finds one to queue.
	runsAtOnce = 3
)

// stage is everything the demo has set up.
type stage struct {
	out     io.Writer
	lab     *lab.Lab
	airflow *lab.Airflow
	cluster *lab.Cluster
	pool    *pgxpool.Pool

	mu   sync.Mutex
	runs []string
}

func newStage(ctx context.Context, out io.Writer) (*stage, error) {
	s := &stage{out: out}
	if err := s.build(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "demo: "+format+"\n", args...) }

func (s *stage) build(ctx context.Context) error {
	var err error
	s.say("setting up hosts a, b and the tie-breaker t")
	if s.lab, err = lab.Up(ctx, lab.Options{Hosts: []string{"a", "b", "t"}, Logger: slog.New(progress{s})}); err != nil {
		return err
	}
	if !s.lab.Net.Real() {
		s.say("network namespaces cannot be made here: the hosts are loopback addresses of this machine")
	}
	s.say("starting Postgres, RabbitMQ and Airflow's api-server, dag-processor and Celery worker (about half a minute)")
	if s.airflow, err = s.lab.StartAirflow(ctx, lab.AirflowOptions{Chains: 4, Length: 8}); err != nil {
		return err
	}
	if s.pool, err = pgxpool.New(ctx, s.airflow.Store().Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	s.say("starting three duoflow nodes")
	return s.startCluster(ctx)
}

// progress is a slog.Handler that passes the lab's messages on, each with what it took.
type progress struct{ s *stage }

func (p progress) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (p progress) Handle(_ context.Context, r slog.Record) error {
	took := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "took" {
			took = " after " + a.Value.String()
		}
		return true
	})
	p.s.say("  %s%s", r.Message, took)
	return nil
}

// WithAttrs and WithGroup change nothing: what is shown is in the record itself.
func (p progress) WithAttrs([]slog.Attr) slog.Handler { return p }

func (p progress) WithGroup(string) slog.Handler { return p }

func (s *stage) startCluster(ctx context.Context) error {
	var err error
	s.cluster, err = s.lab.NewCluster(ctx, s.airflow.Store(), lab.ClusterOptions{
		Jobs: map[string]lab.Job{job: s.airflow.SchedulerJob()}, Env: s.airflow.SchedulerEnv(),
	})
	if err != nil {
		return err
	}
	if err := s.watchCommits(ctx); err != nil {
		return err
	}
	// No damping: a demo makes more failovers in minutes than a site in years.
	for _, n := range s.cluster.Nodes {
		if err := n.WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" }); err != nil {
			return err
		}
	}
	return s.cluster.Start()
}

// writesSQL has Postgres itself note under which epoch's role the tables of the scheduler are written. The order in
// which these notes are committed is read from the write-ahead log at the end.
const writesSQL = `
CREATE SEQUENCE demo.writes_seq;
CREATE TABLE demo.writes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL);
CREATE FUNCTION demo.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF session_user ~ '^df_.*_e\d+$' THEN
    INSERT INTO demo.writes (node, epoch, pid, seq) VALUES
      (session_user, substring(session_user from '_e(\d+)$')::bigint, pg_backend_pid(), nextval('demo.writes_seq'));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER duoflow_demo AFTER INSERT OR UPDATE OR DELETE ON public.job FOR EACH STATEMENT EXECUTE FUNCTION demo.note_write();
CREATE TRIGGER duoflow_demo AFTER INSERT OR UPDATE OR DELETE ON public.dag_run FOR EACH STATEMENT EXECUTE FUNCTION demo.note_write();
CREATE TRIGGER duoflow_demo AFTER INSERT OR UPDATE OR DELETE ON public.task_instance FOR EACH STATEMENT EXECUTE FUNCTION demo.note_write()`

func (s *stage) watchCommits(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, writesSQL); err != nil {
		return fmt.Errorf("have Postgres note who writes: %w", err)
	}
	return commitorder.Watch(ctx, s.pool)
}

func (s *stage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.pool != nil {
		s.pool.Close()
	}
	if s.lab != nil {
		if err := s.lab.Down(ctx); err != nil {
			s.say("clean up: %v", err)
		}
	}
}

// keepWorking triggers runs of the DAG so that some are always under way, until the returned function is called.
func (s *stage) keepWorking(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := s.topUp(ctx); err != nil && ctx.Err() == nil {
				s.say("trigger a run: %v", err)
			}
			_ = lab.Pause(ctx, time.Second)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (s *stage) topUp(ctx context.Context) error {
	var running int
	err := s.pool.QueryRow(ctx, `SELECT count(*) FROM dag_run WHERE state IN ('queued', 'running')`).Scan(&running)
	if err != nil {
		return err
	}
	for ; running < runsAtOnce; running++ {
		s.mu.Lock()
		id := fmt.Sprintf("demo-%03d", len(s.runs)+1)
		s.runs = append(s.runs, id)
		s.mu.Unlock()
		if err := s.airflow.Trigger(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until one node is active, the other has a warm standby, and tasks go by.
func (s *stage) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	active, err := s.cluster.AwaitActive(ctx, job, 0)
	if err != nil {
		return err
	}
	s.say("%s is active under epoch %d", active.Node, active.Epoch)
	if err := s.awaitWarm(ctx, active.Node); err != nil {
		return err
	}
	return s.showTasks(ctx, 5*time.Second)
}

// awaitWarm waits until a host other than the active one could take over at once.
func (s *stage) awaitWarm(ctx context.Context, active string) error {
	for {
		status, err := s.cluster.Status(ctx)
		if err == nil && len(status.GetJobs()) > 0 {
			for _, on := range status.GetJobs()[0].GetNodes() {
				if on.GetNode() != active && on.GetWarmReady() && on.GetEligible() {
					s.say("%s is standby with a warm scheduler process", on.GetNode())
					return nil
				}
			}
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("wait for a warm standby: %w; logs are in %s", err, filepath.Join(s.lab.Dir, "logs"))
		}
	}
}

// showTasks shows the tasks going by, a line a second.
func (s *stage) showTasks(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := lab.Pause(ctx, time.Second); err != nil {
			return err
		}
		beats, err := s.airflow.Beats(ctx, "")
		if err != nil {
			return err
		}
		s.say("  tasks run: %d", beats.Tasks)
	}
	return nil
}

// stay keeps everything up until Ctrl-C.
func (s *stage) stay(ctx context.Context) {
	s.say("everything stays up until Ctrl-C:")
	s.say("  Airflow   %s   (no password: every visitor of this demo is an admin; only this machine reaches it)", s.airflow.URL)
	s.say("  operator  DUOCTL_CONFIG=%s bin/duoctl status", filepath.Join(s.lab.Dir, "tls", "duoctl.yaml"))
	s.say("  logs      %s", filepath.Join(s.lab.Dir, "logs"))
	stop := s.keepWorking(ctx)
	<-ctx.Done()
	stop()
}
