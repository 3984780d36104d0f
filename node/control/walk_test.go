package control

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// walker drives one machine with whatever may come, in any order: results late, twice and of old epochs, fence rows
// that go back and forth, leases of others. It lies in one respect only: never about a tree being empty. What it
// believes of the machine it has from the effects alone.
type walker struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	m    *Machine
	now  Instant
	log  lease.State
	// mild: most of what comes is what a good day brings, so that the walk gets far.
	mild bool
	// sent are all effects that are answered, in order; proposals are commands that have not reached the log.
	sent      []Effect
	proposals []lease.Command
	// live are epochs whose process may run; started and drained those that once were.
	live, started, drained map[lease.Epoch]bool
	// taken counts, by row and state, the rows that were taken.
	taken map[rowIn]int
}

type rowIn struct {
	row   int
	state State
}

func newWalker(t *testing.T, seed uint64, taken map[rowIn]int) *walker {
	t.Helper()
	w := &walker{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 2)), m: newMachineA(false), now: Instant(time.Minute),
		mild: seed/8%2 == 0,
		live: map[lease.Epoch]bool{}, started: map[lease.Epoch]bool{}, drained: map[lease.Epoch]bool{}, taken: taken,
	}
	nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}
	w.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{scheduler}}})
	// The first steps are those of a good takeover, as many as the seed says, so that every state is a beginning.
	for _, in := range []Input{
		Begin{}, Done{Of: Clear, Outcome: OK}, w.granted(), Done{Of: Take, Epoch: 1, Outcome: OK},
		Done{Of: Drain, Epoch: 1, Outcome: OK}, Done{Of: Adopt, Epoch: 1, Outcome: OK},
		Done{Of: Start, Epoch: 1, Outcome: OK}, Exited{Epoch: 1},
	}[:1+seed%8] {
		w.step(in)
	}
	return w
}

// granted is the first grant of the log, to this life.
func (w *walker) granted() Input {
	w.log.Apply(lease.Command{Grant: &lease.Grant{Job: scheduler, Next: 1, Node: "a", Token: lifeA}})
	job, _ := w.log.Job(scheduler)
	return Lease{job}
}

// TestRandomWalks: the machine keeps its word whatever comes, and every row is of use in every state it names.
func TestRandomWalks(t *testing.T) {
	taken := map[rowIn]int{}
	for seed := range uint64(1200) {
		w := newWalker(t, seed, taken)
		for range 80 {
			w.step(w.draw())
		}
	}
	for i := range table {
		for _, s := range table[i].from {
			if taken[rowIn{i, s}] == 0 {
				t.Errorf("row %d was never taken in %s: %s", i, s, table[i].say)
			}
		}
	}
	t.Log(coverage(taken))
}

// coverage says how often each row was taken in each state; `go test -v -run TestRandomWalks ./node/control` shows it.
func coverage(taken map[rowIn]int) string {
	var b strings.Builder
	b.WriteString("how often each row of table.md was taken\n")
	for i := range table {
		var states []string
		all := 0
		for _, s := range table[i].from {
			n := taken[rowIn{i, s}]
			all += n
			states = append(states, fmt.Sprintf("%s %d", s, n))
		}
		fmt.Fprintf(&b, "%3d %6d  %s (%s)\n", i, all, table[i].say, strings.Join(states, ", "))
	}
	return b.String()
}

// TestRandomWalksRepeat: a machine is a function of its inputs.
func TestRandomWalksRepeat(t *testing.T) {
	for seed := range uint64(20) {
		var traces [2]string
		for i := range traces {
			w := newWalker(t, seed, map[rowIn]int{})
			for range 250 {
				traces[i] += written(t, w.step(w.draw()))
			}
		}
		if traces[0] != traces[1] {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

func written(t *testing.T, effects []Effect) string {
	t.Helper()
	text, err := json.Marshal(effects) // unlike %+v it follows pointers
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func (w *walker) step(in Input) []Effect {
	defer func() {
		if r := recover(); r != nil {
			w.t.Fatalf("seed %d: %T%+v: panic: %v", w.seed, in, in, r)
		}
	}()
	if row := foresee(w.m, w.now, in); row >= 0 {
		w.taken[rowIn{row, w.m.state}]++
	}
	w.noteInput(in)
	effects := checkedStep(w.t, w.m, w.now, in)
	for _, e := range effects {
		w.check(in, e)
	}
	if w.m.Idle() && len(w.live) > 0 {
		w.failf(in, "it thinks that nothing runs, but %v does", w.live)
	}
	return effects
}

func (w *walker) noteInput(in Input) {
	d, ok := in.(Done)
	if !ok || d.Outcome != OK {
		return
	}
	if d.Of == Drain {
		w.drained[d.Epoch] = true
	}
	if d.Of == Stop {
		delete(w.live, d.Epoch)
	}
}

// check is the oracle: what an effect may be, from the invariants of the design.
func (w *walker) check(in Input, e Effect) {
	switch e.Kind {
	case Start:
		switch {
		case !w.drained[e.Epoch]:
			w.failf(in, "I3: starts epoch %d, which was never drained", e.Epoch)
		case w.started[e.Epoch]:
			w.failf(in, "I4: starts epoch %d again", e.Epoch)
		case len(w.live) > 0:
			w.failf(in, "I6: starts epoch %d while %v runs", e.Epoch, w.live)
		}
		w.started[e.Epoch], w.live[e.Epoch] = true, true
	case Mirror:
		if !w.live[e.Epoch] || w.m.State() != Active {
			w.failf(in, "I8: mirror of epoch %d, which does not run", e.Epoch)
		}
	case Propose:
		r := e.Command.Release
		if r == nil || len(w.live) > 0 || r.Token != lifeA {
			w.failf(in, "I6: proposes %+v while %v runs", r, w.live)
		}
		w.proposals = append(w.proposals, *e.Command)
	case Surrender:
		if len(w.live) > 0 {
			w.failf(in, "gives up the role of %d while %v runs", e.Epoch, w.live)
		}
	case Stop:
		if e.Grace != 0 && e.Grace != DefaultTiming().FailGrace && e.Grace != DefaultTiming().PlannedGrace {
			w.failf(in, "grace %s", e.Grace)
		}
	case Moved:
		if e.Move.At != w.now || e.Move.From == e.Move.To {
			w.failf(in, "tells %+v at %d", e.Move, w.now)
		}
	case Clear, Take, Drain, Adopt:
	}
	if e.Kind == w.m.State().pursues() {
		w.sent = append(w.sent, e)
	}
}

func (w *walker) failf(in Input, format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: after %T%+v, %s: %s", w.seed, in, in, w.m.State(), fmt.Sprintf(format, args...))
}

// draw makes the next input. Often enough it is the one that is waited for, or nothing would ever run.
func (w *walker) draw() Input {
	w.now = w.now.Add(time.Duration(w.r.IntN(50)) * time.Millisecond)
	switch n := w.r.IntN(200); {
	case n < 100 && w.m.tries > 0 && !w.m.waiting: // rare, so that what can happen then must not be
		return []Input{w.fence(), w.answer()}[w.r.IntN(2)]
	case n < 70:
		return w.answer()
	case n < 90:
		return w.late()
	case n < 120:
		if w.r.IntN(4) == 0 {
			w.now = w.now.Add(time.Duration(w.r.IntN(6000)) * time.Millisecond)
		}
		return Tick{}
	case n < 150:
		return w.lease()
	case n < 180:
		return w.fence()
	case n < 184:
		return Exited{w.near(), "exit code 1"}
	case n < 188:
		return Progress{w.near(), time.Duration(w.r.IntN(60)) * time.Second}
	case n < 194:
		return Force{w.near()}
	case n < 197:
		return Quit{}
	}
	return []Input{Leading{On: true}, Members{}, Beat{From: "b"}, Lost{Node: "b"}, Proposed{}}[w.r.IntN(5)]
}

// near is the present epoch, or one about it.
func (w *walker) near() lease.Epoch {
	if w.r.IntN(2) == 0 {
		return w.m.Epoch()
	}
	return lease.Epoch(max(0, int64(w.m.Epoch())+w.r.Int64N(5)-2))
}

func (w *walker) outcome() Outcome {
	if w.goodDay() {
		return OK
	}
	return []Outcome{OK, OK, OK, Failed, Failed, Superseded, Refused}[w.r.IntN(7)]
}

func (w *walker) goodDay() bool { return w.mild && w.r.IntN(10) > 0 }

// answer is about the newest effect.
func (w *walker) answer() Input {
	if len(w.sent) == 0 {
		return Tick{}
	}
	return w.result(w.sent[len(w.sent)-1])
}

// late is about any effect there ever was.
func (w *walker) late() Input {
	if len(w.sent) == 0 {
		return Tick{}
	}
	return w.result(w.sent[w.r.IntN(len(w.sent))])
}

func (w *walker) result(e Effect) Input {
	return Done{Of: e.Kind, Epoch: e.Epoch, Outcome: w.outcome(), Detail: "said"}
}

// lease lets something happen to the log, or not, and tells what it says.
func (w *walker) lease() Input {
	now, _ := w.log.Job(scheduler)
	next := max(now.Epoch, w.m.Epoch()*lease.Epoch(w.r.IntN(2))) + lease.Epoch(1+w.r.IntN(2))
	lives := []Row{{Node: "a", Token: lifeA}, {Node: "a", Token: lifeA}, {Node: "a", Token: lifeA2}, {Node: "b", Token: lifeB}}
	to := lives[w.r.IntN(len(lives))]
	var c lease.Command
	switch n := w.r.IntN(12); {
	case w.goodDay() && now.Phase == lease.Granted:
	case n >= 11 || now.Pause != nil && n >= 9:
		c.Hold = &lease.Hold{Job: scheduler, Order: now.Order}
		if now.Pause == nil {
			c.Hold.Pause = &lease.Pause{Level: []lease.Level{lease.PauseMoves, lease.PauseGrants, lease.PauseStopped}[w.r.IntN(3)]}
		}
	case n < 3:
		c.Grant = &lease.Grant{Job: scheduler, Expect: now.Epoch, Next: next, Node: to.Node, Token: to.Token}
	case n < 4:
		c.Observe = &lease.Observe{Job: scheduler, Epoch: max(now.Epoch, w.m.Epoch()), Node: to.Node, Token: to.Token}
	case n < 6:
		c.Ask = &lease.Ask{Job: scheduler, Epoch: now.Epoch, Move: lease.Move{Now: w.r.IntN(3) == 0}}
		if w.r.IntN(4) == 0 {
			c.Ask.Move = lease.Move{To: now.Holder, Here: true}
		}
	case n < 8 && len(w.proposals) > 0:
		c = w.proposals[w.r.IntN(len(w.proposals))]
	}
	w.log.Apply(c)
	job, _ := w.log.Job(scheduler)
	return Lease{job}
}

// fence shows a row that is ours, or was, or never will be.
func (w *walker) fence() Input {
	rows := []Row{
		{w.m.Epoch(), "a", lifeA}, {w.m.Epoch(), "a", lifeA}, {w.m.Epoch(), "a", lifeA}, {w.m.Epoch(), "a", lifeA2},
		{w.m.Epoch() + 1, "b", lifeB}, {w.near(), "b", lifeB}, {},
	}
	row := rows[w.r.IntN(len(rows))]
	if w.goodDay() {
		row = rows[0]
	}
	return Fence{Healthy: w.r.IntN(4) > 0, Row: row, HighestRole: row.Epoch}
}
