package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	// surelyNoticed is longer than a node may be silent without being replaced, on a machine under load too.
	surelyNoticed = 5 * time.Second
	// hardlyNoticed is well below the shortest time after which a silent node is suspected (300 ms).
	hardlyNoticed = 100 * time.Millisecond
)

var processTroubles = []trouble{
	{name: "kill-host", where: onActive, moves: must, begin: killHost},
	{name: "kill-any-host", where: onAny, moves: must, elsewhere: mustNot, begin: killHost},
	{name: "power-off", where: onActive, moves: must, begin: powerOff},
	{name: "kill-daemon", where: onActive, moves: must, begin: killDaemon},
	{name: "kill-any-daemon", where: onAny, moves: must, elsewhere: mustNot, begin: killDaemon},
	{name: "kill-job", where: onActive, moves: must, instant: true, begin: killJob},
	{name: "stop-daemon", where: onActive, moves: must, begin: stopDaemon},
	{name: "freeze-host", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: freezeHost},
	{name: "freeze-any-host", where: onAny, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, elsewhere: mustNot, begin: freezeHost},
	{name: "freeze-daemon", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: freezeDaemon},
	{name: "freeze-job", where: onActive, moves: may, begin: freezeJob},
}

func killHost(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	err := n.Kill(ctx)
	s.frozen[n.Name] = false // it is another machine now
	return s.reviver(n), err
}

func killDaemon(_ context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	return s.reviver(n), n.Process().Signal(syscall.SIGKILL)
}

// stopDaemon asks it to end; a frozen one does so when it is thawed.
func stopDaemon(_ context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	return s.reviver(n), n.Process().Signal(syscall.SIGTERM)
}

func powerOff(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	mend := func(ctx context.Context) error {
		return errors.Join(s.Lab.Net.HealAll(ctx), s.revive(ctx, n))
	}
	err := n.PowerOff(ctx)
	s.frozen[n.Name] = false
	return mend, err
}

func freezeHost(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return s.thawer(n), s.freeze(ctx, n)
}

func freezeDaemon(_ context.Context, _ *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	process := n.Process()
	mend := func(context.Context) error { return process.Signal(syscall.SIGCONT) }
	return mend, process.Signal(syscall.SIGSTOP)
}

// killJob kills the job's process; the daemon lives.
func killJob(_ context.Context, _ *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	pid, err := writerOn(n)
	if err != nil {
		return nil, err
	}
	return nil, signal(pid, syscall.SIGKILL)
}

func freezeJob(_ context.Context, _ *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	pid, err := writerOn(n)
	if err != nil {
		return nil, err
	}
	mend := func(context.Context) error { return signal(pid, syscall.SIGCONT) }
	return mend, signal(pid, syscall.SIGSTOP)
}

// signal reaches a process that may be gone already.
func signal(pid int, what syscall.Signal) error {
	if err := syscall.Kill(pid, what); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// writerOn finds the job's process on a host.
func writerOn(n *lab.Node) (int, error) {
	pids, err := n.PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(exe) == "writer" {
			return pid, nil
		}
	}
	return 0, errMissed
}
