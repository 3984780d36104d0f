package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// noteSQL has Postgres note every change of a task instance's state or id in the transaction that makes it: the row itself is
// overwritten by the next try.
const noteSQL = `
CREATE SCHEMA tasks;
CREATE TABLE tasks.note (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), login text NOT NULL,
  dag text NOT NULL, run text NOT NULL, task text NOT NULL, map int NOT NULL, try int NOT NULL, message text,
  was text, state text, before uuid NOT NULL, id uuid NOT NULL);
CREATE INDEX ON tasks.note (state, number);
CREATE FUNCTION tasks.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO tasks.note (login, dag, run, task, map, try, message, was, state, before, id) VALUES (session_user, NEW.dag_id, NEW.run_id,
    NEW.task_id, NEW.map_index, NEW.try_number, NEW.external_executor_id, OLD.state, NEW.state, OLD.id, NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER tasks_note AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN ((OLD.state, OLD.id) IS DISTINCT FROM (NEW.state, NEW.id)) EXECUTE FUNCTION tasks.note()`

// newest is the number of the newest note of a queued task. It becomes visible in the moment of the commit.
const newest = `SELECT coalesce(max(number), 0) FROM tasks.note WHERE state = 'queued'`

// epochOf takes the epoch out of the name of its role; NULL for other logins.
const epochOf = `substring(login from '^df_.*_e(\d+)$')::bigint`

// firstQueued is when a task was first queued after a time under an epoch above another one.
func (s *stage) firstQueued(ctx context.Context, after time.Time, epoch uint64) (at *time.Time, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT min(at) FROM tasks.note WHERE state = 'queued' AND at > $1 AND `+epochOf+` > $2`, after, int64(epoch)).Scan(&at)
	if err != nil {
		return nil, fmt.Errorf("look for the first task: %w", err)
	}
	return at, nil
}

// unfinished counts the tasks of running DAG runs that wait or run.
func (s *stage) unfinished(ctx context.Context) (n int, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT count(*) FROM task_instance t JOIN dag_run r USING (dag_id, run_id)
		WHERE r.state IN ('queued', 'running') AND (t.state IS NULL OR t.state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count tasks: %w", err)
	}
	return n, nil
}

// tables are what is kept of Airflow's own, in the words of the evidence.
var tables = []struct{ name, sql string }{
	{runsName, `SELECT dag_id AS dag, run_id AS run, state, logical_date AS date FROM dag_run ORDER BY id`},
	{instancesName, `SELECT * FROM (
		SELECT id, dag_id AS dag, run_id AS run, task_id AS task, map_index AS map, try_number AS try, coalesce(state, '') AS state,
			true AS current, end_date AS ended FROM task_instance
		UNION ALL SELECT task_instance_id, dag_id, run_id, task_id, map_index, try_number, coalesce(state, ''), false, end_date FROM task_instance_history) t
		ORDER BY dag, run, task, map, try`},
	{notesName, `SELECT at, login, dag, run, task, map, try, coalesce(message, '') AS message, coalesce(was, '') AS was,
		coalesce(state, '') AS state, before, id FROM tasks.note ORDER BY number`},
	{messagesName, `SELECT task_id AS id, status FROM celery_taskmeta ORDER BY id`},
}

// export writes down what Airflow says of itself.
func (s *stage) export(ctx context.Context) error {
	for _, table := range tables {
		rows, err := s.Pool.Query(ctx, `SELECT to_jsonb(t) FROM (`+table.sql+`) t`)
		if err != nil {
			return fmt.Errorf("read %s: %w", table.name, err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[map[string]any])
		if err != nil {
			return fmt.Errorf("read %s: %w", table.name, err)
		}
		if err := appendJSON(filepath.Join(s.folder, table.name), lines...); err != nil {
			return err
		}
	}
	commits, err := commitorder.Read(ctx, s.Pool, "takeover.writes")
	if err != nil {
		return err
	}
	return appendJSON(filepath.Join(s.folder, commitsName), commits...)
}
