package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// account is one fault and how the work went on.
type account struct {
	Fault string
	// From and To are hosts, Epoch the new one.
	From, To string
	Epoch    uint64
	Phases   []takeover.Phase
	// JobRow and FirstQueued are from the fault to the new scheduler's row in table job, and to the first task it
	// queued. All hosts of the demo share one machine and so one clock; that is why these can be told.
	JobRow, FirstQueued time.Duration
	// Refused are lines in which Postgres turned the old scheduler away.
	Refused []string `json:",omitempty"`
}

// killActive kills everything on the active host with SIGKILL, and starts it again afterwards.
func (s *stage) killActive(ctx context.Context) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	victim, err := s.ready(ctx)
	if err != nil {
		return account{}, err
	}
	return s.kill(ctx, victim)
}

func (s *stage) kill(ctx context.Context, victim takeover.Target) (account, error) {
	s.say("SIGKILL to everything on host %s, active under epoch %d", victim.Host.Name, victim.Epoch)
	at := time.Now()
	if err := victim.Host.Kill(ctx); err != nil {
		return account{}, err
	}
	a, err := s.observe(ctx, "SIGKILL", victim, at)
	if err != nil {
		return a, err
	}
	return a, s.revive(ctx, victim.Host.Name)
}

func (s *stage) revive(ctx context.Context, node string) error {
	select {
	case <-s.managed.Cluster.Nodes[node].Process().Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.managed.Cluster.Nodes[node].Start()
}

// freezeActive stops everything on the active host, as a paused virtual machine is, and wakes it after the takeover.
func (s *stage) freezeActive(ctx context.Context) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	victim, err := s.ready(ctx)
	if err != nil {
		return account{}, err
	}
	s.say("freezing host %s, active under epoch %d, with everything on it", victim.Host.Name, victim.Epoch)
	at := time.Now()
	if err := victim.Host.Freeze(ctx); err != nil {
		return account{}, err
	}
	a, err := s.observe(ctx, "frozen", victim, at)
	if err = errors.Join(err, victim.Host.Thaw(ctx)); err != nil {
		return a, err
	}
	s.say("host %s wakes up and believes it is still active", victim.Host.Name)
	a.Refused, err = s.awaitRefused(ctx, s.managed.Cluster.Nodes[victim.Host.Name])
	for _, line := range a.Refused {
		s.say("  Postgres to the old scheduler: %s", line)
	}
	return a, err
}

// ready waits until there is an active host and another that could take over at once.
func (s *stage) ready(ctx context.Context) (takeover.Target, error) {
	victim, err := s.managed.Ready(ctx)
	if err != nil {
		return victim, err
	}
	return victim, s.showTasks(ctx, 3*time.Second)
}

// observe follows a takeover from the fault to the first task that the new scheduler queues.
func (s *stage) observe(ctx context.Context, fault string, old takeover.Target, at time.Time) (account, error) {
	a := account{Fault: fault, From: old.Host.Name}
	now, err := s.managed.Cluster.AwaitActive(ctx, takeover.Job, old.Epoch)
	if err != nil {
		return a, err
	}
	a.To, a.Epoch = now.Node, now.Epoch
	queued, row, err := s.world.FirstQueued(ctx, old.Job, at)
	if err != nil {
		return a, err
	}
	a.JobRow, a.FirstQueued = row.Sub(at), queued.Sub(at)
	if a.Phases, err = s.managed.Phases(ctx, now.Epoch); err != nil {
		return a, err
	}
	s.say("%s took over under epoch %d:", a.To, a.Epoch)
	for _, p := range a.Phases {
		s.say("  %-12s %6.0f ms", p.Name, ms(p.Took))
	}
	s.say("  %-12s %6.0f ms after the fault", "job row", ms(a.JobRow))
	s.say("  %-12s %6.0f ms after the fault", "first task", ms(a.FirstQueued))
	return a, nil
}

// awaitRefused waits until the old scheduler on the host has met the fence, and returns what Postgres told it.
func (s *stage) awaitRefused(ctx context.Context, host *lab.Node) ([]string, error) {
	path := host.DataDir() + "/jobs/" + takeover.Job + "/output/" + takeover.Job + ".log"
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

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
