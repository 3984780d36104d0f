package raftstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestElectProposeRestart(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	c.propose(leader, "one")
	c.propose(c.follower(leader), "two")
	c.agree("one", "two")

	c.halt(leader)
	second := c.leader()
	c.propose(second, "three")
	c.propose(c.follower(second), "four")
	c.start(leader)
	c.agree("one", "two", "three", "four")

	c.stopAll()
	c.startAll()
	c.leader()
	c.agree("one", "two", "three", "four")
}

func TestSnapshotCatchUp(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.SnapshotEvery, cfg.KeepEntries = 20, 5 })
	c.startAll()
	leader := c.leader()
	behind := c.follower(leader)
	c.propose(behind, "before")
	c.halt(behind)
	var commands []string
	for i := range 100 {
		commands = append(commands, fmt.Sprint("c", i))
		c.propose(c.leader(), commands[i])
	}
	c.start(behind)
	c.agree(append(commands, "before")...)
	if at := behind.store.Status().Snapshot; at < 90 {
		t.Errorf("the follower caught up with snapshot index %d, want one the leader sent", at)
	}
	c.stopAll()
	c.startAll()
	c.leader()
	c.agree(append(commands, "before")...)
}

// TestForwardedProposalFailsAtOnce: a follower that cannot reach the leader it knows of must not let
// a proposal wait for its deadline: it is in no log.
func TestForwardedProposalFailsAtOnce(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	follower := c.follower(leader)
	c.connected()
	// Only the follower's own link is down; it still hears the leader.
	down := make(chan struct{})
	follower.store.post(func(s *Store) { s.links()[leader.cfg.Self].up.Store(false); close(down) })
	<-down
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := follower.store.Propose(ctx, []byte("x")); !errors.Is(err, ErrDropped) {
		t.Errorf("got %v, want ErrDropped", err)
	}
}
