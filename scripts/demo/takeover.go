package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/duoflow/duoflow/scripts/lab"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// takeover is one fault and how the work went on.
type takeover struct {
	Fault string
	// From and To are hosts, Epoch the new one.
	From, To string
	Epoch    uint64
	Phases   []phase
	// JobRow and FirstQueued are from the fault to the new scheduler's row in table job, and to the first task it
	// queued. All hosts of the demo share one machine and so one clock; that is why these can be told.
	JobRow, FirstQueued time.Duration
	// Refused are lines in which Postgres turned the old scheduler away.
	Refused []string `json:",omitempty"`
}

// phase is a part of the takeover as the nodes measured it, each on its own clock.
type phase struct {
	Name string
	Took time.Duration
}

// killActive kills everything on the active host with SIGKILL, and starts it again afterwards.
func (s *stage) killActive(ctx context.Context) (takeover, error) {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	active, err := s.ready(ctx)
	if err != nil {
		return takeover{}, err
	}
	s.say("SIGKILL to everything on host %s, active under epoch %d", active.Node, active.Epoch)
	at, err := s.clock(ctx)
	if err != nil {
		return takeover{}, err
	}
	if err := s.cluster.Nodes[active.Node].Kill(ctx); err != nil {
		return takeover{}, err
	}
	t, err := s.observe(ctx, "SIGKILL", active, at)
	if err != nil {
		return t, err
	}
	return t, s.revive(ctx, active.Node)
}

func (s *stage) revive(ctx context.Context, node string) error {
	select {
	case <-s.cluster.Nodes[node].Process().Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.cluster.Nodes[node].Start()
}

// freezeActive stops everything on the active host, as a paused virtual machine is, and wakes it after the takeover.
func (s *stage) freezeActive(ctx context.Context) (takeover, error) {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	active, err := s.ready(ctx)
	if err != nil {
		return takeover{}, err
	}
	s.say("freezing host %s, active under epoch %d, with everything on it", active.Node, active.Epoch)
	at, err := s.clock(ctx)
	if err != nil {
		return takeover{}, err
	}
	host := s.cluster.Nodes[active.Node]
	if err := host.Freeze(ctx); err != nil {
		return takeover{}, err
	}
	t, err := s.observe(ctx, "frozen", active, at)
	if err = errors.Join(err, host.Thaw(ctx)); err != nil {
		return t, err
	}
	s.say("host %s wakes up and believes it is still active", active.Node)
	t.Refused, err = s.awaitRefused(ctx, host)
	for _, line := range t.Refused {
		s.say("  Postgres to the old scheduler: %s", line)
	}
	return t, err
}

// ready waits until there is an active host and another that could take over at once.
func (s *stage) ready(ctx context.Context) (lab.Active, error) {
	active, err := s.cluster.AwaitActive(ctx, job, 0)
	if err != nil {
		return active, err
	}
	if err := s.awaitWarm(ctx, active.Node); err != nil {
		return active, err
	}
	return active, s.showTasks(ctx, 3*time.Second)
}

// observe follows a takeover from the fault to the first task that the new scheduler queues.
func (s *stage) observe(ctx context.Context, fault string, old lab.Active, at time.Time) (takeover, error) {
	t := takeover{Fault: fault, From: old.Node}
	now, err := s.cluster.AwaitActive(ctx, job, old.Epoch)
	if err != nil {
		return t, err
	}
	t.To, t.Epoch = now.Node, now.Epoch
	if err := s.firstQueued(ctx, &t, at); err != nil {
		return t, err
	}
	if t.Phases, err = s.phases(ctx, now.Epoch); err != nil {
		return t, err
	}
	s.say("%s took over under epoch %d:", t.To, t.Epoch)
	for _, p := range t.Phases {
		s.say("  %-12s %6.0f ms", p.Name, ms(p.Took))
	}
	s.say("  %-12s %6.0f ms after the fault", "job row", ms(t.JobRow))
	s.say("  %-12s %6.0f ms after the fault", "first task", ms(t.FirstQueued))
	return t, nil
}

// firstQueued waits until the scheduler that started after the fault has queued a task.
func (s *stage) firstQueued(ctx context.Context, t *takeover, at time.Time) error {
	for {
		var row, queued time.Time
		err := s.pool.QueryRow(ctx, `
			SELECT j.start_date, min(q.queued_dttm) FROM job j JOIN (
			  SELECT queued_by_job_id, queued_dttm FROM task_instance UNION ALL
			  SELECT queued_by_job_id, queued_dttm FROM task_instance_history) q ON q.queued_by_job_id = j.id
			WHERE j.job_type = 'SchedulerJob' AND j.start_date > $1 AND q.queued_dttm > $1
			GROUP BY j.id, j.start_date ORDER BY j.id LIMIT 1`, at).Scan(&row, &queued)
		if err == nil {
			t.JobRow, t.FirstQueued = row.Sub(at), queued.Sub(at)
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look for the first task: %w", err)
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the first task of epoch %d: %w", t.Epoch, err)
		}
	}
}

// phases asks the cluster for its own account.
func (s *stage) phases(ctx context.Context, epoch uint64) ([]phase, error) {
	for {
		text, code, err := s.cluster.Ctl(ctx, "history", "-o", "json")
		if err != nil {
			return nil, err
		}
		var history duoflowv1.HistoryResponse
		if code == 0 {
			err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal([]byte(text), &history)
			if err != nil {
				return nil, fmt.Errorf("read history: %w", err)
			}
		}
		if found := phasesOf(&history, epoch); len(found) > 1 {
			return found, nil
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for the phases of epoch %d: %w", epoch, err)
		}
	}
}

func phasesOf(history *duoflowv1.HistoryResponse, epoch uint64) []phase {
	for _, e := range history.GetEntries() {
		if e.GetEpoch() != epoch || e.GetKind() != "grant" {
			continue
		}
		var out []phase
		for _, p := range e.GetPhases() {
			out = append(out, phase{p.GetName(), time.Duration(p.GetMillis() * float64(time.Millisecond))})
		}
		return out
	}
	return nil
}

// awaitRefused waits until the old scheduler on the host has met the fence, and returns what Postgres told it.
func (s *stage) awaitRefused(ctx context.Context, host *lab.Node) ([]string, error) {
	path := host.DataDir() + "/jobs/" + job + "/output/" + job + ".log"
	for {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if lines := refusals(string(text)); len(lines) > 0 {
			return lines, nil
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for the old scheduler to meet the fence: %w", err)
		}
	}
}

// refusals picks, without repetition, the last lines in which Postgres says no.
func refusals(text string) []string {
	var found []string
	for _, line := range strings.Split(text, "\n") {
		for _, sign := range []string{"permission denied", "not permitted to log in", "terminating connection"} {
			if i := strings.Index(line, sign); i >= 0 {
				found = append(found, line[max(0, i-30):])
				break
			}
		}
	}
	return found[max(0, len(found)-3):]
}

func (s *stage) clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now, err
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
