package airflow

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Adopted counts what Adopt did.
type Adopted struct {
	Jobs     int // rows of dead schedulers marked failed
	Requeued int // tasks taken back from queued to scheduled
	Skipped  int // queued tasks left as they were, because somebody held their rows
}

// rowWait is how long Adopt waits for rows that others hold: an api-server that starts a task holds
// one for milliseconds, a frozen one for ever.
const rowWait = "500ms"

const markJobs = `
	UPDATE job SET state = 'failed', end_date = clock_timestamp()
	WHERE job_type = 'SchedulerJob' AND state = 'running'`

// orphans are the tasks that a dead scheduler put into state queued for an executor that assigns
// the message's id beforehand (Celery; the id is a UUID then). Whether their message was sent, in
// part or not at all, cannot be seen in the database, and does not matter: see requeue.
const orphans = `
	FROM task_instance ti
	JOIN job j ON j.id = ti.queued_by_job_id
	JOIN dag_run dr ON dr.dag_id = ti.dag_id AND dr.run_id = ti.run_id
	WHERE ti.state = 'queued' AND dr.state = 'running'
	  AND j.job_type = 'SchedulerJob' AND j.state IS DISTINCT FROM 'running'
	  AND ti.external_executor_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'`

// requeue undoes the step from scheduled to queued. A task gets a new id in the same row lock, so
// a message already sent names an id that is gone, and the worker that picks it up is refused
// (404). A worker that was quicker has made the task running, and the row no longer matches.
const requeue = `
	WITH orphan AS MATERIALIZED (
	  SELECT ti.id AS old, ` + newID + ` AS fresh` + orphans + `
	  ORDER BY ti.id FOR UPDATE OF ti %s
	), moved AS (
	  UPDATE task_reschedule r SET ti_id = o.fresh FROM orphan o WHERE r.ti_id = o.old
	)
	UPDATE task_instance ti
	SET id = o.fresh, state = 'scheduled', queued_by_job_id = NULL, external_executor_id = NULL,
	    queued_dttm = NULL, updated_at = clock_timestamp()
	FROM orphan o WHERE ti.id = o.old`

// newID is a UUID version 7, as Airflow makes them: milliseconds since 1970, then random bits.
const newID = `encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
	    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
	    FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid`

// Adopt takes over what dead schedulers left, in one transaction. It is called after the fence is
// taken and drained and before the new scheduler starts: a scheduler that runs already would be
// marked dead. It may be repeated. ErrNotHolder when the fence row is not (claim.Epoch, claim.Token).
//
// Every running SchedulerJob row becomes failed, so Airflow's own start-up adoption takes its
// running tasks at once and not after a timer. Queued tasks go back to scheduled, unless Probe has found a line of Airflow that
// adopts them itself.
func (m *Metastore) Adopt(ctx context.Context, claim fence.Claim) (Adopted, error) {
	if claim.Epoch != m.epoch {
		return Adopted{}, fmt.Errorf("adopt tasks: claim of epoch %d with the role of epoch %d", claim.Epoch, m.epoch)
	}
	var adopted Adopted
	err := m.use(ctx, func(conn *pgx.Conn) error {
		var floor int64
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			var err error
			if err = m.checkFence(ctx, tx, claim); err != nil {
				return err
			}
			if adopted, err = m.adopt(ctx, tx); err != nil {
				return err
			}
			// gofail: var adoptBeforeCommit struct{}
			return tx.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM job").Scan(&floor)
		})
		// gofail: var adoptAfterCommit struct{}
		if err == nil {
			m.floor, m.life = floor, 0
		}
		return err
	})
	if err != nil {
		return Adopted{}, fmt.Errorf("adopt tasks: %w", err)
	}
	return adopted, nil
}

func (m *Metastore) adopt(ctx context.Context, tx pgx.Tx) (Adopted, error) {
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+rowWait+"'"); err != nil {
		return Adopted{}, err
	}
	marked, err := tx.Exec(ctx, markJobs)
	if err != nil {
		return Adopted{}, fmt.Errorf("mark jobs: %w", err)
	}
	adopted := Adopted{Jobs: int(marked.RowsAffected())}
	if m.adoptsQueued {
		return adopted, nil
	}
	if adopted.Requeued, err = requeueAll(ctx, tx); err != nil {
		return Adopted{}, fmt.Errorf("requeue: %w", err)
	}
	if err := tx.QueryRow(ctx, "SELECT count(*)"+orphans).Scan(&adopted.Skipped); err != nil {
		return Adopted{}, fmt.Errorf("count skipped: %w", err)
	}
	return adopted, nil
}

// checkFence holds the row until the transaction ends: a newer claim waits for it, or ends it.
func (m *Metastore) checkFence(ctx context.Context, tx pgx.Tx, claim fence.Claim) error {
	var epoch int64
	var token string
	err := tx.QueryRow(ctx, "SELECT epoch, token FROM duoflow.fence WHERE job = $1 FOR SHARE", m.job).Scan(&epoch, &token)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("job %q has no fence row: %w", m.job, ErrNotHolder)
	}
	if err != nil {
		return fmt.Errorf("read fence: %w", err)
	}
	if uint64(epoch) != claim.Epoch || token != claim.Token {
		return fmt.Errorf("epoch %d, the row has %d: %w", claim.Epoch, epoch, ErrNotHolder)
	}
	return nil
}

// requeueAll waits for held rows once, then goes on without them: a takeover must not hang on a
// frozen api-server. Airflow adopts those left, and its task_queued_timeout is their last resort.
func requeueAll(ctx context.Context, tx pgx.Tx) (int, error) {
	for _, held := range []string{"", "SKIP LOCKED"} {
		var count int64
		err := pgx.BeginFunc(ctx, tx, func(try pgx.Tx) error { // a savepoint
			done, err := try.Exec(ctx, fmt.Sprintf(requeue, held))
			count = done.RowsAffected()
			return err
		})
		if !lockTimeout(err) {
			return int(count), err
		}
	}
	return 0, errors.New("rows are locked that were skipped")
}

func lockTimeout(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "55P03"
}
