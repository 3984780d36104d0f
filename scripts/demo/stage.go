package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

const (
	// stuckAfter is when a step of the demo counts as never coming. It is a limit, not a measurement.
	stuckAfter = 2 * time.Minute
	// runsAtOnce keeps enough tasks waiting that a new scheduler always finds one to queue, and leaves some of the worker to the
	// lightning DAG.
	runsAtOnce = 2
	workers    = 4
)

// stage is everything the demo has set up.
type stage struct {
	out      io.Writer
	world    *takeover.World
	managed  *takeover.Managed
	pipeline *pipeline
	engine   string // that adds up, as people call it

	line   string // of the pipeline, as last shown
	lineAt time.Time

	mu   sync.Mutex
	runs []string
}

func newStage(ctx context.Context, engine string, out io.Writer) (*stage, error) {
	s := &stage{out: out, engine: engine}
	if err := s.build(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "demo: "+format+"\n", args...) }

func (s *stage) build(ctx context.Context) error {
	var err error
	s.say("setting up hosts a, b and the tie-breaker t, with Postgres, RabbitMQ and Airflow's api-server, dag-processor and Celery worker")
	s.say("(about half a minute)")
	s.world, err = takeover.New(ctx, takeover.Options{
		Hosts: []string{"a", "b", "t"}, Chains: 4, Length: 8, Concurrency: workers, Logger: slog.New(progress{s}), Prepare: s.newPipeline,
	})
	if err != nil {
		return err
	}
	if !s.world.Lab.Net.Real() {
		s.say("network namespaces cannot be made here: the hosts are loopback addresses of this machine")
	}
	s.say("starting three duoflow nodes")
	s.managed, err = takeover.NewManaged(ctx, s.world, true, map[string]lab.Job{etlJob: s.pipeline.job()})
	if err != nil {
		return err
	}
	return s.pipeline.open(ctx)
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

func (s *stage) close() {
	if s.world == nil {
		return
	}
	if err := errors.Join(s.pipeline.close(), s.world.Close()); err != nil {
		s.say("%v", err)
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
	err := s.world.Pool.QueryRow(ctx, `SELECT count(*) FROM dag_run WHERE dag_id = $1 AND state IN ('queued', 'running')`, lab.DAG).Scan(&running)
	if err != nil {
		return err
	}
	for ; running < runsAtOnce; running++ {
		s.mu.Lock()
		id := fmt.Sprintf("demo-%03d", len(s.runs)+1)
		s.runs = append(s.runs, id)
		s.mu.Unlock()
		if err := s.world.Airflow.Trigger(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until one node is active, the other has a warm standby, and tasks go by.
func (s *stage) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	victim, err := s.managed.Ready(ctx)
	if err != nil {
		return err
	}
	s.say("%s is active under epoch %d, another host is standby with a warm scheduler process", victim.Host.Name, victim.Epoch)
	return s.showTasks(ctx, 5*time.Second)
}

// showTasks shows the tasks going by, a line a second.
func (s *stage) showTasks(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := lab.Pause(ctx, time.Second); err != nil {
			return err
		}
		beats, err := s.world.Airflow.Beats(ctx, "")
		if err != nil {
			return err
		}
		s.say("  tasks run: %d", beats.Tasks)
	}
	return nil
}

// stay keeps everything up until Ctrl-C.
func (s *stage) stay(ctx context.Context, f *figures) {
	s.say("everything stays up until Ctrl-C:")
	s.say("  Airflow   %s   (no password: every visitor of this demo is an admin; only this machine reaches it)", s.world.Airflow.URL)
	s.say("  dashboard %s   (synthetic tiles)", f.Dashboard)
	s.say("  operator  DUOCTL_CONFIG=%s bin/duoctl status", filepath.Join(s.world.Lab.Dir, "tls", "duoctl.yaml"))
	s.say("  logs      %s", filepath.Join(s.world.Lab.Dir, "logs"))
	stop := s.keepWorking(ctx)
	<-ctx.Done()
	stop()
}
