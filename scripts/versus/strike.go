package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	// window is how long before and after a fault the times without a queued task are looked at.
	window = 20 * time.Second
	// hold is how long a freeze lasts.
	hold = 15 * time.Second
	// aimWithin is how long the chance to hit may let itself be waited for.
	aimWithin = 2 * time.Minute
	// misses is how often a fault that came at the wrong moment is repeated.
	misses = 5
)

// strike makes the fault of a case while work goes on, until it hits. What is left of the tasks then is await's.
func (h *heat) strike(ctx context.Context, c experiment) (*trial, error) {
	t := &trial{Case: c.Name, Round: h.round, Meanwhile: -1, prefix: fmt.Sprintf("%s-%d-", c.Name, h.round)}
	var err error
	if t.versions, err = h.world.versions(ctx); err != nil {
		return nil, err
	}
	for attempt := 0; attempt <= misses; attempt++ {
		if t.victim, err = h.who.ready(ctx); err != nil {
			return nil, err
		}
		h.say(c.Name, "working undisturbed for %s; then %s: %s", window, c.Fault, t.victim)
		stop := h.world.work(ctx, c.Name, fmt.Sprintf("%s%d-", t.prefix, attempt))
		if err = h.undisturbed(ctx, t); err == nil {
			err = h.fault(ctx, c.Fault, t)
		}
		if err == nil {
			err = lab.Pause(ctx, time.Until(t.At.Add(window)))
		}
		stop()
		if err == nil {
			err = h.examine(ctx, c.Fault, t)
		}
		if err != nil || t.Hit {
			return t, err
		}
		t.Missed++
		h.say(c.Name, "missed: %s", map[string]string{
			kill:   fmt.Sprintf("the victim left %d tasks queued and had sent all of them", len(t.Orphans)),
			freeze: "the victim gave the lock back before it was frozen",
		}[c.Fault])
	}
	return t, nil
}

// undisturbed lets work go on: until a first task has begun, which takes longer than the later ones, and for a window.
func (h *heat) undisturbed(ctx context.Context, t *trial) error {
	first, cancel := context.WithTimeout(ctx, aimWithin)
	defer cancel()
	if err := h.world.count(first, t); err != nil {
		return err
	}
	for before := t.Tasks - t.Never; t.Tasks-t.Never == before; {
		if err := h.world.count(first, t); err != nil {
			return err
		}
		if err := lab.Pause(first, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the first task: %w", err)
		}
	}
	return lab.Pause(ctx, window+runEvery)
}

// fault waits for the moment and makes the fault.
func (h *heat) fault(ctx context.Context, what string, t *trial) error {
	var err error
	if t.Load, err = loadAverages(); err != nil {
		return err
	}
	conn, err := h.world.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	defer conn.Release()
	aim, cancel := context.WithTimeout(ctx, aimWithin)
	defer cancel()
	if what == freeze {
		return h.freezeHolder(aim, ctx, conn.Conn(), t)
	}
	return h.killQueuer(aim, ctx, conn.Conn(), t)
}

// newlyQueued is the newest row of the log for the victim. It becomes visible in the moment of the commit.
const newlyQueued = `SELECT coalesce(max(id), 0) FROM versus.queued WHERE job = $1`

// killQueuer kills everything on the victim's host as soon as its scheduler has committed that a task is queued.
func (h *heat) killQueuer(aim, ctx context.Context, conn *pgx.Conn, t *trial) error {
	var before, now int64
	if err := conn.QueryRow(aim, newlyQueued, t.victim.job).Scan(&before); err != nil {
		return fmt.Errorf("watch for a queued task: %w", err)
	}
	for now = before; now == before; {
		if err := conn.QueryRow(aim, newlyQueued, t.victim.job).Scan(&now); err != nil {
			return fmt.Errorf("watch for a queued task: %w", err)
		}
	}
	t.At = time.Now()
	if err := t.victim.host.Kill(ctx); err != nil {
		return err
	}
	dead := time.Since(t.At)
	if err := h.who.struck(ctx); err != nil {
		return err
	}
	t.note("all processes of %s killed with SIGKILL at %s, all dead after %s", dead)
	h.say(t.Case, "%s", t.Victim)
	return nil
}

// lockHolder finds the victim's connection that holds the lock of Airflow's critical section, if it does.
const lockHolder = `
	SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = 2 AND l.granted
	  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND starts_with(a.application_name, $1)`

// freezeHolder freezes the victim's host while its scheduler holds the lock, for as long as hold.
func (h *heat) freezeHolder(aim, ctx context.Context, conn *pgx.Conn, t *trial) error {
	host := t.victim.host
	pid, err := holder(aim, conn, t.victim.app)
	for ; err == nil && pid == 0; pid, err = holder(aim, conn, t.victim.app) {
	}
	if err != nil {
		return err
	}
	t.At = time.Now()
	if err := host.Freeze(ctx); err != nil {
		return err
	}
	frozen := time.Since(t.At)
	still, err := holder(ctx, conn, t.victim.app)
	if t.Hit = still == pid; err != nil || !t.Hit {
		return errors.Join(err, host.Thaw(ctx)) // the lock was given back before the freeze
	}
	t.note("all processes of %s frozen at %s, all still after %s", frozen)
	h.say(t.Case, "%s; it holds the lock with backend %d", t.Victim, pid)
	err = lab.Pause(ctx, time.Until(t.At.Add(hold)))
	if err = errors.Join(err, host.Thaw(ctx)); err != nil {
		return err
	}
	h.say(t.Case, "the host goes on after %s", time.Since(t.At).Round(time.Millisecond))
	return nil
}

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

// note keeps who was hit, and when.
func (t *trial) note(format string, d time.Duration) {
	at := t.At.UTC().Format("15:04:05.000")
	t.Victim = fmt.Sprintf(format, t.victim, at, d.Round(100*time.Microsecond))
	if !t.victim.other.IsZero() {
		t.Age = t.At.Sub(t.victim.other).Seconds()
	}
}
