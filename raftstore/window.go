package raftstore

import (
	"slices"
	"sync"
	"time"
)

// windowSize is the number of durations a window remembers.
const windowSize = 256

// window remembers the last durations of something that is done by one at a time, and since when it is
// being done now. Safe for concurrent use.
type window struct {
	mu    sync.Mutex
	ring  [windowSize]time.Duration
	count int       // of all ever added
	since time.Time // zero = nothing is under way
}

// begin starts a duration.
func (w *window) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
}

// end takes the duration that began.
func (w *window) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ring[w.count%windowSize] = time.Since(w.since)
	w.count++
	w.since = time.Time{}
}

// last is the newest one and p99 the 99th percentile of those remembered; 0 = none yet. One that is
// under way for longer than that is the percentile: the next ones have to wait for it, too.
func (w *window) last() (last, p99 time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count > 0 {
		sorted := slices.Sorted(slices.Values(w.ring[:min(w.count, windowSize)]))
		last, p99 = w.ring[(w.count-1)%windowSize], sorted[(len(sorted)*99-1)/100]
	}
	return last, max(p99, w.underWay())
}

// age is how long the one under way has taken so far; 0 = none is.
func (w *window) age() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.underWay()
}

// underWay is age under the lock.
func (w *window) underWay() time.Duration {
	if w.since.IsZero() {
		return 0
	}
	return time.Since(w.since)
}
