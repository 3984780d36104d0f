package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// examine looks at what is known when the window after a fault is over, and whether it hit.
func (h *heat) examine(ctx context.Context, what string, t *trial) error {
	if what == kill {
		if err := h.world.provenDead(ctx, t); err != nil {
			return err
		}
	}
	if err := h.world.orphans(ctx, t); err != nil {
		return err
	}
	if what == kill {
		t.Hit = t.unsent() > 0
	}
	if !t.Hit {
		return nil
	}
	if len(t.Orphans) > 0 {
		h.say(t.Case, "it left %d tasks queued, %d of them never sent", len(t.Orphans), t.unsent())
	}
	return h.world.gaps(ctx, what, t)
}

// provenDead makes sure that the right scheduler was hit: its heart, which beats every 5 s, has stopped.
func (w *world) provenDead(ctx context.Context, t *trial) error {
	var beat time.Time
	err := w.Pool.QueryRow(ctx, `SELECT latest_heartbeat FROM job WHERE id = $1`, t.victim.Job).Scan(&beat)
	if err != nil {
		return fmt.Errorf("read the victim's heartbeat: %w", err)
	}
	if beat.After(t.At.Add(time.Second)) {
		return fmt.Errorf("%s was to be killed, and its scheduler's heart beat %s later", t.victim, beat.Sub(t.At))
	}
	return nil
}

// orphans reads the tasks that the victim had queued and that had not begun when the fault came. A worker leaves a row
// for each message that it takes up, also when it is refused then; a message without a row was never sent.
func (w *world) orphans(ctx context.Context, t *trial) error {
	until := t.At.Add(hold) // what a scheduler that goes on after a freeze queues later is its ordinary work
	rows, err := w.Pool.Query(ctx, `
		SELECT DISTINCT ON (q.run_id, q.task_id) q.run_id, q.task_id, coalesce(q.message, ''),
		  EXISTS (SELECT FROM celery_taskmeta m WHERE m.task_id = q.message)
		FROM takeover.queued q
		WHERE q.job = $1 AND q.at < $2 AND NOT EXISTS (
		  SELECT FROM demo.demo_log d WHERE d.run_id = q.run_id AND d.task_id = q.task_id AND d.at <= $3)
		ORDER BY q.run_id, q.task_id, q.id`, t.victim.Job, until, t.At)
	if err == nil {
		t.Orphans, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (task, error) {
			var o task
			err := row.Scan(&o.Run, &o.ID, &o.Message, &o.Sent)
			return o, err
		})
	}
	if err != nil {
		return fmt.Errorf("read what the victim left: %w", err)
	}
	return nil
}

// gaps reads when tasks were queued around the fault.
func (w *world) gaps(ctx context.Context, what string, t *trial) error {
	rows, err := w.Pool.Query(ctx, `SELECT at, coalesce(job, 0) FROM takeover.queued WHERE at BETWEEN $1 AND $2 ORDER BY at`,
		t.At.Add(-window), t.At.Add(window))
	if err != nil {
		return fmt.Errorf("read what was queued: %w", err)
	}
	var all []time.Time
	var at time.Time
	var by int64
	t.Next = takeover.LongerThan(window)
	t.Meanwhile = -1
	if what == freeze {
		t.Meanwhile = 0
	}
	_, err = pgx.ForEachRow(rows, []any{&at, &by}, func() error {
		all = append(all, at)
		if by == t.victim.Job || at.Before(t.At) {
			return nil
		}
		if t.Next.Over {
			t.Next = takeover.Took(at.Sub(t.At))
		}
		if what == freeze && at.Before(t.At.Add(hold)) {
			t.Meanwhile++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was queued: %w", err)
	}
	t.Before = takeover.Took(longestGap(all, t.At.Add(-window), t.At))
	t.After = takeover.Took(longestGap(all, t.At, t.At.Add(window)))
	return nil
}

// await waits, up to the limit after the fault, until every task of the case has begun, and counts.
func (h *heat) await(ctx context.Context, t *trial) error {
	if !t.Hit {
		return h.world.count(ctx, t)
	}
	next := time.Now().Add(30 * time.Second)
	for {
		since := time.Since(t.At)
		if err := h.look(ctx, t); err != nil {
			return err
		}
		if t.Never == 0 || since > h.limit {
			break
		}
		if time.Now().After(next) {
			next = next.Add(30 * time.Second)
			h.say(t.Case, "%.0f s after the fault: %d of %d tasks of the victim have not begun (Airflow looks for orphans every 300 s)",
				since.Seconds(), t.stuck(), len(t.Orphans))
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	t.settle(h.limit)
	if err := h.world.longestWait(ctx, t); err != nil {
		return err
	}
	if len(t.Orphans) > 0 {
		h.say(t.Case, "the victim's tasks had begun after %s; %d of %d have not", t.Started, t.stuck(), len(t.Orphans))
	}
	h.say(t.Case, "of all %d tasks %d ran twice and %d not at all", t.Tasks, t.Twice, t.Never)
	return nil
}

// look updates what can change after the window.
func (h *heat) look(ctx context.Context, t *trial) error {
	if err := h.world.count(ctx, t); err != nil {
		return err
	}
	for i := range t.Orphans {
		if err := h.world.see(ctx, &t.Orphans[i], t.victim.Job); err != nil {
			return err
		}
	}
	return nil
}

// see updates when a task began, and when it stopped being queued by the victim.
func (w *world) see(ctx context.Context, o *task, victim int64) error {
	var began, left *time.Time
	err := w.Pool.QueryRow(ctx, `
		SELECT (SELECT min(at) FROM demo.demo_log WHERE run_id = $1 AND task_id = $2),
		  (SELECT min(at) FROM takeover.moved WHERE run_id = $1 AND task_id = $2 AND job = $3)`,
		o.Run, o.ID, victim).Scan(&began, &left)
	if err != nil {
		return fmt.Errorf("look at task %s of %s: %w", o.ID, o.Run, err)
	}
	if began != nil {
		o.Began = *began
	}
	if left != nil {
		o.Left = *left
	}
	return nil
}

// longestWait reads how long tasks waited whose run was triggered after the fault, not counting those never begun: Never
// tells of these.
func (w *world) longestWait(ctx context.Context, t *trial) error {
	var seconds float64
	err := w.Pool.QueryRow(ctx, `
		SELECT coalesce(max(extract(epoch FROM d.at - r.queued_at)), 0)::float8
		FROM dag_run r JOIN demo.demo_log d USING (run_id)
		WHERE starts_with(run_id, $1) AND r.queued_at BETWEEN $2 AND $3`,
		t.prefix, t.At, t.At.Add(hold)).Scan(&seconds)
	if err != nil {
		return fmt.Errorf("read how long tasks waited: %w", err)
	}
	t.Wait = takeover.Span{Seconds: seconds}
	return nil
}

// count counts the tasks of the whole case, those of faults that missed included. Each body leaves one row.
func (w *world) count(ctx context.Context, t *trial) error {
	c, err := w.Count(ctx, t.prefix, perRun)
	t.Tasks, t.Twice, t.Never = c.Tasks, c.Twice, c.Never
	return err
}
