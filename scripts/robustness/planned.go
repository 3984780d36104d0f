package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// plannedTroubles are what operators do.
var plannedTroubles = []trouble{
	{name: "switchover", where: onActive, moves: must, instant: true, begin: asked("switchover")},
	{name: "switchover-to", where: onActive, moves: must, instant: true, begin: askedFor("switchover")},
	{name: "failover-by-hand", where: onActive, moves: must, instant: true, begin: askedFor("failover")},
	{name: "duel", where: onAny, moves: may, elsewhere: may, longest: usualHold, begin: duel},
	{name: "rolling-restart", where: onActive, moves: must, instant: true, alone: true, begin: rollingRestart},
}

// asked has an operator move the job, wherever it may go. A refusal is an answer too: beside another trouble, or soon after one,
// there may be nobody to move it to.
func asked(verb string) beginning {
	return func(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
		return nil, s.operate(ctx, verb)
	}
}

// askedFor has an operator name the other node.
func askedFor(verb string) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
		return nil, s.operate(ctx, verb, "--to", standbyOf(n.Name))
	}
}

// operate is nil when the job is active elsewhere.
func (s *stage) operate(ctx context.Context, args ...string) error {
	text, code, err := s.moveBy(ctx, append(args, "--yes", "--timeout", "5s")...)
	if err == nil && code != 0 {
		return fmt.Errorf("%w: exit code %d: %s", errMissed, code, text)
	}
	return err
}

// duel has both candidates take the fence for themselves, again and again, without asking anybody.
func duel(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	errs := make([]error, 2)
	for i, name := range []string{"a", "b"} {
		both.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				_, _, err := s.moveBy(ctx, "failover", "--yes", "--force", "--wait=false", "--timeout", "2s",
					"--to", name, "--endpoint", s.Cluster.Nodes[name].Admin())
				if ctx.Err() == nil {
					errs[i] = err
				}
			}
		})
	}
	return func(context.Context) error {
		cancel()
		both.Wait()
		return errors.Join(errs...)
	}, nil
}

// rollingRestart restarts one daemon after the other in order, the one with the job last, as an upgrade does.
func rollingRestart(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	for _, name := range []string{witness, standbyOf(n.Name), n.Name} {
		node := s.Cluster.Nodes[name]
		s.excuse(node)
		if err := node.Process().Signal(syscall.SIGTERM); err != nil {
			return nil, err
		}
		select {
		case <-node.Process().Done():
		case <-time.After(recoverWithin):
			return nil, fmt.Errorf("daemon %s does not end", name)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if _, err := s.await(ctx, true); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
