package schedule

import "time"

// maxTries is how often a slot that never came to an end (its host died, it was moved) is begun before a newer one takes
// its place: it may be what brings the host down.
const maxTries = 5

// A slot that has failed is tried again after a pause that begins with firstPause at the second failure and doubles up to
// lastPause. The first failure is answered at once, as quickly as the daemon does; see Ends in DESIGN.md.
const (
	firstPause = time.Second
	lastPause  = 15 * time.Minute
)

// Past is what the job's database knows of the newest slot of a job. The zero value: it has never seen the job.
type Past struct {
	// Now is the database's clock at the time of asking. It is the only one that chooses slots: all hosts share it.
	Now time.Time
	// Slot is the newest slot that was begun, or when the job was first seen; zero: neither.
	Slot time.Time
	// Settled: the slot is done, or was only seen.
	Settled bool
	// Seen: it was only seen.
	Seen bool
	// Failed: its last run ended with an exit code other than 0. Neither: it was interrupted.
	Failed bool
	// Tries is how often it was begun.
	Tries int
	// Failures is how many of its runs failed, Ended when the last of these did, and Exit what its last run ended with.
	Failures int
	Ended    time.Time
	Exit     int
}

// Decision is what a runner is to do.
type Decision struct {
	// Run is the slot to run now; zero: none.
	Run time.Time
	// Next is the slot to wait for when there is none to run now; zero: there will be none within five years.
	Next time.Time
}

// Decide chooses a slot. Slots only go forward: a clock that has jumped back runs nothing twice, because nothing at or
// before a settled slot is run; one that has jumped forward finds one slot, the latest.
func (s Schedule) Decide(p Past) Decision {
	newer := s.latest(p.Slot, p.Now)
	interrupted := !p.Settled && !p.Failed && p.Tries < maxTries
	pause := p.pause()
	switch {
	case interrupted, !p.Settled && newer.IsZero() && pause <= 0:
		return Decision{Run: p.Slot.In(s.zone)}
	case !newer.IsZero():
		return Decision{Run: newer}
	}
	next := s.Next(p.Slot)
	if again := p.Now.Add(pause); !p.Settled && (next.IsZero() || again.Before(next)) {
		next = again.In(s.zone)
	}
	return Decision{Next: next}
}

// pause is how long a slot that has failed is still left alone. A clock that was set back does not make it longer than it was.
func (p Past) pause() time.Duration {
	if !p.Failed || p.Failures < 2 {
		return 0
	}
	whole := lastPause
	if n := p.Failures - 2; n < 10 { // 2^10 s is more than the last pause
		whole = min(whole, firstPause<<n)
	}
	return min(whole, p.Ended.Add(whole).Sub(p.Now))
}
