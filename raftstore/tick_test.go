package raftstore

import (
	"testing"
	"time"
)

// TestDriven: stores without a clock of their own elect when they are driven, and not before.
func TestDriven(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Driven = true })
	c.startAll()
	c.until("connections", func() bool {
		connected := 0
		for _, m := range c.members {
			for _, p := range m.store.Status().PeerStates {
				if p.Connected {
					connected++
				}
			}
		}
		return connected == 9
	})
	time.Sleep(100 * time.Millisecond) // nothing to wait for: no time passes
	for _, m := range c.members {
		if s := m.store.Status(); s.Leader != 0 || s.Term > 1 {
			t.Fatalf("before any time has passed: %+v", s.Leadership)
		}
	}
	c.until("leader", func() bool {
		for _, m := range c.members {
			m.store.Tick(1)
		}
		return c.members[0].store.Status().Leader != 0
	})
}

// TestStallIsNotMadeUpFor: of all the ticks that come while the loop stands still it gets one call's.
func TestStallIsNotMadeUpFor(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Driven = true })
	m := c.members[0]
	c.start(m)
	c.until("address", func() bool { return m.store.Addr() != "" })
	stall := make(chan struct{})
	m.store.post(func(*Store) { <-stall })
	for range 1000 {
		m.store.Tick(5)
	}
	if n := len(m.store.control); n > 2 {
		t.Errorf("%d calls wait for the loop", n)
	}
	close(stall)
	c.until("one tick to be taken", func() bool { return !m.store.cfg.ticking.Load() })
	if s := m.store.Status(); s.Term > 1 {
		t.Errorf("it campaigned: %+v", s.Leadership)
	}
}
