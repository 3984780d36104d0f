package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// trouble is something that happens to the cluster around the active node. do lasts for about d and undoes what it
// did, before it returns.
type trouble struct {
	name string
	do   func(ctx context.Context, s *stage, at place) error
	// shortest and longest bound d; a loss of quorum may last longer than that of one node.
	shortest, longest time.Duration
}

// place is where and for how long.
type place struct {
	active string
	leader string
	d      time.Duration
}

const (
	moment = 100 * time.Millisecond
	while  = 20 * time.Second
	long   = 90 * time.Second
)

// Troubles never touch the active host, its job, or the way from there to Postgres. They cut the active host from
// others only by cutting those off, both at once; a holder that a leader with a quorum cannot hear is to be replaced.
var troubles = []trouble{
	{"kill-standby", onStandby(kill), moment, while},
	{"freeze-standby", onStandby(freeze), moment, while},
	{"cut-standby", onStandby(isolate), moment, while},
	{"stop-standby", onStandby(stop), moment, while},
	{"wipe-standby", onStandby(wipe), moment, while},
	{"kill-witness", onWitness(kill), moment, while},
	{"freeze-witness", onWitness(freeze), moment, while},
	{"cut-witness", onWitness(isolate), moment, while},
	{"stop-witness", onWitness(stop), moment, while},
	{"wipe-witness", onWitness(wipe), moment, while},
	{"kill-both", onBoth(kill), time.Second, long},
	{"freeze-both", onBoth(freeze), time.Second, long},
	{"cut-both", onBoth(isolate), time.Second, long},
	{"kill-leader", onLeader(kill), moment, time.Second},
	{"freeze-leader", onLeader(freeze), moment, while},
	{"cut-leader", onLeader(isolate), moment, while},
	{"leader-over-and-over", leaders, moment, 2 * time.Second},
	{"cut-standby-from-witness", cutTwo, moment, while},
	{"cut-witness-to-standby", cutOneWay, moment, while},
	{"block-gossip", blockGossip, time.Second, while},
}

// harm does something to hosts and undoes it after d.
type harm func(ctx context.Context, s *stage, hosts []string, d time.Duration) error

func onStandby(h harm) func(context.Context, *stage, place) error {
	return func(ctx context.Context, s *stage, at place) error {
		return h(ctx, s, []string{standby(at.active)}, at.d)
	}
}

func onWitness(h harm) func(context.Context, *stage, place) error {
	return func(ctx context.Context, s *stage, at place) error { return h(ctx, s, []string{witness}, at.d) }
}

func onBoth(h harm) func(context.Context, *stage, place) error {
	return func(ctx context.Context, s *stage, at place) error {
		return h(ctx, s, []string{standby(at.active), witness}, at.d)
	}
}

// onLeader does harm to the raft leader. When that is the active node, which is left alone, the witness gets it: it is
// the one that leads next.
func onLeader(h harm) func(context.Context, *stage, place) error {
	return func(ctx context.Context, s *stage, at place) error { return h(ctx, s, []string{at.target()}, at.d) }
}

func (at place) target() string {
	if at.leader == "" || at.leader == at.active {
		return witness
	}
	return at.leader
}

func kill(ctx context.Context, s *stage, hosts []string, d time.Duration) error {
	for _, name := range hosts {
		if err := s.Cluster.Nodes[name].Kill(ctx); err != nil {
			return err
		}
	}
	return s.startAfter(ctx, hosts, d)
}

func stop(ctx context.Context, s *stage, hosts []string, d time.Duration) error {
	for _, name := range hosts {
		if err := s.Cluster.Nodes[name].StopDaemon(ctx); err != nil {
			return err
		}
	}
	return s.startAfter(ctx, hosts, d)
}

// wipe takes a host's directory, as a new disk would.
func wipe(ctx context.Context, s *stage, hosts []string, d time.Duration) error {
	for _, name := range hosts {
		if err := s.Cluster.Nodes[name].Kill(ctx); err != nil {
			return err
		}
		if err := os.RemoveAll(s.Cluster.Nodes[name].DataDir()); err != nil {
			return fmt.Errorf("wipe %s: %w", name, err)
		}
	}
	return s.startAfter(ctx, hosts, d)
}

func (s *stage) startAfter(ctx context.Context, hosts []string, d time.Duration) error {
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	for _, name := range hosts {
		select {
		case <-s.Cluster.Nodes[name].Process().Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Cluster.Start(hosts...)
}

func freeze(ctx context.Context, s *stage, hosts []string, d time.Duration) error {
	for _, name := range hosts {
		if err := s.Cluster.Nodes[name].Freeze(ctx); err != nil {
			return err
		}
	}
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	var errs []error
	for _, name := range hosts {
		errs = append(errs, s.Cluster.Nodes[name].Thaw(ctx))
	}
	return errors.Join(errs...)
}

func isolate(ctx context.Context, s *stage, hosts []string, d time.Duration) error {
	for _, name := range hosts {
		if err := s.Lab.Net.Isolate(ctx, name); err != nil {
			return err
		}
	}
	return s.healAfter(ctx, d)
}

func (s *stage) healAfter(ctx context.Context, d time.Duration) error {
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	return s.Lab.Net.HealAll(ctx)
}

// leaders kills one raft leader after the other.
func leaders(ctx context.Context, s *stage, at place) error {
	for range 5 {
		if err := kill(ctx, s, []string{at.target()}, at.d); err != nil {
			return err
		}
		if err := lab.Pause(ctx, time.Second); err != nil {
			return err
		}
		status, err := s.Cluster.Status(ctx)
		if err != nil {
			return err
		}
		at.leader = status.GetLeader()
	}
	return nil
}

func cutTwo(ctx context.Context, s *stage, at place) error {
	if err := s.Lab.Net.Cut(ctx, standby(at.active), witness); err != nil {
		return err
	}
	return s.healAfter(ctx, at.d)
}

func cutOneWay(ctx context.Context, s *stage, at place) error {
	if err := s.Lab.Net.CutOneWay(ctx, witness, standby(at.active)); err != nil {
		return err
	}
	return s.healAfter(ctx, at.d)
}

// gossipTable drops what comes to the gossip port, on every host, the active one too: nothing that decides reads it.
const gossipTable = `table inet steady {
  chain in { type filter hook input priority 0; udp dport 7401 drop; tcp dport 7401 drop; }
}`

func blockGossip(ctx context.Context, s *stage, at place) error {
	for name := range s.Cluster.Nodes {
		if err := s.nft(ctx, name, gossipTable); err != nil {
			return err
		}
	}
	if err := lab.Pause(ctx, at.d); err != nil {
		return err
	}
	var errs []error
	for name := range s.Cluster.Nodes {
		errs = append(errs, s.nft(ctx, name, "delete table inet steady"))
	}
	return errors.Join(errs...)
}

func (s *stage) nft(ctx context.Context, host, rules string) error {
	return s.Lab.Net.Do(host, func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("change packet filter of %s: %w: %s", host, err, out)
		}
		return nil
	})
}

// lasts draws how long a trouble goes on, rather short than long, and not beyond what is left of the run.
func (t trouble) lasts(dice *rand.Rand, left time.Duration) time.Duration {
	f := dice.Float64()
	return max(t.shortest, min(t.shortest+time.Duration(f*f*float64(t.longest-t.shortest)), left))
}
