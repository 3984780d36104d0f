package control

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// naive is a second, deliberately plain telling of what a host does about a job: table.md in prose, state by state, with no
// table, guards or shared code, and with what it does as words. TestMachineOracle compares the two.
type naive struct {
	now      Instant
	state    State
	epoch    lease.Epoch
	forced   bool
	log      lease.Job
	row      Row // as last seen
	sees     bool
	older    int // looks in a row that found an older row while we were active
	asked    bool
	failures int // of the effect that is waited for
	next     Instant
	cause    lease.Cause
	why      string
	grace    time.Duration
	empty    bool
	leaving  bool
	tellAt   Instant
	mirrorAt Instant
	did      []string
}

func (n *naive) say(format string, args ...any) { n.did = append(n.did, fmt.Sprintf(format, args...)) }

func (n *naive) ours() bool {
	return n.log.Phase == lease.Granted && n.log.Holder == "a" && n.log.Token == lifeA
}

// waitsFor is the effect that a state is about.
func (n *naive) waitsFor() string {
	return map[State]string{Boot: "clear", Fencing: "take", Draining: "drain", Adopting: "adopt", Starting: "start", Stopping: "stop"}[n.state]
}

func (n *naive) order() {
	n.asked = true
	switch n.state {
	case Boot:
		n.say("clear 0")
	case Stopping:
		n.say("stop %d within %s", n.epoch, n.grace)
	default:
		n.say("%s %d", n.waitsFor(), n.epoch)
	}
}

func (n *naive) enter(s State) {
	from := n.state
	n.state, n.failures, n.asked = s, 0, false
	n.say("moved %s %s %s %s", from, s, n.cause, n.why)
	if n.waitsFor() != "" {
		n.order()
	}
}

func (n *naive) begin(epoch lease.Epoch, forced bool) {
	n.epoch, n.forced, n.cause, n.why, n.grace = epoch, forced, "", "", 0
	n.enter(Fencing)
}

func (n *naive) stop(cause lease.Cause, why string, grace time.Duration) {
	n.cause, n.why, n.grace = cause, why, grace
	n.enter(Stopping)
}

func (n *naive) tell() {
	n.tellAt = n.now + Instant(500*time.Millisecond)
	n.say("release %d %s %s", n.log.Epoch, n.cause, n.why)
}

// step is told everything that the machine is told.
func (n *naive) step(now Instant, in Input) []string {
	n.now, n.did = now, nil
	before := n.state
	switch in := in.(type) {
	case Begin:
		if n.state == Boot {
			n.order()
		}
	case Done:
		n.ended(in)
	case Lease:
		if in.Job.Name == scheduler {
			n.log = in.Job
			n.read()
		}
	case Fence:
		n.look(in)
	case Exited:
		if in.Epoch == n.epoch && (n.state == Starting || n.state == Active) {
			n.stop(lease.CauseExited, in.Detail, 0)
		}
	case Progress:
		if in.Epoch == n.epoch && n.state == Active && in.Idle > 15*time.Second {
			n.stop(lease.CauseHung, "no progress for "+in.Idle.String(), 0)
		}
	case Force:
		if n.state == Standby && in.Epoch > n.epoch && in.Epoch > n.log.Epoch && in.Epoch > n.row.Epoch {
			n.begin(in.Epoch, true)
		}
	case Quit:
		n.quit()
	case Tick:
		n.tick()
	}
	if n.state == Standby && before != Standby {
		n.read()
	}
	return n.did
}

func (n *naive) ended(d Done) {
	epoch := n.epoch
	if d.Of == Clear {
		epoch = 0
	}
	if string(d.Of) != n.waitsFor() || d.Epoch != epoch {
		return // of an epoch that is over, or a state that was left
	}
	n.asked = false
	if d.Outcome != OK {
		wait := 20 * time.Millisecond
		for range n.failures {
			wait = min(2*wait, time.Second)
		}
		if n.failures >= 5 {
			wait = time.Second
		}
		n.next, n.failures = n.now+Instant(wait), n.failures+1
	}
	takes := n.state != Boot && n.state != Stopping
	switch {
	case takes && d.Outcome == Superseded:
		n.stop(lease.CauseFenced, d.Detail, 2*time.Second)
	case takes && d.Outcome == Refused, n.state == Starting && d.Outcome == Failed:
		n.stop(lease.CauseStartFailed, d.Detail, 0)
	case d.Outcome == OK:
		n.advance()
	}
}

func (n *naive) advance() {
	switch n.state {
	case Boot:
		n.empty = true
		n.enter(Standby)
	case Fencing:
		n.enter(Draining)
	case Draining:
		n.enter(Adopting)
	case Adopting:
		n.empty = false
		n.enter(Starting)
	case Starting:
		n.mirrorAt = n.now
		n.enter(Active)
	case Stopping:
		n.gone()
	default: // these wait for no effect
	}
}

// gone: the tree is empty.
func (n *naive) gone() {
	n.empty = true
	if n.cause == lease.CauseShutdown {
		n.say("surrender %d", n.epoch)
	}
	if n.ours() && n.log.Epoch <= n.epoch {
		n.tell()
	}
	if n.leaving {
		n.enter(Left)
	} else {
		n.enter(Standby)
	}
}

func (n *naive) takingOver() bool {
	return n.state == Fencing || n.state == Draining || n.state == Adopting || n.state == Starting
}

// passed: the log is beyond our epoch; one that was forced is ahead of the log.
func (n *naive) passed() bool {
	if n.log.Epoch != n.epoch {
		return n.log.Epoch > n.epoch
	}
	return !n.forced && !n.ours()
}

// read looks at the log.
func (n *naive) read() {
	later := n.ours() && n.log.Epoch > n.epoch
	wanted := n.ours() && n.log.Epoch == n.epoch && n.log.Move != nil && !n.log.Move.Now
	switch {
	case n.state == Standby && later:
		n.begin(n.log.Epoch, false)
	case n.state == Standby && n.ours() && n.now >= n.tellAt:
		n.tell()
	case n.takingOver() && n.passed(), n.state == Active && (later || n.passed() && !n.sees):
		n.stop(lease.CauseFenced, "a later epoch was granted", 2*time.Second)
	case (n.takingOver() || n.state == Active) && wanted && n.log.Move.Here:
		n.stop(lease.CauseRestart, "an operator asked", 30*time.Second)
	case (n.takingOver() || n.state == Active) && wanted:
		n.stop(lease.CauseSwitchover, "an operator asked", 30*time.Second)
	case (n.takingOver() || n.state == Active) && n.ours() && n.log.Epoch == n.epoch && n.log.Pause != nil && n.log.Pause.Level == "stopped":
		n.stop(lease.CausePaused, "an operator wants it stopped", 30*time.Second)
	}
}

// look looks at the metastore.
func (n *naive) look(f Fence) {
	n.sees = f.Healthy
	if f.Healthy {
		n.row = f.Row
		if n.state == Active && f.Row.Epoch < n.epoch {
			n.older++
		} else {
			n.older = 0
		}
	}
	ours := f.Row.Epoch == n.epoch && f.Row.Node == "a" && f.Row.Token == lifeA
	against := f.Healthy && !ours && (f.Row.Epoch >= n.epoch || n.older > 1)
	switch {
	case (n.takingOver() || n.state == Active) && against:
		n.stop(lease.CauseFenced, "the fence row belongs to another grant", 2*time.Second)
	case n.state == Active && !f.Healthy && n.passed():
		n.stop(lease.CauseFenced, "a later epoch was granted", 2*time.Second)
	case n.takingOver() && n.state != Starting && f.Healthy && n.failures > 1 && !n.asked:
		n.order()
	}
}

func (n *naive) quit() {
	n.leaving = true
	switch {
	case n.state == Boot || n.state == Standby:
		n.enter(Left)
	case n.takingOver() || n.state == Active:
		n.stop(lease.CauseShutdown, "the daemon is being stopped", 30*time.Second)
	}
}

func (n *naive) tick() {
	switch n.state {
	case Boot, Fencing, Draining, Adopting, Stopping:
		if !n.asked && n.now >= n.next {
			n.order()
		}
	case Active:
		if n.now >= n.mirrorAt {
			n.mirrorAt = n.now + Instant(5*time.Second)
			n.say("mirror %d", n.epoch)
		}
	case Standby:
		if n.ours() && n.log.Epoch <= n.epoch && n.now >= n.tellAt {
			n.tell()
		}
	case Left:
		if n.ours() && (n.log.Epoch <= n.epoch || n.empty) && n.now >= n.tellAt {
			n.tell()
		}
	default: // time does not matter
	}
}

// worded writes the real machine's effects as the naive one does.
func worded(effects []Effect) []string {
	var out []string
	for _, e := range effects {
		switch e.Kind {
		case Moved:
			out = append(out, fmt.Sprintf("moved %s %s %s %s", e.Move.From, e.Move.To, e.Move.Cause, e.Move.Detail))
		case Stop:
			out = append(out, fmt.Sprintf("stop %d within %s", e.Epoch, e.Grace))
		case Propose:
			r := e.Command.Release
			out = append(out, fmt.Sprintf("release %d %s %s", r.Epoch, r.Cause, r.Detail))
		default:
			out = append(out, fmt.Sprintf("%s %d", e.Kind, e.Epoch))
		}
	}
	return out
}

// TestMachineOracle walks both implementations through the same random lives and compares everything they do.
func TestMachineOracle(t *testing.T) {
	for seed := range uint64(250) {
		n := &naive{state: Boot, log: lease.Job{Name: scheduler, Phase: lease.Vacant}}
		w := &walker{
			t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 4)), m: newMachineA(false), now: Instant(time.Minute), mild: seed%2 == 0,
			live: map[lease.Epoch]bool{}, started: map[lease.Epoch]bool{}, drained: map[lease.Epoch]bool{}, taken: map[rowIn]int{},
		}
		nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}
		w.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{scheduler}}})
		var trail []string
		for i := range 120 {
			in := Input(Begin{})
			if i > 0 {
				in = w.draw()
			}
			got, want := worded(w.step(in)), n.step(w.now, in)
			trail = append(trail, fmt.Sprintf("%T%+v: %s", in, in, strings.Join(got, ", ")))
			if !slices.Equal(got, want) || w.m.State() != n.state || w.m.Epoch() != n.epoch {
				t.Fatalf("seed %d step %d: after %T%+v\n machine %s %d: %q\n  oracle %s %d: %q\n%s", seed, i, in, in,
					w.m.State(), w.m.Epoch(), got, n.state, n.epoch, want, strings.Join(trail[max(0, len(trail)-12):], "\n"))
			}
		}
	}
}
