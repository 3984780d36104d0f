package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/lab"
)

// setUpWithin is a limit for being stuck, not a measurement.
const setUpWithin = 15 * time.Minute

// Options say what world to build.
type Options struct {
	Hosts       []string // empty = those of package lab
	Chains      int      // of the DAG; 0 = 4
	Length      int      // tasks per chain; 0 = 20
	Concurrency int      // of the worker; 0 = 4
	Logger      *slog.Logger

	// Prepare is lab.AirflowOptions.Prepare, with the laboratory; nil = nothing.
	Prepare func(context.Context, *lab.Lab, *lab.Airflow) (map[string]string, error)
}

// World is a laboratory for one way to have a scheduler run: hosts, Postgres, RabbitMQ, Airflow without a scheduler.
type World struct {
	Lab     *lab.Lab
	Airflow *lab.Airflow
	Pool    *pgxpool.Pool // of an administrator
}

// New builds a world, in which Postgres notes what happens to tasks; see Close.
func New(ctx context.Context, o Options) (*World, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	w := &World{}
	if err := w.build(ctx, o); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) build(ctx context.Context, o Options) error {
	var err error
	if w.Lab, err = lab.Up(ctx, lab.Options{Hosts: o.Hosts, Logger: o.Logger}); err != nil {
		return err
	}
	options := lab.AirflowOptions{Chains: o.Chains, Length: o.Length, Concurrency: o.Concurrency}
	if o.Prepare != nil {
		options.Prepare = func(ctx context.Context, a *lab.Airflow) (map[string]string, error) { return o.Prepare(ctx, w.Lab, a) }
	}
	w.Airflow, err = w.Lab.StartAirflow(ctx, options)
	if err != nil {
		return err
	}
	if w.Pool, err = pgxpool.New(ctx, w.Airflow.Store().Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	return w.note(ctx)
}

// Close ends everything that runs in the world and removes it.
func (w *World) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if w.Pool != nil {
		w.Pool.Close()
	}
	if w.Lab == nil {
		return nil
	}
	if err := w.Lab.Down(ctx); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// Work triggers a run every so often, with ids that begin with prefix, until the returned function is called, which
// waits for the last trigger. failed is told what could not be triggered.
func (w *World) Work(ctx context.Context, every time.Duration, prefix string, failed func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for n := 1; ; n++ {
			if err := w.Airflow.Trigger(ctx, fmt.Sprintf("%s%03d", prefix, n)); err != nil && ctx.Err() == nil {
				failed(err)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// JobAfter waits for the row of a scheduler that started after the row with id floor, and returns its id.
func (w *World) JobAfter(ctx context.Context, floor int64) (int64, error) {
	for {
		id, err := w.newestJob(ctx)
		if err != nil {
			return 0, err
		}
		if id > floor {
			return id, nil
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return 0, fmt.Errorf("wait for a scheduler to start: %w", err)
		}
	}
}

// newestJob is the id of the newest scheduler's row, 0: none.
func (w *World) newestJob(ctx context.Context) (int64, error) {
	var id int64
	err := w.Pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM job WHERE job_type = 'SchedulerJob'`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("read schedulers: %w", err)
	}
	return id, nil
}

// Versions says what is measured.
func (w *World) Versions(ctx context.Context) (string, error) {
	var postgres string
	if err := w.Pool.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&postgres); err != nil {
		return "", fmt.Errorf("read version of Postgres: %w", err)
	}
	script := `from importlib.metadata import version; print("Airflow", version("apache-airflow"), "with Celery", version("celery"))`
	text, err := exec.CommandContext(ctx, w.Airflow.Python(), "-c", script).Output()
	if err != nil {
		return "", fmt.Errorf("read version of Airflow: %w", err)
	}
	return strings.TrimSpace(string(text)) + ", Postgres " + strings.Fields(postgres)[0], nil
}
