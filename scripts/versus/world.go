package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/lab"
)

// What is done all the time while a case goes on: a run of two independent tasks every 1.5 s. It is little enough that
// nothing piles up on two cores.
const (
	chains   = 2
	length   = 1
	perRun   = chains * length
	runEvery = 1500 * time.Millisecond
)

// setUpWithin is a limit for being stuck, not a measurement.
const setUpWithin = 6 * time.Minute

// world is a laboratory for one side: hosts, Postgres, RabbitMQ, Airflow without a scheduler.
type world struct {
	*progress
	lab     *lab.Lab
	airflow *lab.Airflow
	pool    *pgxpool.Pool
}

// logSQL has Postgres note every task that becomes queued, and every end of that or change of hands, in the transaction
// that does it: who queued what and when must not be lost when the row changes afterwards. It is the same for all sides.
const logSQL = `
CREATE SCHEMA versus;
CREATE TABLE versus.queued (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  job bigint, run_id text NOT NULL, task_id text NOT NULL, message text);
CREATE TABLE versus.moved (at timestamptz NOT NULL DEFAULT clock_timestamp(), job bigint, run_id text NOT NULL, task_id text NOT NULL);
CREATE FUNCTION versus.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO versus.queued (job, run_id, task_id, message)
  VALUES (NEW.queued_by_job_id, NEW.run_id, NEW.task_id, NEW.external_executor_id);
  RETURN NULL;
END $$;
CREATE FUNCTION versus.note_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO versus.moved (job, run_id, task_id) VALUES (OLD.queued_by_job_id, OLD.run_id, OLD.task_id);
  RETURN NULL;
END $$;
CREATE TRIGGER versus AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN (NEW.state = 'queued' AND OLD.state IS DISTINCT FROM 'queued') EXECUTE FUNCTION versus.note();
CREATE TRIGGER versus_moved AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN (OLD.state = 'queued' AND (NEW.state, NEW.queued_by_job_id) IS DISTINCT FROM (OLD.state, OLD.queued_by_job_id))
  EXECUTE FUNCTION versus.note_moved()`

func newWorld(ctx context.Context, p *progress, hosts ...string) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	w := &world{progress: p}
	if err := w.build(ctx, hosts); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) build(ctx context.Context, hosts []string) error {
	var err error
	if w.lab, err = lab.Up(ctx, lab.Options{Hosts: hosts}); err != nil {
		return err
	}
	w.airflow, err = w.lab.StartAirflow(ctx, lab.AirflowOptions{Chains: chains, Length: length, Concurrency: 8})
	if err != nil {
		return err
	}
	if w.pool, err = pgxpool.New(ctx, w.airflow.Store().Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	if _, err := w.pool.Exec(ctx, logSQL); err != nil {
		return fmt.Errorf("have Postgres note what is queued: %w", err)
	}
	return nil
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if w.pool != nil {
		w.pool.Close()
	}
	if w.lab == nil {
		return nil
	}
	if err := w.lab.Down(ctx); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// work triggers runs, whose ids begin with prefix, until the returned function is called.
func (w *world) work(ctx context.Context, who, prefix string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(runEvery)
		defer ticker.Stop()
		for n := 1; ; n++ {
			if err := w.airflow.Trigger(ctx, fmt.Sprintf("%s%03d", prefix, n)); err != nil && ctx.Err() == nil {
				w.say(who, "trigger a run: %v", err)
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

// jobAfter waits for the row of a scheduler that started after the row with id floor.
func (w *world) jobAfter(ctx context.Context, floor int64) (int64, error) {
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
func (w *world) newestJob(ctx context.Context) (int64, error) {
	var id int64
	err := w.pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM job WHERE job_type = 'SchedulerJob'`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("read schedulers: %w", err)
	}
	return id, nil
}
