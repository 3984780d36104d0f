package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// Trial is one fault and what came of it. Durations are in seconds.
type Trial struct {
	Number int    `json:"number"`
	Fault  string `json:"fault"`
	Moment string `json:"moment"`
	Missed bool   `json:"missed,omitempty"` // the moment did not come
	Node   string `json:"node"`
	// Epoch was active before, After in the end.
	Epoch uint64    `json:"epoch"`
	After uint64    `json:"after"`
	At    time.Time `json:"at"`   // just before the fault
	Done  time.Time `json:"done"` // all was well again
	Held  float64   `json:"held"`
	// First is from the fault to the first task that was queued under a newer epoch; 0: none had to be when all was well.
	First float64 `json:"first"`
	Load  string  `json:"load"` // of the machine
	// Ended are services of Airflow that ended by themselves.
	Ended []string `json:"ended,omitempty"`
	Stuck string   `json:"stuck,omitempty"` // why it did not recover
}

// Moved reports whether the scheduler had another epoch when all was well again. It may still move later: a restart of the metastore is
// not noticed at once.
func (t Trial) Moved() bool { return t.After > t.Epoch }

func (t Trial) String() string {
	head := fmt.Sprintf("%3d %-17s %-8s %s, held %.2f s", t.Number, t.Fault, t.Moment, t.Node, t.Held)
	if t.Missed {
		head += " (moment missed)"
	}
	if t.Stuck != "" {
		return head + ": did not recover: " + t.Stuck
	}
	if len(t.Ended) > 0 {
		head += ", ended: " + strings.Join(t.Ended, " ")
	}
	return fmt.Sprintf("%s: epoch %d -> %d, first task queued after %.2f s, whole after %.1f s, load %s",
		head, t.Epoch, t.After, t.First, t.Done.Sub(t.At).Seconds(), t.Load)
}

// againWithin is a limit for being stuck, not a measurement.
const againWithin = 10 * time.Minute

// trial makes one fault and waits until all is well again.
func (s *stage) trial(ctx context.Context, number int, f fault, m moment, feed *feeder, dice *rand.Rand) (Trial, error) {
	t := Trial{Number: number, Fault: f.name, Moment: m.name, Load: load()}
	if err := s.work(ctx); err != nil {
		return t, err
	}
	victim, err := s.Ready(ctx)
	if err != nil {
		return t, err
	}
	t.Node, t.Epoch = victim.Host.Name, victim.Epoch
	after, err := s.aim(ctx, m, &t, dice)
	if err != nil {
		return t, err
	}
	hold := f.hold(dice)
	harmed := s.harm(ctx, &t, f, hold, feed)
	if after != nil {
		// The messages that waited are let in before, while or after the next scheduler takes over.
		err := lab.Pause(ctx, time.Duration(dice.Int64N(int64(3*time.Second))))
		harmed = errors.Join(harmed, err, after())
	}
	if harmed != nil {
		return t, harmed
	}
	if err := s.again(ctx, &t, hold >= f.surely); err != nil {
		if ctx.Err() != nil {
			return t, err
		}
		t.Stuck = err.Error()
	}
	return t, nil
}

// bodiesBetween have to end between two faults. Each failover leaves messages in front of the worker that are refused, and on a busy
// machine nothing else would come of failovers that follow at once.
const bodiesBetween = 4

const workWithin = 2 * time.Minute

// work waits for them, up to a limit: what the fault before has left may be such that nothing runs for as long as Airflow's timers.
func (s *stage) work(ctx context.Context) error {
	working, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	if err := s.awaitEntries(working, endEntry, bodiesBetween); err != nil && working.Err() == nil {
		return err
	}
	return ctx.Err()
}

func (s *stage) aim(ctx context.Context, m moment, t *Trial, dice *rand.Rand) (after func() error, err error) {
	waiting, cancel := context.WithTimeout(ctx, momentWithin)
	defer cancel()
	after, err = m.await(waiting, s, dice)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		t.Missed = true
		return nil, nil
	}
	return after, err
}

// harm makes the fault and undoes it. There is a run to be queued at once.
func (s *stage) harm(ctx context.Context, t *Trial, f fault, hold time.Duration, feed *feeder) error {
	t.At = time.Now() // of the machine that the metastore's clock is of
	mend, err := f.begin(ctx, s, s.Cluster.Nodes[t.Node])
	if err != nil {
		return err
	}
	feed.now()
	err = lab.Pause(ctx, hold-time.Since(t.At))
	if mend != nil {
		err = errors.Join(err, mend(ctx))
	}
	t.Held = time.Since(t.At).Seconds()
	return err
}

// again waits until the scheduler is active, under a newer epoch if it must, has queued a task if it has, and could be replaced.
func (s *stage) again(ctx context.Context, t *Trial, moves bool) error {
	ctx, cancel := context.WithTimeout(ctx, againWithin)
	defer cancel()
	ended, err := s.Airflow.Revive(s.Lab)
	if err != nil {
		return err
	}
	t.Ended = ended
	if moves {
		if _, err := s.Cluster.AwaitActive(ctx, takeover.Job, t.Epoch); err != nil {
			return err
		}
	}
	now, err := s.Ready(ctx)
	if err != nil {
		return err
	}
	t.After = now.Epoch
	floor := t.Epoch
	if !t.Moved() {
		floor-- // then its own will do
	}
	for {
		first, err := s.firstQueued(ctx, t.At, floor)
		if err != nil {
			return err
		}
		if first != nil {
			if t.Moved() {
				t.First = first.Sub(t.At).Seconds()
			}
			t.Done, err = s.now(ctx)
			return err
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for a task to be queued under epoch %d: %w", t.After, err)
		}
	}
}

// load is the machine's, over one minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func (s *stage) record(t Trial) error { return appendJSON(filepath.Join(s.folder, trialsName), t) }
