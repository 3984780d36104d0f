package takeover

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Task is one that a scheduler had queued and that was not over when it died.
type Task struct {
	Run, ID string
	Sent    bool      // a worker has seen its message, or its body had begun
	Gone    time.Time // when it was over, or another scheduler's; zero: not yet
	Again   time.Time // when another scheduler queued it; zero: not yet
}

// Unfinished reads the tasks that the victim had queued when it was dead and that were not over at the fault. A worker
// leaves a row for each message that it takes up, also when it is refused then; a message without a row was never sent.
func (w *World) Unfinished(ctx context.Context, victim int64, at, dead time.Time) ([]Task, error) {
	rows, err := w.Pool.Query(ctx, `
		SELECT run_id, task_id, sent, gone, again FROM (SELECT q.run_id, q.task_id,
		  EXISTS (SELECT FROM celery_taskmeta m WHERE m.task_id = q.message) OR EXISTS (SELECT FROM demo.demo_log d
		    WHERE d.run_id = q.run_id AND d.task_id = q.task_id AND d.at <= $2) AS sent,
		  (SELECT min(g.at) FROM takeover.gone g
		    WHERE g.run_id = q.run_id AND g.task_id = q.task_id AND g.job = $1 AND g.at > q.at) AS gone,
		  (SELECT min(a.at) FROM takeover.queued a
		    WHERE a.run_id = q.run_id AND a.task_id = q.task_id AND a.job <> $1 AND a.at > $2) AS again
		  FROM (SELECT DISTINCT ON (run_id, task_id) * FROM takeover.queued
		    WHERE job = $1 AND at <= $3 ORDER BY run_id, task_id, id DESC) q) AS t
		WHERE gone IS NULL OR gone > $2 ORDER BY run_id, task_id`, victim, at, dead)
	if err != nil {
		return nil, fmt.Errorf("read what the victim left: %w", err)
	}
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Task, error) {
		var t Task
		var gone, again *time.Time
		err := row.Scan(&t.Run, &t.ID, &t.Sent, &gone, &again)
		if gone != nil {
			t.Gone = *gone
		}
		if again != nil {
			t.Again = *again
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what the victim left: %w", err)
	}
	return tasks, nil
}

// Count is what became of the runs whose ids have one prefix.
type Count struct {
	Tasks  int // all of them
	Twice  int // whose body began more than once
	Never  int // whose body did not begin
	Failed int // runs
	Open   int // runs that are not over
}

// Count counts the tasks of the runs with a prefix. The body of a task leaves one row each time it begins.
func (w *World) Count(ctx context.Context, prefix string, perRun int) (Count, error) {
	var c Count
	var ran int
	err := w.Pool.QueryRow(ctx, `SELECT r.runs * $2::int, t.ran, t.twice, r.failed, r.open FROM
		(SELECT count(*) AS runs, count(*) FILTER (WHERE state = 'failed') AS failed,
		   count(*) FILTER (WHERE state IN ('queued', 'running')) AS open FROM dag_run WHERE starts_with(run_id, $1)) AS r,
		(SELECT count(*) AS ran, count(*) FILTER (WHERE n > 1) AS twice FROM (
		   SELECT count(*) AS n FROM demo.demo_log WHERE starts_with(run_id, $1) GROUP BY run_id, task_id, map_index) AS b) AS t`,
		prefix, perRun).Scan(&c.Tasks, &ran, &c.Twice, &c.Failed, &c.Open)
	if err != nil {
		return c, fmt.Errorf("count tasks: %w", err)
	}
	c.Never = c.Tasks - ran
	return c, nil
}
