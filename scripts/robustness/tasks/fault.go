package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// fault is one kind of harm to the active node, or to the metastore.
type fault struct {
	name string
	// surely: held for so long, the scheduler has to move to a new epoch; never: it need not.
	surely time.Duration
	// longest is how long it is held at most; 0: it is over when begin returns.
	longest time.Duration
	// begin does harm and returns how to undo it, which may be nil.
	begin func(ctx context.Context, s *stage, n *lab.Node) (mend func(context.Context) error, err error)
}

const (
	never = time.Duration(math.MaxInt64)
	// noticed is longer than a node may be silent without being replaced, on a machine under load too.
	noticed      = 5 * time.Second
	shortestHold = 50 * time.Millisecond
)

var faults = []fault{
	{name: "kill-host", longest: 3 * time.Second, begin: killHost},
	{name: "kill-daemon", longest: 3 * time.Second, begin: killDaemon},
	{name: "kill-scheduler", begin: killScheduler},
	{name: "freeze-host", surely: noticed, longest: 9 * time.Second, begin: freezeHost},
	{name: "isolate", surely: noticed, longest: 9 * time.Second, begin: isolate},
	{name: "switchover", begin: switchover},
	{name: "metastore-restart", surely: never, begin: restartMetastore},
}

func faultNamed(name string) (fault, error) {
	for _, f := range faults {
		if f.name == name {
			return f, nil
		}
	}
	return fault{}, fmt.Errorf("no fault is called %q", name)
}

// hold draws how long it lasts: short ones as often as long ones, and half of those that may go unnoticed for long enough not to.
func (f fault) hold(dice *rand.Rand) time.Duration {
	if f.longest == 0 {
		return 0
	}
	if f.surely > 0 && dice.IntN(2) == 0 {
		return f.surely + time.Duration(dice.Int64N(int64(f.longest-f.surely)))
	}
	return time.Duration(float64(shortestHold) * math.Pow(float64(f.longest)/float64(shortestHold), dice.Float64()))
}

// Whoever is killed is started again by the wait for a standby, when it has been dead for the time of the hold.

func killHost(ctx context.Context, _ *stage, n *lab.Node) (func(context.Context) error, error) {
	return nil, n.Kill(ctx)
}

func killDaemon(_ context.Context, _ *stage, n *lab.Node) (func(context.Context) error, error) {
	return nil, n.KillDaemon()
}

func killScheduler(_ context.Context, s *stage, n *lab.Node) (func(context.Context) error, error) {
	pid, err := s.schedulerPID(n.Name)
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("kill scheduler: %w", err)
	}
	return nil, nil
}

func freezeHost(ctx context.Context, _ *stage, n *lab.Node) (func(context.Context) error, error) {
	return n.Thaw, n.Freeze(ctx)
}

func isolate(ctx context.Context, s *stage, n *lab.Node) (func(context.Context) error, error) {
	return s.Lab.Net.HealAll, s.Lab.Net.Isolate(ctx, n.Name)
}

func switchover(ctx context.Context, s *stage, _ *lab.Node) (func(context.Context) error, error) {
	text, code, err := s.Cluster.Ctl(ctx, "switchover", "--job", takeover.Job, "--yes", "--timeout", "60s")
	if err == nil && code != 0 {
		err = errors.New(text)
	}
	if err != nil {
		return nil, fmt.Errorf("switch over: %w", err)
	}
	return nil, nil
}

func restartMetastore(ctx context.Context, s *stage, _ *lab.Node) (func(context.Context) error, error) {
	err := s.Cluster.Metastore().Restart(ctx)
	s.Pool.Reset() // its connections are of the server that is gone
	return nil, err
}
