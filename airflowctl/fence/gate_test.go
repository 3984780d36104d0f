package fence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGate lets so many in at a time, and the next when one leaves.
func TestGate(t *testing.T) {
	g := NewGate(2)
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			leave, err := g.enter(t.Context(), "db1:5432")
			if err != nil {
				t.Error(err)
				return
			}
			now := inside.Add(1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			inside.Add(-1)
			leave()
		})
	}
	all.Wait()
	if n := most.Load(); n < 1 || n > 2 {
		t.Errorf("%d were inside at a time, want at most 2", n)
	}
}

// TestGateIsForEachServer: one that does not answer is no matter to who connects to another.
func TestGateIsForEachServer(t *testing.T) {
	g := NewGate(1)
	leave, err := g.enter(t.Context(), "db1:5432")
	if err != nil {
		t.Fatal(err)
	}
	other, err := g.enter(t.Context(), "db2:5432")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := g.enter(ended, "db1:5432"); !errors.Is(err, context.Canceled) {
		t.Errorf("entered a full gate, or: %v", err)
	}
	leave()
	again, err := g.enter(t.Context(), "db1:5432")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestNoGate: a fencer without one waits for nobody.
func TestNoGate(t *testing.T) {
	var g *Gate
	for range 3 {
		if _, err := g.enter(t.Context(), "db1:5432"); err != nil {
			t.Error(err)
		}
	}
}
