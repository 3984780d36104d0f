package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// read waits until a member is current.
func (c *cluster) read(m *member) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.store.Read(ctx); err != nil {
		c.t.Fatal(err)
	}
}

// TestReadSeesWhatWasCommitted: what one member was told to be committed is on every other when it has read, without waiting.
func TestReadSeesWhatWasCommitted(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.leader()
	for i := range 60 {
		writer, reader := c.members[i%3], c.members[(i+1+i/3%2)%3]
		command := fmt.Sprint("c", i)
		c.propose(writer, command)
		c.read(reader)
		if !slices.Contains(reader.machine.all(), command) {
			t.Fatalf("%s read, and does not know %s, which was committed before", reader.cfg.name(reader.cfg.Self), command)
		}
	}
}

// TestReadWithoutAMajority: nobody is told that he is current.
func TestReadWithoutAMajority(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	for _, m := range c.running() {
		if m != leader {
			c.halt(m)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := leader.store.Read(ctx)
	if err == nil || !errors.Is(err, ErrNoLeader) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("alone: %v", err)
	}
	for _, m := range c.members {
		if m.stop == nil {
			c.start(m)
		}
	}
	c.read(leader)
	c.halt(leader)
	if err := leader.store.Read(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
}
