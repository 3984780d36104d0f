package relay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxDelay bounds Delay and Jitter: what is held is kept in memory.
const maxDelay = time.Minute

// Rule is what happens to the packets that one host sends to another. The zero value lets them be: they do not pass through
// the relay at all.
type Rule struct {
	// Loss and Duplicate are probabilities, 0..1, of a packet to vanish and to come twice. Loss 1 is a cut.
	Loss, Duplicate float64
	// Delay is how long each packet is held, 0..1 min. Jitter is how much more or less that may be, 0..1 min, drawn for
	// each packet by itself: one that is held shorter overtakes.
	Delay, Jitter time.Duration
	// Ahead is the probability, 0..1, of a packet not to be held at all.
	Ahead float64
	// Seed decides all that is drawn: the n-th packet under two equal rules has the same fate.
	Seed uint64
}

// Validate says what is wrong with a rule, all of it.
func (r Rule) Validate() error {
	var errs []error
	for _, p := range []struct {
		name  string
		value float64
	}{{"Loss", r.Loss}, {"Duplicate", r.Duplicate}, {"Ahead", r.Ahead}} {
		if !(p.value >= 0 && p.value <= 1) { // not a number is neither
			errs = append(errs, fmt.Errorf("%s is %v, want 0..1", p.name, p.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Delay", r.Delay}, {"Jitter", r.Jitter}} {
		if d.value < 0 || d.value > maxDelay {
			errs = append(errs, fmt.Errorf("%s is %s, want 0..%s", d.name, d.value, maxDelay))
		}
	}
	return errors.Join(errs...)
}

// harmless reports whether packets need not pass through the relay.
func (r Rule) harmless() bool {
	r.Seed, r.Ahead = 0, 0
	return r == Rule{}
}

// course is a rule at work on one ordered pair of hosts.
type course struct {
	rule Rule
	dice *rand.Rand
}

func newCourse(rule Rule) *course {
	return &course{rule, rand.New(rand.NewPCG(rule.Seed, 0))} // #nosec: this is chance, not secrecy
}

// fate draws how long each copy of the next packet is held; none: it is lost. It draws the same number of times for
// every packet, so that a change of one probability leaves the others' draws alone.
func (c *course) fate() []time.Duration {
	lost, twice := c.dice.Float64() < c.rule.Loss, c.dice.Float64() < c.rule.Duplicate
	first, second := c.hold(), c.hold()
	switch {
	case lost:
		return nil
	case twice:
		return []time.Duration{first, second}
	}
	return []time.Duration{first}
}

func (c *course) hold() time.Duration {
	ahead, off := c.dice.Float64() < c.rule.Ahead, 2*c.dice.Float64()-1
	if ahead {
		return 0
	}
	return max(0, c.rule.Delay+time.Duration(off*float64(c.rule.Jitter)))
}
