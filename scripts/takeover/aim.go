package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// newlyQueued is the newest note of a queued task for the victim. It becomes visible in the moment of the commit.
const newlyQueued = `SELECT coalesce(max(id), 0) FROM takeover.queued WHERE job = $1`

// Blow is a fault as it was made.
type Blow struct {
	At   time.Time     // just before
	Took time.Duration // until all processes of the host were hit
}

// KillQueuer kills everything on the victim's host as soon as its scheduler has committed that a task is queued: the
// moment at which that task has not been sent yet. aim limits the wait for it.
func KillQueuer(aim, ctx context.Context, w *World, victim Target) (Blow, error) {
	var b Blow
	conn, err := w.Pool.Acquire(aim)
	if err != nil {
		return b, fmt.Errorf("connect as administrator: %w", err)
	}
	defer conn.Release()
	var before, now int64
	if err := conn.QueryRow(aim, newlyQueued, victim.Job).Scan(&before); err != nil {
		return b, fmt.Errorf("watch for a queued task: %w", err)
	}
	for now = before; now == before; {
		if err := conn.QueryRow(aim, newlyQueued, victim.Job).Scan(&now); err != nil {
			return b, fmt.Errorf("watch for a queued task: %w", err)
		}
	}
	b.At = time.Now()
	err = victim.Host.Kill(ctx)
	b.Took = time.Since(b.At)
	return b, err
}

// FreezeHolder freezes the victim's host while its scheduler holds the lock of Airflow's critical section. backend is
// the one that holds it, 0: the lock was given back before all was still, and the host goes on already.
func FreezeHolder(aim, ctx context.Context, w *World, victim Target) (b Blow, backend int, err error) {
	conn, err := w.Pool.Acquire(aim)
	if err != nil {
		return b, 0, fmt.Errorf("connect as administrator: %w", err)
	}
	defer conn.Release()
	pid, err := holder(aim, conn.Conn(), victim.App)
	for ; err == nil && pid == 0; pid, err = holder(aim, conn.Conn(), victim.App) {
	}
	if err != nil {
		return b, 0, err
	}
	b.At = time.Now()
	if err := victim.Host.Freeze(ctx); err != nil {
		return b, 0, err
	}
	b.Took = time.Since(b.At)
	still, err := holder(ctx, conn.Conn(), victim.App)
	if err != nil || still != pid {
		return b, 0, errors.Join(err, victim.Host.Thaw(ctx))
	}
	return b, pid, nil
}

// lockHolder finds the victim's connection that holds the lock of Airflow's critical section, if it does.
const lockHolder = `
	SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = 2 AND l.granted
	  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND starts_with(a.application_name, $1)`

// holder is the victim's backend that holds the lock, 0: none.
func holder(ctx context.Context, conn *pgx.Conn, app string) (int, error) {
	var pid int
	err := conn.QueryRow(ctx, lockHolder, app).Scan(&pid)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("watch the scheduling lock: %w", err)
	}
	return pid, nil
}
