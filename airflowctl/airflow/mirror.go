package airflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The fence row is part of the statement: without it there are no rows to insert.
const mirror = `
	INSERT INTO public.duo_flow (key, value)
	SELECT new.key, new.value
	FROM duoflow.fence f,
	LATERAL (VALUES
	  ('Last_heartbeat', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
	  ('scheduler', $3::text)) AS new(key, value)
	WHERE f.job = $1 AND f.epoch = $2
	FOR SHARE OF f
	ON CONFLICT (key) DO UPDATE SET value = excluded.value`

// Mirror writes the rows Last_heartbeat (UTC, ISO 8601, the database's clock) and scheduler (node)
// of table public.duo_flow, in one statement that also tests the fence: ErrNotHolder when the
// epoch is over. Output for people; no decision may read it.
func (m *Metastore) Mirror(ctx context.Context, node string) error {
	err := m.use(ctx, func(conn *pgx.Conn) error {
		done, err := conn.Exec(ctx, mirror, m.job, int64(m.epoch), node)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrNotHolder
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write mirror: %w", err)
	}
	return nil
}

const progress = `
	SELECT id, extract(epoch FROM clock_timestamp() - latest_heartbeat)::float8
	FROM job
	WHERE CASE WHEN $2::bigint > 0 THEN id = $2 ELSE id > $1 AND job_type = 'SchedulerJob' AND state = 'running' END
	ORDER BY id DESC LIMIT 1`

// Progress returns the age of the scheduler's last heartbeat by the database's clock, and the id of
// its row in table job. ok is false while there is no such row: none was made since the adoption, nothing
// is adopted yet, or the one told by SetJob is gone. The row lags one beat behind the process (Airflow writes the
// beat before), so a healthy scheduler shows up to two intervals.
func (m *Metastore) Progress(ctx context.Context) (beat time.Duration, jobID int64, ok bool, err error) {
	err = m.use(ctx, func(conn *pgx.Conn) error {
		if m.floor < 0 && m.life == 0 {
			return nil
		}
		var seconds float64
		err := conn.QueryRow(ctx, progress, m.floor, m.life).Scan(&jobID, &seconds)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		ok = err == nil
		beat = time.Duration(seconds * float64(time.Second))
		return err
	})
	if err != nil {
		return 0, 0, false, fmt.Errorf("read progress: %w", err)
	}
	return beat, jobID, ok, nil
}

// FirstQueued tells whether a task is queued or running that the scheduler with that job id has
// queued, and the database's time of this look. Looked at every few milliseconds from the start on,
// the first true is the moment of the first queued task. It uses the index on the state.
func (m *Metastore) FirstQueued(ctx context.Context, jobID int64) (at time.Time, seen bool, err error) {
	err = m.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT clock_timestamp(), EXISTS (SELECT 1 FROM task_instance
			  WHERE state IN ('queued', 'running') AND queued_by_job_id = $1)`, jobID).Scan(&at, &seen)
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look for queued tasks: %w", err)
	}
	return at, seen, nil
}
