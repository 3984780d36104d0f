package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// fault is one way to do harm to the host with the writer.
type fault struct {
	name, about string
	strike      func(ctx context.Context, c *scene) error
	// hold is how long a takeover is waited for before the harm is undone.
	hold time.Duration
	// linger is how long after a takeover the harm goes on.
	linger time.Duration
	// heal undoes it; nil = there is nothing to undo.
	heal func(ctx context.Context, c *scene) error
}

// scene is where a fault happens.
type scene struct {
	stage   *stage
	system  System
	host    string
	backend int // of the database, stopped by queued-statement
	frozen  []int
}

const (
	deadFor   = 10 * time.Second // a dead host is revived after this, takeover or not
	absentFor = 4 * time.Second  // the same for a host that is frozen or cut off
	// shortly is how long a fault goes on after a takeover: an old owner that goes on shows it within milliseconds.
	shortly = 300 * time.Millisecond
)

var faults = []fault{
	{name: "kill-host", about: "every process of the host gets SIGKILL; its kernel closes the connections",
		strike: killHost, hold: deadFor, linger: shortly, heal: revive},
	{name: "power-loss", about: "the link is cut first, then all is killed: nobody is told",
		strike: powerLoss, hold: deadFor, linger: shortly, heal: revive},
	{name: "freeze-host", about: "every process of the host stops, and wakes after the takeover",
		strike: freezeHost, hold: absentFor, linger: shortly, heal: thawHost},
	{name: "queued-statement", about: "a server session stops between statements, the next one lies in its socket, " +
		"the host is killed, the session goes on 0.3 s after the takeover, or after 4 s",
		strike: queueStatement, hold: absentFor, linger: shortly, heal: continueSession},
	{name: "switchover", about: "planned, as the manual of the system would have it",
		strike: switchover, hold: absentFor},
	{name: "kill-daemon", about: "the manager alone gets SIGKILL and is started again after 1 s",
		strike: killDaemon, hold: absentFor, linger: restartAfter},
	{name: "kill-job", about: "the writer alone gets SIGKILL; its child lives",
		strike: killJob, hold: absentFor, linger: restartAfter},
	{name: "freeze-daemon", about: "the manager alone is stopped for three times its own detection time",
		strike: freezeDaemon, hold: 0, heal: thawDaemon},
	{name: "cut-peers", about: "cut off from the other hosts, not from Postgres, until 0.3 s after the takeover or for 4 s",
		strike: cutPeers, hold: absentFor, linger: shortly, heal: healNet},
	{name: "cut-all", about: "cut off from the other hosts and from Postgres, until 0.3 s after the takeover or for 4 s",
		strike: cutAll, hold: absentFor, linger: shortly, heal: healNet},
	{name: "cut-postgres", about: "cut off from Postgres only, until 0.3 s after the takeover or for 4 s",
		strike: cutPostgres, hold: absentFor, linger: shortly, heal: healNet},
}

func killHost(ctx context.Context, c *scene) error {
	c.system.Down(c.host)
	return c.stage.lab.Host(c.host).Kill(ctx)
}

func powerLoss(ctx context.Context, c *scene) error {
	c.system.Down(c.host)
	return c.stage.lab.Host(c.host).PowerOff(ctx)
}

func revive(ctx context.Context, c *scene) error {
	return errors.Join(c.stage.lab.Net.HealAll(ctx), c.system.Revive(ctx, c.host))
}

func freezeHost(ctx context.Context, c *scene) error { return c.stage.lab.Host(c.host).Freeze(ctx) }
func thawHost(ctx context.Context, c *scene) error   { return c.stage.lab.Host(c.host).Thaw(ctx) }

func switchover(ctx context.Context, c *scene) error { return c.system.Switchover(ctx, c.host) }

func killDaemon(_ context.Context, c *scene) error {
	return signalAll(c.system.Managers(c.host), syscall.SIGKILL)
}

func killJob(ctx context.Context, c *scene) error {
	pid, err := c.stage.writerPID(ctx)
	if err != nil {
		return err
	}
	return signalAll([]int{pid}, syscall.SIGKILL)
}

func freezeDaemon(ctx context.Context, c *scene) error {
	c.frozen = c.system.Managers(c.host)
	if err := signalAll(c.frozen, syscall.SIGSTOP); err != nil {
		return err
	}
	return lab.Pause(ctx, 3*c.system.About().Detection)
}

func thawDaemon(_ context.Context, c *scene) error {
	// duoflow may have killed and replaced it meanwhile, so a missing process is no error.
	for _, pid := range c.frozen {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("continue process %d: %w", pid, err)
		}
	}
	return nil
}

func signalAll(pids []int, signal syscall.Signal) error {
	if len(pids) == 0 {
		return errors.New("signal process: it does not run")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

func cutPeers(ctx context.Context, c *scene) error {
	for _, other := range hosts {
		if other == c.host {
			continue
		}
		if err := c.stage.lab.Net.Cut(ctx, c.host, other); err != nil {
			return err
		}
	}
	return nil
}

func cutAll(ctx context.Context, c *scene) error { return c.stage.lab.Net.Isolate(ctx, c.host) }

func cutPostgres(ctx context.Context, c *scene) error {
	return c.stage.lab.Net.Cut(ctx, c.host, lab.Hub)
}

func healNet(ctx context.Context, c *scene) error { return c.stage.lab.Net.HealAll(ctx) }
