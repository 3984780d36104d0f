package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe/journal"
)

// sabotages break a promise on purpose, from the outside, after the third trial: a run that does not say so proves nothing.
var sabotages = map[string]func(context.Context, *player) error{
	"stale": commitAsOld,
	"lost":  acknowledgeNothing,
	"false": moveForNothing,
}

// sabotageAfter is the trial after which it is done.
const sabotageAfter = 3

func sabotageNamed(name string) (func(context.Context, *player) error, error) {
	if do, ok := sabotages[name]; ok || name == "" {
		return do, nil
	}
	names := make([]string, 0, len(sabotages))
	for known := range sabotages {
		names = append(names, known)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("-sabotage %q; want one of %s", name, strings.Join(names, ", "))
}

// commitAsOld commits a row of an epoch before the newest, as a fence that lets somebody through would.
func commitAsOld(ctx context.Context, p *player) error {
	_, err := p.Pool.Exec(ctx, `INSERT INTO public.probe(node, epoch, pid, seq) VALUES ('a', 0, -99, 1)`)
	if err != nil {
		return fmt.Errorf("sabotage: %w", err)
	}
	return nil
}

// acknowledgeNothing has a writer believe that a row is committed which is not.
func acknowledgeNothing(_ context.Context, p *player) error {
	file, err := journal.Open(p.out.journal(), "a", 1, 99)
	if err != nil {
		return fmt.Errorf("sabotage: %w", err)
	}
	return errors.Join(file.Add(1), file.Close())
}

// moveForNothing ends the daemon with the job between two trials, which no trouble accounts for.
func moveForNothing(ctx context.Context, p *player) error {
	// It is nobody's late effect.
	if err := lab.Pause(ctx, lateWithin-time.Since(p.last)+settleFor); err != nil {
		return err
	}
	active, err := p.await(ctx, true)
	if err != nil {
		return err
	}
	n := p.Cluster.Nodes[active.Node]
	p.excuse(n)
	if err := n.Process().Signal(syscall.SIGKILL); err != nil {
		return err
	}
	for {
		now, err := p.await(ctx, false)
		if err != nil || now.Epoch > active.Epoch {
			return err
		}
		if err := lab.Pause(ctx, settleFor/10); err != nil {
			return err
		}
	}
}
