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
	if err := s.until(waiting, `SELECT count(*) FROM (SELECT FROM dag_run WHERE dag_id = '`+clockDAG+`' AND logical_date >= $1 LIMIT 1) t`, 1, s.clock.Until); err != nil {
		return err
	}
	if _, err := s.Pool.Exec(ctx, `UPDATE dag SET is_paused = true WHERE dag_id = $1`, clockDAG); err != nil {
		return fmt.Errorf("stop the schedule: %w", err)
	}
	const open = `SELECT count(*) FROM dag_run WHERE state NOT IN ('success', 'failed') AND $1 = $1`
	err := s.until(waiting, open, 0, "")
	// What is still before the worker would be taken up before this run's tasks: when they are over, no old message waits.
	if err == nil {
		err = s.trigger(ctx, chainDAG, "last")
	}
	if err == nil {
		err = s.until(waiting, open, 0, "")
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		s.say("%v", err) // the judge finds what is open
	}
	return s.export(ctx)
}

// until waits until a count is as wanted.
func (s *stage) until(ctx context.Context, count string, want int, argument any) error {
	for {
		var n int
		err := s.Pool.QueryRow(ctx, count, argument).Scan(&n)
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
