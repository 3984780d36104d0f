package sim

import (
	"math/rand/v2"
	"time"
)

// plan is what a seed has drawn for its world: not every world has every fault, or two that hide each other would always
// come together.
type plan struct {
	detection             string
	delayLeast, delayMost time.Duration
	slow                  time.Duration
	slowly, drop, twice   float64
	skew                  float64
	wallOff               time.Duration
	fsyncMost             time.Duration
	lag                   time.Duration
	grace                 time.Duration
	startMost, killMost   time.Duration
	startFails            float64
	orphans               float64
	adopts                bool
	setRole               float64
	longStatements        float64
	thinkLeast, thinkMost time.Duration
	snapshotEvery         uint64
	keepEntries           uint64
	chaos                 time.Duration
	faultLeast, faultMost time.Duration
	faults                []fault
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func drawPlan(r *rand.Rand) plan {
	const ms = time.Millisecond
	p := plan{
		detection:  pick(r, "lan", "lan", "lan", "fast", "wan"),
		delayLeast: 50 * time.Microsecond, delayMost: pick(r, 200*time.Microsecond, ms, 5*ms),
		slow: pick(r, 20*ms, 200*ms), slowly: pick(r, 0, 0, 0.001, 0.01),
		drop: pick(r, 0, 0, 0.001, 0.02), twice: pick(r, 0, 0, 0.01),
		skew: pick(r, 0, 0.001, 0.1), wallOff: pick(r, 0, 0, time.Second, time.Hour),
		fsyncMost: pick(r, ms, 5*ms, 30*ms), lag: pick(r, 50*time.Microsecond, ms, 30*ms),
		grace: pick(r, 200*ms, 2*time.Second, 30*time.Second), startMost: pick(r, 20*ms, 200*ms, 3*time.Second),
		killMost: pick(r, 2*ms, 50*ms, time.Second), startFails: pick(r, 0, 0, 0.1), orphans: pick(r, 0, 0, 0.5),
		adopts: r.IntN(2) == 0, setRole: pick(r, 0, 0, 0.3), longStatements: pick(r, 0, 0.02, 0.2),
		thinkLeast: ms, thinkMost: pick(r, 20*ms, 100*ms),
		snapshotEvery: pick(r, uint64(10), 50, 10_000), keepEntries: pick(r, uint64(0), 5, 100),
		chaos: 20 * time.Second, faultLeast: 50 * ms, faultMost: pick(r, 500*ms, 2*time.Second, 5*time.Second),
	}
	for _, f := range faults {
		if r.IntN(2) == 0 {
			p.faults = append(p.faults, f)
		}
	}
	if len(p.faults) == 0 {
		p.faults = faults
	}
	return p
}
