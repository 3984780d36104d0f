package sim

import (
	"math/rand/v2"
	"time"
)

// plan is what a seed has drawn for its world: not every world has every fault, or two that hide each other would always
// come together.
type plan struct {
	// detection is the profile of the configuration, grace what a job gets to end in order.
	detection string
	grace     time.Duration

	// The network: delays, and the probability of one up to slow; of a message lost, and come twice.
	delayLeast, delayMost, slow time.Duration
	slowly, drop, twice         float64

	// Hosts: how far the rate of a clock and the time of day may be off, and what disks and forks and kills take.
	skew                                         float64
	wallOff, fsyncMost, lag, startMost, killMost time.Duration
	startLong                                    bool
	snapshotEvery, keepEntries                   uint64
	// The job: the probabilities that it does not start, outlives its daemon, exits on an error, is robbed of its credentials.
	startFails, orphans, exits, stolen float64
	// That a start, or a stop, does not work this time; only in mixes.
	startBreaks, stopBreaks float64
	adopts                  bool
	// Its connections: how many, and the probabilities of SET ROLE and of a slow start of one, of a statement of seconds, of
	// a lock on the fence row.
	connections                               int
	setRole, authDelay, longStatements, locks float64
	thinkLeast, thinkMost, idleMost           time.Duration
	asynchronous                              bool

	// The metastore: its version, whether commits wait for a standby and how long that takes, what a unit of work takes, and
	// the probabilities of a slow one, of a signal that is noticed late and of a unit without a look at signals.
	version               int
	synchronous           bool
	replicaMost, unitMost time.Duration
	unitSlow, deaf, blind float64

	// The trouble: how long, how far apart, and which kinds.
	chaos, faultLeast, faultMost time.Duration
	faults                       []string
	// eager is the probability of one more just after a fence was taken.
	eager  float64
	ambush ambush
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
		version: pick(r, 14, 15, 16, 17, 18), synchronous: r.IntN(2) == 0, asynchronous: r.IntN(8) == 0,
		replicaMost: pick(r, ms, 20*ms), unitMost: pick(r, 50*time.Microsecond, 500*time.Microsecond),
		unitSlow: pick(r, 0, 0.001, 0.01), deaf: pick(r, 0, 0.1, 0.5), blind: pick(r, 0, 0.3, 0.95),
		connections: 1 + r.IntN(3), stolen: pick(r, 0, 0.3), exits: pick(r, 0, 0.3, 1), authDelay: pick(r, 0, 0, 0.2),
		locks: pick(r, 0, 0.3), idleMost: pick(r, ms, 50*ms, 500*ms), startLong: r.IntN(2) == 0,
		thinkLeast: ms, thinkMost: pick(r, 20*ms, 100*ms),
		snapshotEvery: pick(r, uint64(10), 50, 10_000), keepEntries: pick(r, uint64(0), 5, 100),
		chaos: 20 * time.Second, eager: pick(r, 0, 0.5, 0.9), faultLeast: 50 * ms, faultMost: pick(r, 500*ms, 2*time.Second, 5*time.Second),
	}
	for _, f := range kinds() {
		if r.IntN(2) == 0 {
			p.faults = append(p.faults, f.name)
		}
	}
	if len(p.faults) == 0 {
		p.faults = []string{kinds()[0].name}
	}
	return p
}
