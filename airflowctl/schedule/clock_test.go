package schedule

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// stepped is a database whose clock is set by the test; it remembers what was begun.
type stepped struct {
	past  Past
	steps []time.Duration
	begun []string
}

func (s *stepped) Past(context.Context) (Past, error) {
	if len(s.steps) == 0 {
		return Past{}, ErrFenced
	}
	s.past.Now, s.steps = s.past.Now.Add(s.steps[0]), s.steps[1:]
	return s.past, nil
}

func (s *stepped) See(_ context.Context, at time.Time) error {
	s.past.Slot, s.past.Settled, s.past.Seen = at, true, true
	return nil
}

func (s *stepped) Begin(_ context.Context, slot time.Time) error {
	s.past.Slot, s.past.Settled, s.past.Seen = slot, false, false
	s.begun = append(s.begun, slot.Format("15:04:05"))
	return nil
}

func (s *stepped) End(context.Context, time.Time, int) error {
	s.past.Settled = true
	return nil
}

// TestSteppedClock: the database's clock goes on, jumps an hour ahead, back by two, and comes to where it was.
func TestSteppedClock(t *testing.T) {
	s := &stepped{past: Past{Now: time.Unix(0, 0).Add(10*time.Hour + 59*time.Minute + 59*time.Second + 990*time.Millisecond)}}
	s.steps = []time.Duration{0, 20 * time.Millisecond, time.Hour, -2*time.Hour + 59*time.Minute, time.Minute - 30*time.Millisecond, time.Hour - time.Millisecond}
	r, err := New(Config{Schedule: parse(t, "@every 1h"), Command: []string{"true"}, Ledger: s})
	if err != nil {
		t.Fatal(err)
	}
	r.askEvery = 10 * time.Millisecond
	if err := r.Run(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.begun); got != "[11:00:00 12:00:00]" {
		t.Errorf("begun %s", got)
	}
}

// TestStopBeforeTheCommand: a stop that comes between the beginning of a slot and its command makes it interrupted, not failed.
func TestStopBeforeTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := New(Config{Schedule: parse(t, "@daily"), Command: []string{"true"}, Ledger: &stepped{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, interrupted := r.execute(ctx, time.Now()); !interrupted {
		t.Error("a command that was never started counts as one that has ended")
	}
}
