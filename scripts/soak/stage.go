package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// Event is something that was done to the cluster.
type Event struct {
	What  string
	Stuck string // why nobody was active within settleWithin; "" = somebody was
}

// settleWithin is a limit for being stuck, not a measurement.
const settleWithin = 2 * time.Minute

// count tells how often what was done.
func count(events []Event) map[string]int {
	all := map[string]int{}
	for _, e := range events {
		all[e.What]++
	}
	return all
}

// stage is the cluster, and who looks at it.
type stage struct {
	*probe.Stage
	eye *eye
}

func newStage(ctx context.Context) (*stage, error) {
	set, err := probe.SetUp(ctx, probe.Options{})
	if err != nil {
		return nil, err
	}
	s := &stage{Stage: set}
	if err := s.begin(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// begin starts the daemons without damping, as a run makes more failovers in an hour than a site in years. Nobody reads the order of
// commits here: without its slot Postgres does not keep what was written for ever.
func (s *stage) begin(ctx context.Context) error {
	if _, err := s.Pool.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`); err != nil {
		return fmt.Errorf("drop the slot: %w", err)
	}
	for _, node := range s.Cluster.Nodes {
		if err := node.WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" }); err != nil {
			return err
		}
	}
	if err := s.Cluster.Start(); err != nil {
		return err
	}
	_, err := s.settled(ctx)
	if err != nil {
		return err
	}
	s.eye, err = newEye(s)
	return err
}

func (s *stage) settled(ctx context.Context) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return s.Cluster.AwaitActive(ctx, probe.Job, 0)
}

// soak runs the whole and leaves the samples in the file.
func soak(ctx context.Context, o options, progress io.Writer) ([]Event, error) {
	file, err := os.Create(o.out)
	if err != nil {
		return nil, fmt.Errorf("write samples: %w", err)
	}
	fmt.Fprintln(progress, "soak: setting up hosts, Postgres and three nodes")
	s, err := newStage(ctx)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	defer s.Close()
	end := time.Now().Add(time.Duration(o.hours * float64(time.Hour)))
	within, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	var events []Event
	var errs [2]error
	var both sync.WaitGroup
	both.Go(func() {
		if errs[0] = s.watch(within, o.sample, file, progress); errs[0] != nil {
			cancel()
		}
	})
	both.Go(func() {
		if events, errs[1] = s.shake(within, o.every, progress); errs[1] != nil {
			cancel()
		}
	})
	both.Wait()
	if err := errors.Join(errs[0], errs[1], ctx.Err(), file.Close()); err != nil {
		return events, err
	}
	return events, nil
}

// watch notes a sample now and then, and tells one a minute.
func (s *stage) watch(ctx context.Context, every time.Duration, out, progress io.Writer) error {
	began := time.Now()
	told := began
	for {
		sample, err := s.eye.look(ctx, began)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = note(out, sample)
		}
		if err != nil {
			return err
		}
		if time.Since(told) >= time.Minute {
			told = time.Now()
			text, _ := json.Marshal(sample.Values) // numbers by name always encode
			fmt.Fprintf(progress, "soak: %.0f s: %s\n", sample.Seconds, text)
		}
		if lab.Pause(ctx, every) != nil {
			return nil
		}
	}
}

// acts are what is done in turn. Node a is never restarted, so that what its daemon does not give back shows; of the others one is, once
// a round.
var acts = []struct {
	what string
	do   func(context.Context, *stage, lab.Active) error
}{
	{"switchovers", switchover},
	{"freezes", freeze},
	{"switchovers", switchover},
	{"killed jobs", killJob},
	{"switchovers", switchover},
	{"freezes", freeze},
	{"killed daemons", func(ctx context.Context, s *stage, _ lab.Active) error { return restart(ctx, s, "b", true) }},
	{"switchovers", switchover},
	{"killed jobs", killJob},
	{"stopped daemons", func(ctx context.Context, s *stage, _ lab.Active) error { return restart(ctx, s, "t", false) }},
}

// shake does one act after the other until the time is over; one that has begun is brought to its end.
func (s *stage) shake(ctx context.Context, every time.Duration, progress io.Writer) ([]Event, error) {
	var events []Event
	for i := 0; lab.Pause(ctx, every) == nil; i++ {
		act := acts[i%len(acts)]
		whole := context.WithoutCancel(ctx)
		active, err := s.settled(whole)
		if err == nil {
			if failed := act.do(whole, s, active); failed != nil {
				return events, fmt.Errorf("%s: %w", act.what, failed)
			}
			_, err = s.settled(whole)
		}
		e := Event{What: act.what}
		if err != nil {
			e.Stuck = err.Error()
			fmt.Fprintf(progress, "soak: %s: %v\n", e.What, err)
		}
		events = append(events, e)
		if e.Stuck != "" {
			return events, nil // the rest would only repeat it
		}
	}
	return events, nil
}

func switchover(ctx context.Context, s *stage, _ lab.Active) error {
	// A refusal is an answer: the other node may not be ready yet.
	_, _, err := s.Cluster.Ctl(ctx, "switchover", "--yes", "--timeout", "10s")
	return err
}

// freeze stops the active host for long enough to be taken for dead.
func freeze(ctx context.Context, s *stage, active lab.Active) error {
	node := s.Cluster.Nodes[active.Node]
	if err := node.Freeze(ctx); err != nil {
		return err
	}
	return errors.Join(lab.Pause(ctx, 2*time.Second), node.Thaw(ctx))
}

func killJob(ctx context.Context, s *stage, _ lab.Active) error {
	var pid int
	if err := s.Pool.QueryRow(ctx, `SELECT pid FROM public.probe ORDER BY id DESC LIMIT 1`).Scan(&pid); err != nil {
		return fmt.Errorf("look for the job: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the job: %w", err)
	}
	return nil
}

func restart(ctx context.Context, s *stage, name string, kill bool) error {
	node := s.Cluster.Nodes[name]
	end := node.StopDaemon
	if kill {
		end = node.Kill
	}
	if err := end(ctx); err != nil {
		return err
	}
	select {
	case <-node.Process().Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return node.Start()
}
