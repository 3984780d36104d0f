package raftstore

import (
	"slices"
	"sync"
	"time"
)

// windowSize is the number of durations a window remembers.
const windowSize = 256

// fsyncBounds are the classes of a Tally. A good disk is in the first three; elections begin to suffer at the election timeout.
var fsyncBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// Tally counts durations since the store began to run.
type Tally struct {
	Count uint64
	Sum   time.Duration
	// Within is how many took no longer than each bound.
	Within map[time.Duration]uint64
}

// window remembers the last durations of something that is done by one at a time, and since when it is
// being done now. Safe for concurrent use.
type window struct {
	mu    sync.Mutex
	ring  [windowSize]time.Duration
	count int       // of all ever added
	since time.Time // zero = nothing is under way

	sum     time.Duration
	classes [len(fsyncBounds) + 1]uint64 // each counts what the one before does not hold; the last what none does
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
	took := time.Since(w.since)
	w.ring[w.count%windowSize] = took
	w.count++
	w.since = time.Time{}
	w.sum += took
	class, _ := slices.BinarySearch(fsyncBounds[:], took)
	w.classes[class]++
}

// tally counts all that have ended.
func (w *window) tally() Tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Tally{Count: uint64(w.count), Sum: w.sum, Within: make(map[time.Duration]uint64, len(fsyncBounds))}
	within := uint64(0)
	for i, bound := range fsyncBounds {
		within += w.classes[i]
		t.Within[bound] = within
	}
	return t
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
