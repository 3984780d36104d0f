package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// endWithin is how long tasks are waited for in the end. It is longer than Airflow's own timers, after which it takes back what was never
// taken up (600 s) and what gives no sign of life (300 s).
const endWithin = 20 * time.Minute

// finish ends the work, waits until all of it is over, and writes down what Airflow says of it.
func (s *stage) finish(ctx context.Context) error {
	if _, err := s.Ready(ctx); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	s.clock.Until = time.Now().UTC().Truncate(every).Add(every)
	err := s.until(waiting, 1, `SELECT count(*) FROM dag_run WHERE dag_id = $1 AND logical_date = $2`, clockDAG, s.clock.Until)
	if err == nil {
		err = s.stopClock(waiting)
	}
	// What is still before the worker would be taken up before this run's tasks: when they are over, no old message waits.
	if err == nil {
		err = s.trigger(ctx, chainDAG, "last")
	}
	if err == nil {
		err = s.until(waiting, 0, open)
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		s.say("%v", err) // the judge finds what is open
	}
	return s.export(ctx)
}

// open are the runs that are not over.
const open = `SELECT count(*) FROM dag_run WHERE state NOT IN ('success', 'failed')`

// stopClock ends the schedule when all is over. Airflow does nothing for open runs of a DAG that is paused: if one was made meanwhile, it goes on.
func (s *stage) stopClock(ctx context.Context) error {
	for {
		if err := s.until(ctx, 0, open); err != nil {
			return err
		}
		if err := s.pause(ctx, true); err != nil {
			return err
		}
		var n int
		if err := s.Pool.QueryRow(ctx, open).Scan(&n); err != nil {
			return fmt.Errorf("count open runs: %w", err)
		}
		if n == 0 {
			return nil
		}
		if err := s.pause(ctx, false); err != nil {
			return err
		}
	}
}

func (s *stage) pause(ctx context.Context, paused bool) error {
	if _, err := s.Pool.Exec(ctx, `UPDATE dag SET is_paused = $2 WHERE dag_id = $1`, clockDAG, paused); err != nil {
		return fmt.Errorf("stop the schedule: %w", err)
	}
	return nil
}

// until waits until a count is as wanted.
func (s *stage) until(ctx context.Context, want int, count string, arguments ...any) error {
	for {
		var n int
		err := s.Pool.QueryRow(ctx, count, arguments...).Scan(&n)
		if err == nil && n == want {
			return nil
		}
		if paused := lab.Pause(ctx, 200*time.Millisecond); paused != nil {
			return fmt.Errorf("wait for the end of the work: %w: %d instead of %d, %w", paused, n, want, err)
		}
	}
}

// describe writes down what the run is about, when its end is known.
func (s *stage) describe(ctx context.Context, r Run) error {
	var err error
	if r.Versions, err = s.Versions(ctx); err != nil {
		return err
	}
	r.Clock = s.clock
	return appendJSON(filepath.Join(s.folder, runName), r)
}

// keepLogs copies what all processes have said.
func (s *stage) keepLogs() error {
	return os.CopyFS(filepath.Join(s.folder, "logs"), os.DirFS(filepath.Join(s.Lab.Dir, "logs")))
}
