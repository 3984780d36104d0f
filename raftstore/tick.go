package raftstore

import "time"

// never is the tick of a store that is driven: longer than anybody runs it.
const never = 100 * 365 * 24 * time.Hour

// Tick lets n ticks pass, for a Config that is Driven. It does not wait. As with a store's own clock, all that has come
// is taken in first, and what the loop misses in a stall is not made up for: it would look like a silent leader.
func (s *Store) Tick(n int) {
	if s.cfg.ticking.Swap(true) {
		return
	}
	select {
	case s.control <- func(s *Store) { s.tick(n) }:
	default:
		s.cfg.ticking.Store(false)
	}
}

// tick runs in the loop.
func (s *Store) tick(n int) {
	s.cfg.ticking.Store(false)
	for range len(s.inbox) {
		s.step(<-s.inbox)
	}
	for range n {
		s.replica.Tick()
	}
}
