package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

// noteSQL has Postgres note, in the transaction that does it, every task that becomes queued, every end of that or
// change of hands, every unfinished task that ends or changes hands, and under which epoch's role the tables of the
// scheduler are written: who did what and when must not be lost when the row changes afterwards. It is the same for all.
const noteSQL = `
CREATE SCHEMA takeover;
CREATE TABLE takeover.queued (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  job bigint, run_id text NOT NULL, task_id text NOT NULL, message text);
CREATE TABLE takeover.moved (at timestamptz NOT NULL DEFAULT clock_timestamp(), job bigint, run_id text NOT NULL, task_id text NOT NULL);
CREATE TABLE takeover.gone (at timestamptz NOT NULL DEFAULT clock_timestamp(), job bigint, run_id text NOT NULL, task_id text NOT NULL);
CREATE FUNCTION takeover.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO takeover.queued (job, run_id, task_id, message)
  VALUES (NEW.queued_by_job_id, NEW.run_id, NEW.task_id, NEW.external_executor_id);
  RETURN NULL;
END $$;
CREATE FUNCTION takeover.note_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO takeover.moved (job, run_id, task_id) VALUES (OLD.queued_by_job_id, OLD.run_id, OLD.task_id);
  RETURN NULL;
END $$;
CREATE FUNCTION takeover.note_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO takeover.gone (job, run_id, task_id) VALUES (OLD.queued_by_job_id, OLD.run_id, OLD.task_id);
  RETURN NULL;
END $$;
CREATE TRIGGER takeover AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN (NEW.state = 'queued' AND OLD.state IS DISTINCT FROM 'queued') EXECUTE FUNCTION takeover.note();
CREATE TRIGGER takeover_moved AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN (OLD.state = 'queued' AND (NEW.state, NEW.queued_by_job_id) IS DISTINCT FROM (OLD.state, OLD.queued_by_job_id))
  EXECUTE FUNCTION takeover.note_moved();
CREATE TRIGGER takeover_gone AFTER UPDATE ON public.task_instance FOR EACH ROW
  WHEN (OLD.state IN ('queued', 'running', 'restarting') AND OLD.queued_by_job_id IS NOT NULL AND (
    NEW.queued_by_job_id IS DISTINCT FROM OLD.queued_by_job_id
    OR NEW.state IS NULL OR NEW.state NOT IN ('queued', 'running', 'restarting')))
  EXECUTE FUNCTION takeover.note_gone();
CREATE SEQUENCE takeover.writes_seq;
CREATE TABLE takeover.writes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL);
CREATE FUNCTION takeover.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF session_user ~ '^df_.*_e\d+$' THEN
    INSERT INTO takeover.writes (node, epoch, pid, seq) VALUES
      (session_user, substring(session_user from '_e(\d+)$')::bigint, pg_backend_pid(), nextval('takeover.writes_seq'));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER takeover_write AFTER INSERT OR UPDATE OR DELETE ON public.job FOR EACH STATEMENT EXECUTE FUNCTION takeover.note_write();
CREATE TRIGGER takeover_write AFTER INSERT OR UPDATE OR DELETE ON public.dag_run FOR EACH STATEMENT EXECUTE FUNCTION takeover.note_write();
CREATE TRIGGER takeover_write AFTER INSERT OR UPDATE OR DELETE ON public.task_instance FOR EACH STATEMENT EXECUTE FUNCTION takeover.note_write()`

func (w *World) note(ctx context.Context) error {
	if _, err := w.Pool.Exec(ctx, noteSQL); err != nil {
		return fmt.Errorf("have Postgres note what happens to tasks: %w", err)
	}
	return commitorder.Watch(ctx, w.Pool)
}

// CommitOrder judges the order in which the epochs wrote, from the beginning of the world; natively there are no rows.
func (w *World) CommitOrder(ctx context.Context) (commitorder.Verdict, error) {
	rows, err := commitorder.Read(ctx, w.Pool, "takeover.writes")
	if err != nil {
		return commitorder.Verdict{}, err
	}
	return commitorder.Examine(rows), nil
}

// FirstQueued waits until a scheduler other than that with row dead has queued a task after the time, and returns when it
// did, and when the row of that scheduler in table job began.
func (w *World) FirstQueued(ctx context.Context, dead int64, after time.Time) (queued, row time.Time, err error) {
	for {
		err := w.Pool.QueryRow(ctx, `SELECT q.at, j.start_date FROM takeover.queued q JOIN job j ON j.id = q.job
			WHERE q.job <> $1 AND q.at > $2 ORDER BY q.at LIMIT 1`, dead, after).Scan(&queued, &row)
		if err == nil {
			return queued, row, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return queued, row, fmt.Errorf("look for the first task: %w", err)
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return queued, row, fmt.Errorf("wait for another scheduler to queue a task: %w", err)
		}
	}
}
