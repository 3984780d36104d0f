package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

const scheduler lease.JobName = "scheduler"

// Two lives of node a, one of node b. The machines under test are lifeA.
var (
	lifeA  = lease.Token(strings.Repeat("a", 32))
	lifeA2 = lease.Token(strings.Repeat("2", 32))
	lifeB  = lease.Token(strings.Repeat("b", 32))
)

var allStates = []State{Boot, Standby, Fencing, Draining, Adopting, Starting, Active, Stopping, Left, Witness}

var allKinds = []Kind{Clear, Take, Drain, Adopt, Start, Stop, Surrender, Mirror, Propose, Moved}

func newMachineA(witness bool) *Machine {
	return NewMachine(Config{Job: scheduler, Self: "a", Token: lifeA, Witness: witness, Timing: DefaultTiming()})
}

// held is the log saying that a life has the job.
func held(epoch lease.Epoch, node lease.NodeID, token lease.Token) Lease {
	return Lease{lease.Job{Name: scheduler, Epoch: epoch, Holder: node, Token: token, Phase: lease.Granted}}
}

// at returns a machine that has come to a state on the shortest way, under epoch 5 if it has one.
func at(t testing.TB, want State) *Machine {
	t.Helper()
	m := newMachineA(want == Witness)
	way := []Input{
		Begin{}, Done{Of: Clear, Outcome: OK}, held(5, "a", lifeA), Done{Of: Take, Epoch: 5, Outcome: OK},
		Done{Of: Drain, Epoch: 5, Outcome: OK}, Done{Of: Adopt, Epoch: 5, Outcome: OK},
		Done{Of: Start, Epoch: 5, Outcome: OK}, Exited{Epoch: 5, Detail: "exit code 1"},
	}
	if want == Left {
		way = append(way[:2:2], Quit{})
	}
	for _, in := range way {
		if want == Witness {
			break
		}
		if m.Step(Instant(time.Second), in); m.state == want {
			break
		}
	}
	if m.state != want {
		t.Fatalf("machine came to %s, want %s", m.state, want)
	}
	return m
}

// inputs are representatives of every kind: what fits epoch 5 of this life, and what is too old, too new, somebody
// else's or nonsense.
func inputs() []Input {
	move := held(5, "a", lifeA)
	move.Job.Move = &lease.Move{To: "b"}
	now := held(5, "a", lifeA)
	now.Job.Move = &lease.Move{Now: true}
	released := held(5, "a", lifeA)
	released.Job.Phase = lease.Released
	list := []Input{
		Begin{}, Quit{}, Tick{}, Proposed{}, Leading{}, Leading{On: true}, Members{}, Members{[]lease.Node{{ID: "a"}}},
		Beat{From: "b"}, Beat{From: "a", Said: Report{Token: lifeA, State: Active, Epoch: 5}},
		Lost{Node: "b"}, Lost{Node: "a", Refused: true},
		Lease{lease.Job{Name: scheduler, Phase: lease.Vacant}}, Lease{lease.Job{Name: "etl", Phase: lease.Granted, Epoch: 9}},
		held(4, "b", lifeB), held(5, "a", lifeA), held(5, "a", lifeA2), held(5, "b", lifeB), held(6, "a", lifeA),
		held(6, "a", lifeA2), held(6, "b", lifeB), move, now, released,
		Fence{}, Fence{Row: Row{6, "b", lifeB}}, Fence{Healthy: true}, Fence{Healthy: true, Row: Row{4, "b", lifeB}},
		Fence{Healthy: true, Row: Row{5, "a", lifeA}, HighestRole: 5}, Fence{Healthy: true, Row: Row{5, "a", lifeA2}},
		Fence{Healthy: true, Row: Row{5, "b", lifeB}}, Fence{Healthy: true, Row: Row{6, "b", lifeB}, HighestRole: 7},
	}
	for _, epoch := range []lease.Epoch{0, 4, 5, 6} {
		list = append(list, Exited{epoch, "exit code 1"}, Progress{epoch, time.Second}, Progress{epoch, time.Minute}, Force{epoch})
		for _, kind := range append(allKinds, "nonsense") {
			for _, outcome := range []Outcome{OK, Failed, Superseded, Refused, "nonsense"} {
				list = append(list, Done{kind, epoch, outcome, "said"})
			}
		}
	}
	return list
}

// foresee tells which row a step will take, -1 for none, by asking a copy.
func foresee(m *Machine, now Instant, in Input) int {
	probe := *m
	probe.now = now
	if probe.stale(in) {
		return -1
	}
	probe.note(in)
	for i := range table {
		if table[i].fits(&probe, in) {
			return i
		}
	}
	return -1
}

// settledAs is what may change only by a row.
func settledAs(m *Machine) string {
	return fmt.Sprintln(m.state, m.epoch, m.forced, m.drained, m.started, m.empty, m.cause, m.detail, m.grace, m.mirrorAt, m.releaseAt)
}

// checkedStep takes a step and compares it with the table.
func checkedStep(t *testing.T, m *Machine, now Instant, in Input) []Effect {
	t.Helper()
	i, before, was := foresee(m, now, in), m.state, settledAs(m)
	effects := m.Step(now, in)
	if i < 0 {
		if len(effects) > 0 || settledAs(m) != was {
			t.Fatalf("%s: %T%+v fits no row, yet effects %+v\nfrom %sto   %s", before, in, in, effects, was, settledAs(m))
		}
		return effects
	}
	want := before
	if table[i].to != same {
		want = table[i].to
	}
	again := want == Standby && before != Standby && m.state == Fencing // a grant was waiting
	if m.state != want && !again {
		t.Fatalf("%s: %T%+v takes row %d to %s, but the machine is %s", before, in, in, i, want, m.state)
	}
	moved := slices.IndexFunc(effects, func(e Effect) bool { return e.Kind == Moved })
	if (moved >= 0) != (want != before) || (moved >= 0 && effects[moved].Move.Say != table[i].say) {
		t.Fatalf("%s: %T%+v: effects %+v do not tell of row %d", before, in, in, effects, i)
	}
	return effects
}

// TestEveryInputInEveryState: whatever comes whenever, the table knows what to do or nothing is done.
func TestEveryInputInEveryState(t *testing.T) {
	for _, state := range allStates {
		ready := [][]Input{
			nil,
			{Done{state.pursues(), at(t, state).current(state.pursues()), Failed, "lock timeout"}},
			{Fence{}},
			{Fence{Healthy: true, Row: Row{4, "b", lifeB}}},
		}
		for _, prepared := range ready {
			for _, in := range inputs() {
				for _, later := range []time.Duration{0, time.Hour} {
					m := at(t, state)
					for _, p := range prepared {
						m.Step(m.now, p)
					}
					if _, again := in.(Begin); again && m.waiting && m.state == Boot {
						continue // Begin is the first input and comes once: see TestMisuse
					}
					checkedStep(t, m, m.now.Add(later), in)
				}
			}
		}
	}
}

// TestWitnessDoesNothing is I7 seen from outside.
func TestWitnessDoesNothing(t *testing.T) {
	m := at(t, Witness)
	for _, in := range inputs() {
		if effects := m.Step(m.now.Add(time.Second), in); len(effects) > 0 || m.State() != Witness {
			t.Errorf("a witness that got %T%+v is %s and does %+v", in, in, m.State(), effects)
		}
	}
	if r := m.Report(); r.State != Witness || r.Epoch != 0 {
		t.Errorf("report = %+v", r)
	}
}

func TestMisuse(t *testing.T) {
	timing := DefaultTiming()
	for name, do := range map[string]func(){
		"no job":          func() { NewMachine(Config{Self: "a", Token: lifeA, Timing: timing}) },
		"no node":         func() { NewMachine(Config{Job: scheduler, Token: lifeA, Timing: timing}) },
		"no token":        func() { NewMachine(Config{Job: scheduler, Self: "a", Timing: timing}) },
		"begin twice":     func() { at(t, Boot).Step(Instant(time.Second), Begin{}) },
		"time goes back":  func() { at(t, Active).Step(0, Tick{}) },
		"granter's, too":  func() { g := NewGranter(GranterConfig{Job: scheduler}); g.Step(2, Tick{}); g.Step(1, Tick{}) },
		"two effects out": func() { m := at(t, Fencing); m.pursue(Take) },
	} {
		if said := panics(do); !strings.HasPrefix(said, "control: ") {
			t.Errorf("%s: panic = %q, want one", name, said)
		}
	}
}

func panics(do func()) (said string) {
	defer func() {
		if r := recover(); r != nil {
			said = fmt.Sprint(r)
		}
	}()
	do()
	return ""
}

// TestInvariantsCanFail corrupts a machine in every way mustHold knows, most of them before a step that would else
// be right.
func TestInvariantsCanFail(t *testing.T) {
	done := func(kind Kind) Input { return Done{Of: kind, Epoch: 5, Outcome: OK} }
	release := &lease.Command{Release: &lease.Release{}}
	tests := []struct {
		name  string
		state State
		spoil func(*Machine)
		in    Input
		want  string
	}{
		{"start of an epoch that was not drained", Adopting, func(m *Machine) { m.drained = 4 }, done(Adopt),
			"I3: start before the drain of this epoch"},
		{"start while an older life may run", Adopting, func(m *Machine) { m.empty = false }, done(Adopt),
			"I6: start while an older tree may live"},
		{"second start of an epoch", Adopting, func(m *Machine) { m.started = 5 }, done(Adopt),
			"I9: credentials of an epoch given out twice"},
		{"release while a life may run", Standby, func(m *Machine) { m.empty, m.view, m.epoch = false, held(5, "a", lifeA).Job, 5 },
			Tick{}, "I6: epoch released while its tree may live"},
		{"an effect that nothing waits for", Standby, func(m *Machine) { m.waiting = true }, Tick{},
			"an effect is out that nothing waits for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := at(t, tt.state)
			tt.spoil(m)
			said := panics(func() { m.Step(m.now, tt.in) })
			if !strings.HasPrefix(said, "control: job scheduler on a: "+tt.want) {
				t.Errorf("panic = %q, want %q", said, tt.want)
			}
		})
	}
	direct := []struct {
		name   string
		state  State
		change func(*Machine)
		want   string
	}{
		{"epoch back", Active, func(m *Machine) { m.epoch = 4 }, "I4: epoch went back"},
		{"new epoch in the middle of a life", Active, func(m *Machine) { m.epoch, m.forced = 6, true },
			"I4: epoch changed in the middle of a life"},
		{"new epoch after a life, but not begun", Stopping, func(m *Machine) { m.epoch, m.forced = 6, true },
			"I4: epoch changed in the middle of a life"},
		{"epoch of another life", Standby, func(m *Machine) { m.epoch, m.view = 6, held(6, "a", lifeA2).Job },
			"I5: epoch of another life begun"},
		{"epoch of another node", Standby, func(m *Machine) { m.epoch, m.view = 6, held(6, "b", lifeB).Job },
			"I5: epoch of another life begun"},
		{"witness acts", Witness, func(m *Machine) { m.effects = []Effect{{Kind: Take}} }, "I7: a witness acts"},
		{"mirror by a standby", Standby, func(m *Machine) { m.effects = []Effect{{Kind: Mirror}} },
			"I8: mirror written outside the active epoch"},
		{"mirror of another epoch", Active, func(m *Machine) { m.effects = []Effect{{Kind: Mirror, Epoch: 4}} },
			"I8: mirror written outside the active epoch"},
		{"release in the middle of a life", Active, func(m *Machine) { m.effects = []Effect{{Kind: Propose, Command: release}} },
			"I6: epoch released while its tree may live"},
	}
	for _, tt := range direct {
		t.Run(tt.name, func(t *testing.T) {
			m := at(t, tt.state)
			m.effects = nil
			before := *m
			if said := panics(func() { m.mustHold(before) }); said != "" {
				t.Fatalf("nothing was broken yet: %s", said)
			}
			tt.change(m)
			said := panics(func() { m.mustHold(before) })
			if !strings.HasPrefix(said, "control: job scheduler on a: "+tt.want) {
				t.Errorf("panic = %q, want %q", said, tt.want)
			}
		})
	}
}
