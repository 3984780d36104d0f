package control

import "time"

// Instant is nanoseconds since this host booted, suspend included. Instants of two hosts are never compared.
type Instant int64

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Since returns the time from earlier to t.
func (t Instant) Since(earlier Instant) time.Duration { return time.Duration(t - earlier) }

// Timing is every duration a decision depends on. None of them can break safety; they trade speed for calm.
type Timing struct {
	// Silence is D of the design: how long the holder may be unheard before it is suspected, at least; see Detection.
	Silence time.Duration
	// Step is how far apart steps are while nothing happens, so that their own distance is not taken for a stall.
	Step time.Duration
	// FailGrace is what a job gets between SIGTERM and kill when its epoch is over, PlannedGrace when it is asked to go.
	FailGrace, PlannedGrace time.Duration
	// RetryMin and RetryMax bound the doubling wait before a failed effect is tried again.
	RetryMin, RetryMax time.Duration
	// MirrorEvery is the period of the mirror row.
	MirrorEvery time.Duration
	// HungAfter is how long a job may make no progress, by the database's clock.
	HungAfter time.Duration
	// CalmWindow is how long a failover or a failed job life is remembered for damping.
	CalmWindow time.Duration
	// RestartMin and RestartMax bound the doubling wait before a job that keeps failing is granted again; the first
	// failure in a window is answered at once.
	RestartMin, RestartMax time.Duration
}

// DefaultTiming returns the `lan` profile.
func DefaultTiming() Timing {
	return Timing{
		Silence:      300 * time.Millisecond,
		Step:         50 * time.Millisecond,
		FailGrace:    2 * time.Second,
		PlannedGrace: 30 * time.Second,
		RetryMin:     20 * time.Millisecond,
		RetryMax:     time.Second,
		MirrorEvery:  5 * time.Second,
		HungAfter:    15 * time.Second,
		CalmWindow:   10 * time.Minute,
		RestartMin:   time.Second,
		RestartMax:   30 * time.Second,
	}
}

// doubled returns base doubled n times, at most limit. n below 1 gives base.
func doubled(base time.Duration, n int, limit time.Duration) time.Duration {
	for range n {
		if base >= limit/2 {
			return limit
		}
		base *= 2
	}
	return base
}
