package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
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
	if t.versions, err = h.world.Versions(ctx); err != nil {
		return nil, err
	}
	for attempt := 0; attempt <= misses; attempt++ {
		if t.victim, err = h.who.Ready(ctx); err != nil {
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
	aim, cancel := context.WithTimeout(ctx, aimWithin)
	defer cancel()
	if what == freeze {
		return h.freeze(aim, ctx, t)
	}
	blow, err := takeover.KillQueuer(aim, ctx, h.world.World, t.victim)
	if t.At = blow.At; err != nil {
		return err
	}
	if err := h.who.Struck(ctx); err != nil {
		return err
	}
	t.note("all processes of %s killed with SIGKILL at %s, all dead after %s", blow.Took)
	h.say(t.Case, "%s", t.Victim)
	return nil
}

// freeze freezes the victim's host while its scheduler holds the scheduling lock, for as long as hold.
func (h *heat) freeze(aim, ctx context.Context, t *trial) error {
	blow, backend, err := takeover.FreezeHolder(aim, ctx, h.world.World, t.victim)
	t.At, t.Hit = blow.At, backend != 0
	if err != nil || !t.Hit {
		return err
	}
	t.note("all processes of %s frozen at %s, all still after %s", blow.Took)
	h.say(t.Case, "%s; it holds the lock with backend %d", t.Victim, backend)
	err = lab.Pause(ctx, time.Until(t.At.Add(hold)))
	if err = errors.Join(err, t.victim.Host.Thaw(ctx)); err != nil {
		return err
	}
	h.say(t.Case, "the host goes on after %s", time.Since(t.At).Round(time.Millisecond))
	return nil
}

// note keeps who was hit, and when.
func (t *trial) note(format string, d time.Duration) {
	at := t.At.UTC().Format("15:04:05.000")
	t.Victim = fmt.Sprintf(format, t.victim, at, d.Round(100*time.Microsecond))
	if !t.victim.Other.IsZero() {
		t.Age = t.At.Sub(t.victim.Other).Seconds()
	}
}
