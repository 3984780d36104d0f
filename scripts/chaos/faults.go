package main

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// fault is one way to do harm. do does it and undoes it, on the node it is given.
type fault struct {
	name string
	// anywhere: any node may be hit; otherwise it is the active one.
	anywhere bool
	// planned: no failure is simulated, the cluster is asked.
	planned bool
	do      func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error
}

var faults = []fault{
	{name: "kill-host", do: killHost},
	{name: "kill-any-host", anywhere: true, do: killHost},
	{name: "kill-daemon", do: killDaemon},
	{name: "kill-any-daemon", anywhere: true, do: killDaemon},
	{name: "kill-job", do: killJob},
	{name: "power-off", do: powerOff},
	{name: "freeze-host", do: freezeHost},
	{name: "freeze-any-host", anywhere: true, do: freezeHost},
	{name: "freeze-daemon", do: freezeDaemon},
	{name: "isolate", do: isolate},
	{name: "isolate-any", anywhere: true, do: isolate},
	{name: "cut-peers", do: cutPeers},
	{name: "cut-metastore", do: cutMetastore},
	{name: "cut-one-way", anywhere: true, do: cutOneWay},
	{name: "stop-daemon", do: stopDaemon},
	{name: "switchover", planned: true, do: switchover},
	{name: "metastore-restart", anywhere: true, do: metastoreRestart},
}

func faultNamed(name string) (fault, bool) {
	for _, f := range faults {
		if f.name == name {
			return f, true
		}
	}
	return fault{}, false
}

// between draws a duration.
func between(dice *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(dice.Int64N(int64(high-low)))
}

func killHost(ctx context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.Kill(ctx); err != nil {
		return err
	}
	return restart(ctx, n, between(dice, 200*time.Millisecond, 2*time.Second))
}

func killDaemon(ctx context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.KillDaemon(); err != nil {
		return err
	}
	return restart(ctx, n, between(dice, 200*time.Millisecond, 2*time.Second))
}

func restart(ctx context.Context, n *lab.Node, after time.Duration) error {
	if err := lab.Pause(ctx, after); err != nil {
		return err
	}
	select {
	case <-n.Process().Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return n.Start()
}

// killJob kills what the writer has written its own number into; the daemon lives.
func killJob(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) error {
	pid, err := s.writerPID(ctx)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}

func powerOff(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.PowerOff(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, between(dice, time.Second, 3*time.Second)); err != nil {
		return err
	}
	if err := s.Lab.Net.HealAll(ctx); err != nil {
		return err
	}
	return restart(ctx, n, 0)
}

func freezeHost(ctx context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.Freeze(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, between(dice, 50*time.Millisecond, 4*time.Second)); err != nil {
		return err
	}
	return n.Thaw(ctx)
}

func freezeDaemon(ctx context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.Process().Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := lab.Pause(ctx, between(dice, 50*time.Millisecond, 4*time.Second)); err != nil {
		return err
	}
	return n.Process().Signal(syscall.SIGCONT)
}

func isolate(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	return s.cutFor(ctx, between(dice, 100*time.Millisecond, 4*time.Second), func() error {
		return s.Lab.Net.Isolate(ctx, n.Name)
	})
}

func cutPeers(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	return s.cutFor(ctx, between(dice, 100*time.Millisecond, 4*time.Second), func() error {
		for _, other := range s.others(n.Name) {
			if err := s.Lab.Net.Cut(ctx, n.Name, other); err != nil {
				return err
			}
		}
		return nil
	})
}

func cutMetastore(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	return s.cutFor(ctx, between(dice, 500*time.Millisecond, 4*time.Second), func() error {
		return s.Lab.Net.Cut(ctx, n.Name, lab.Hub)
	})
}

func cutOneWay(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	others := s.others(n.Name)
	to := others[dice.IntN(len(others))]
	return s.cutFor(ctx, between(dice, 200*time.Millisecond, 3*time.Second), func() error {
		return s.Lab.Net.CutOneWay(ctx, n.Name, to)
	})
}

func stopDaemon(ctx context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
	if err := n.StopDaemon(ctx); err != nil {
		return err
	}
	return restart(ctx, n, between(dice, 100*time.Millisecond, time.Second))
}

func switchover(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) error {
	// A refusal is an answer too: right after another fault there may be nobody to switch over to yet.
	_, _, err := s.Cluster.Ctl(ctx, "switchover", "--yes", "--timeout", "5s")
	return err
}

func metastoreRestart(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) error {
	return s.Store.Restart(ctx)
}
