package raftstore

import (
	"slices"
	"sync"
	"time"
)

// windowSize is the number of durations a window remembers.
const windowSize = 256

// window remembers the last durations of something. Safe for concurrent use.
type window struct {
	mu    sync.Mutex
	ring  [windowSize]time.Duration
	count int // of all ever added
}

// add takes a duration.
func (w *window) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ring[w.count%windowSize] = d
	w.count++
}

// last is the newest one and p99 the 99th percentile of those remembered; 0 = none yet.
func (w *window) last() (last, p99 time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(w.ring[:min(w.count, windowSize)]))
	return w.ring[(w.count-1)%windowSize], sorted[(len(sorted)*99-1)/100]
}
