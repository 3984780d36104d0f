package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// where is the node that a trouble is for.
type where int

const (
	onActive    where = iota // the node with the job
	onStandby                // the other candidate
	onWitness                // the tie-breaker
	onAny                    // any of the three
	onMetastore              // no node; begin is given the active one all the same
)

// expectation is what a trouble may do to the job.
type expectation int

const (
	may     expectation = iota // both is right
	must                       // the job has to move to a new epoch
	mustNot                    // a move is a false failover
)

// trouble is one kind of harm.
type trouble struct {
	name  string
	where where
	moves expectation
	// elsewhere is the expectation when a trouble for any node did not hit the one with the job.
	elsewhere expectation
	// surely: held for less, moves of must is may. hardly: held for less than this, it is mustNot. 0: however long.
	surely, hardly time.Duration
	// longest bounds how long it is held; 0 = longestHold.
	longest time.Duration
	// instant: it is undone at once, or is over when begin returns.
	instant bool
	// alone: it is never one of a pair.
	alone bool
	// begin does harm and returns how to undo it, which may be nil. Nothing that it returns may be waited for longer than a few
	// seconds: in a pair, what the other trouble holds up is only undone after it.
	begin beginning
}

// beginning does harm to a node. Its error may be errMissed.
type beginning func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (mend func(context.Context) error, err error)

// errMissed says that there was nothing that the trouble could have hit, as beside another one.
var errMissed = errors.New("nothing to hit")

// contribution is what one file of this package adds to the program.
type contribution struct {
	troubles []trouble
	// prepare is called before the daemons start; nil = there is nothing to prepare. stop may be nil; it is called after the last
	// trial.
	prepare func(ctx context.Context, s *stage) (stop func() error, err error)
	// check judges what prepare left in the folder of a run, a line for each thing that is wrong; nil = it left nothing.
	check func(folder string) (wrong []string, err error)
}

// contributions are all lists put together.
var contributions = []contribution{
	{troubles: processTroubles},
	{troubles: networkTroubles, prepare: prepareLinks},
	{troubles: historyTroubles, prepare: prepareHistory, check: checkHistory},
	{troubles: plannedTroubles},
	{troubles: clockTroubles},
	{troubles: diskTroubles, prepare: prepareDisks},
	{troubles: dataTroubles, prepare: prepareLeaders, check: checkLeaders},
	{troubles: pressureTroubles},
	{troubles: failpointTroubles, prepare: prepareFailpoints, check: checkFailpoints},
	{troubles: metastoreTroubles},
}

func allTroubles() []trouble {
	var all []trouble
	for _, c := range contributions {
		all = append(all, c.troubles...)
	}
	return all
}

// chosenTroubles are those whose names are in the list, separated by commas; all for an empty one.
func chosenTroubles(only string) ([]trouble, error) {
	all := allTroubles()
	if only == "" {
		return all, nil
	}
	var some []trouble
	for name := range strings.SplitSeq(only, ",") {
		at := slices.IndexFunc(all, func(t trouble) bool { return t.name == name })
		if at < 0 {
			return nil, fmt.Errorf("no trouble is called %q", name)
		}
		some = append(some, all[at])
	}
	return some, nil
}

const (
	shortestHold = 10 * time.Millisecond
	usualHold    = 4 * time.Second
	longestHold  = time.Minute
	// longOnes: one trouble of so many is held for longer than usualHold.
	longOnes = 30
)

// hold draws how long a trouble lasts, each power of ten as often as the other, long ones seldom.
func (t trouble) hold(dice *rand.Rand) time.Duration {
	if t.instant {
		return 0
	}
	low, high := shortestHold, usualHold
	if dice.IntN(longOnes) == 0 {
		low, high = usualHold, longestHold
	}
	d := time.Duration(float64(low) * math.Pow(float64(high)/float64(low), dice.Float64()))
	if t.longest > 0 {
		d = min(d, t.longest)
	}
	return d
}

// expects is what the trouble may do to the job after it was held for that long.
func (t trouble) expects(hitActive bool, held time.Duration) expectation {
	if t.where == onAny && !hitActive {
		return t.elsewhere
	}
	if held < t.hardly {
		return mustNot
	}
	if t.moves == must && held < t.surely {
		return may
	}
	return t.moves
}

// target picks the node for a trouble.
func (t trouble) target(active string, dice *rand.Rand) string {
	switch t.where {
	case onStandby:
		return standbyOf(active)
	case onWitness:
		return witness
	case onAny:
		return nodeNames[dice.IntN(len(nodeNames))]
	default:
		return active
	}
}

// between draws a duration.
func between(dice *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(dice.Int64N(int64(high-low)))
}
