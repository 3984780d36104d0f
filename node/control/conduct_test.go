package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// did writes what a step led to: the state and its effects.
func did(m *Machine, effects []Effect) string {
	words := []string{string(m.State())}
	for _, e := range effects {
		switch {
		case e.Kind == Moved:
		case e.Kind == Stop:
			words = append(words, fmt.Sprintf("stop %d within %s", e.Epoch, e.Grace))
		case e.Kind == Propose:
			r := e.Command.Release
			words = append(words, fmt.Sprintf("release %d because %s (%s)", r.Epoch, r.Cause, r.Detail))
		default:
			words = append(words, fmt.Sprintf("%s %d", e.Kind, e.Epoch))
		}
	}
	return strings.Join(words, ", ")
}

// conductStep is one of a conduct: after some time an input comes, and this is what is done.
type conductStep struct {
	after time.Duration
	in    Input
	want  string
}

func looked(epoch lease.Epoch, node lease.NodeID, token lease.Token) Fence {
	return Fence{Healthy: true, Row: Row{epoch, node, token}, HighestRole: epoch}
}

func failed(kind Kind) Done { return Done{kind, 5, Failed, "lock timeout"} }

func fine(kind Kind, epoch lease.Epoch) Done { return Done{Of: kind, Epoch: epoch, Outcome: OK} }

// leaseOf is the log saying of epoch 5 of this life what change makes of it.
func leaseOf(change func(*lease.Job)) Lease {
	l := held(5, "a", lifeA)
	change(&l.Job)
	return l
}

var (
	asked5    = leaseOf(func(j *lease.Job) { j.Move = &lease.Move{To: "b"} })
	askedNow5 = leaseOf(func(j *lease.Job) { j.Move = &lease.Move{To: "b", Now: true} })
	released5 = leaseOf(func(j *lease.Job) { j.Phase = lease.Released })
	foreign9  = leaseOf(func(j *lease.Job) { j.Name, j.Epoch = "etl", 9 })
)

const ms = time.Millisecond

// conducts say in examples what the guards of the table mean. Epoch 5 is this machine's.
var conducts = []struct {
	name  string
	from  State
	steps []conductStep
}{
	{"a whole takeover", Boot, []conductStep{
		{0, fine(Clear, 0), "standby"},
		{0, held(5, "a", lifeA), "fencing, take 5"},
		{0, fine(Take, 5), "draining, drain 5"},
		{0, fine(Drain, 5), "adopting, adopt 5"},
		{0, fine(Adopt, 5), "starting, start 5"},
		{0, fine(Start, 5), "active"},
	}},
	{"a grant that waited for the boot", Boot, []conductStep{
		{0, held(5, "a", lifeA), "boot"},
		{0, fine(Clear, 0), "fencing, take 5"},
	}},
	{"grants of others", Standby, []conductStep{
		{0, held(5, "b", lifeB), "standby"},
		{0, held(6, "a", lifeA2), "standby"}, // an earlier life of this node (I5)
		{0, foreign9, "standby"},
		{0, held(7, "a", lifeA), "fencing, take 7"},
	}},
	{"an order must exceed the log", Standby, []conductStep{
		{0, held(6, "b", lifeB), "standby"},
		{0, Force{6}, "standby"},
		{0, Force{7}, "fencing, take 7"},
	}},
	{"an order must exceed the fence", Standby, []conductStep{
		{0, looked(9, "b", lifeB), "standby"},
		{0, Fence{}, "standby"}, // what was seen stays known
		{0, Force{9}, "standby"},
		{0, Force{10}, "fencing, take 10"},
	}},
	{"a forced epoch is ahead of the log", Standby, []conductStep{
		{0, Force{7}, "fencing, take 7"},
		{0, held(6, "b", lifeB), "fencing"},
		{0, held(7, "b", lifeB), "fencing"}, // the fence says which of the two it is
		{0, held(8, "b", lifeB), "stopping, stop 7 within 2s"},
	}},
	{"what is the log's is not ours to release", Standby, []conductStep{
		{0, held(6, "b", lifeB), "standby"},
		{0, Force{7}, "fencing, take 7"},
		{0, Done{Take, 7, Superseded, "row is 8"}, "stopping, stop 7 within 2s"},
		{0, fine(Stop, 7), "standby"},
	}},
	{"a granted epoch is the log's", Fencing, []conductStep{
		{0, held(5, "a", lifeA), "fencing"},
		{0, released5, "stopping, stop 5 within 2s"},
	}},
	{"retries wait longer and longer", Fencing, []conductStep{
		{0, failed(Take), "fencing"},
		{19 * ms, Tick{}, "fencing"},
		{1 * ms, Tick{}, "fencing, take 5"},
		{0, Tick{}, "fencing"}, // one at a time
		{0, failed(Take), "fencing"},
		{39 * ms, Tick{}, "fencing"},
		{1 * ms, Tick{}, "fencing, take 5"},
		{0, fine(Take, 5), "draining, drain 5"},
		{0, failed(Drain), "draining"},
		{20 * ms, Tick{}, "draining, drain 5"}, // another effect, other failures
	}},
	{"a metastore that is back is not waited for", Fencing, []conductStep{
		{0, failed(Take), "fencing"},
		{20 * ms, Tick{}, "fencing, take 5"},
		{0, failed(Take), "fencing"},
		{1 * ms, Fence{}, "fencing"},
		{1 * ms, looked(4, "b", lifeB), "fencing, take 5"},
	}},
	{"what is back may be against us", Fencing, []conductStep{
		{0, failed(Take), "fencing"},
		{20 * ms, Tick{}, "fencing, take 5"},
		{0, failed(Take), "fencing"},
		{1 * ms, looked(6, "b", lifeB), "stopping, stop 5 within 2s"},
	}},
	{"fenced by a later epoch", Active, []conductStep{
		{0, looked(5, "a", lifeA), "active"},
		{0, looked(6, "b", lifeB), "stopping, stop 5 within 2s"},
		{0, fine(Stop, 5), "standby, release 5 because fenced (the fence row belongs to another grant)"},
	}},
	{"fenced under our epoch by an earlier life", Active, []conductStep{{0, looked(5, "a", lifeA2), "stopping, stop 5 within 2s"}}},
	{"fenced under our epoch by another node", Active, []conductStep{{0, looked(5, "b", lifeA), "stopping, stop 5 within 2s"}}},
	{"one look at an older row may be late", Active, []conductStep{
		{0, looked(4, "b", lifeB), "active"},
		{0, looked(5, "a", lifeA), "active"},
		{0, looked(4, "b", lifeB), "active"},
		{0, Fence{}, "active"}, // no look at all
		{0, looked(4, "b", lifeB), "stopping, stop 5 within 2s"},
	}},
	{"a later grant, while we see that the fence is ours", Active, []conductStep{
		{0, looked(5, "a", lifeA), "active"},
		{0, held(6, "b", lifeB), "active"},
		{0, Fence{}, "stopping, stop 5 within 2s"},
		{0, fine(Stop, 5), "standby"}, // nobody to tell: the log has moved on
	}},
	{"a later grant, while we are blind", Active, []conductStep{
		{0, Fence{}, "active"},
		{0, held(6, "b", lifeB), "stopping, stop 5 within 2s"},
	}},
	{"a later grant to this very life", Active, []conductStep{
		{0, looked(5, "a", lifeA), "active"},
		{0, held(6, "a", lifeA), "stopping, stop 5 within 2s"},
		{0, fine(Stop, 5), "fencing, take 6"},
	}},
	{"switchover", Active, []conductStep{
		{0, asked5, "stopping, stop 5 within 30s"},
		{0, fine(Stop, 5), "standby, release 5 because switchover (an operator asked)"},
	}},
	{"failover is not the holder's business", Active, []conductStep{{0, askedNow5, "active"}}},
	{"exit", Active, []conductStep{
		{0, Exited{4, "old"}, "active"},
		{0, Exited{5, "exit code 1"}, "stopping, stop 5 within 0s"},
		{0, fine(Stop, 5), "standby, release 5 because exited (exit code 1)"},
		{499 * ms, Tick{}, "standby"},
		{1 * ms, Tick{}, "standby, release 5 because exited (exit code 1)"}, // until the log says so
		{0, released5, "standby"},
		{9 * time.Second, Tick{}, "standby"},
	}},
	{"hung", Active, []conductStep{
		{0, Progress{5, 15 * time.Second}, "active"},
		{0, Progress{4, time.Hour}, "active"},
		{0, Progress{5, 15*time.Second + 1}, "stopping, stop 5 within 0s"},
	}},
	{"mirror", Active, []conductStep{
		{0, Tick{}, "active, mirror 5"},
		{4999 * ms, Tick{}, "active"},
		{1 * ms, Tick{}, "active, mirror 5"},
		{1 * ms, Tick{}, "active"},
	}},
	{"the daemon is stopped", Active, []conductStep{
		{0, Quit{}, "stopping, stop 5 within 30s"},
		{0, failed(Stop), "stopping"},
		{20 * ms, Tick{}, "stopping, stop 5 within 30s"},
		{0, fine(Stop, 5), "left, surrender 5, release 5 because shutdown (the daemon is being stopped)"},
		{499 * ms, Tick{}, "left"},
		{1 * ms, Tick{}, "left, release 5 because shutdown (the daemon is being stopped)"},
		{0, held(6, "a", lifeA), "left"},
	}},
	{"the daemon is stopped while the job is", Stopping, []conductStep{
		{0, Quit{}, "stopping"},
		{0, fine(Stop, 5), "left, release 5 because exited (exit code 1)"},
	}},
	{"a life is used once", Starting, []conductStep{
		{0, failed(Start), "stopping, stop 5 within 0s"},
		{0, fine(Start, 5), "stopping"}, // late
		{0, fine(Stop, 5), "standby, release 5 because startfailed (lock timeout)"},
	}},
	{"a grant that came while the last life was ending", Stopping, []conductStep{
		{0, held(6, "a", lifeA), "stopping"},
		{0, fine(Stop, 5), "fencing, take 6"},
	}},
}

func TestConduct(t *testing.T) {
	for _, tt := range conducts {
		t.Run(tt.name, func(t *testing.T) {
			m := at(t, tt.from)
			for i, step := range tt.steps {
				if got := did(m, checkedStep(t, m, m.now.Add(step.after), step.in)); got != step.want {
					t.Fatalf("step %d, %T%+v:\n got %s\nwant %s", i, step.in, step.in, got, step.want)
				}
			}
		})
	}
}

// TestRetriesAreBounded: however often it fails, it is tried every second.
func TestRetriesAreBounded(t *testing.T) {
	m := at(t, Draining)
	var waits []time.Duration
	for range 9 {
		m.Step(m.now, failed(Drain))
		from := m.now
		for len(m.Step(m.now.Add(10*time.Millisecond), Tick{})) == 0 {
			continue
		}
		waits = append(waits, m.now.Since(from))
	}
	if got, want := fmt.Sprint(waits), "[20ms 40ms 80ms 160ms 320ms 640ms 1s 1s 1s]"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
}

// TestReport is what the others are told.
func TestReport(t *testing.T) {
	m := at(t, Active)
	m.Step(m.now, looked(5, "a", lifeA))
	want := Report{Token: lifeA, State: Active, Epoch: 5, Healthy: true, Row: Row{5, "a", lifeA}, HighestRole: 5}
	if got := m.Report(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("report = %+v, want %+v", got, want)
	}
	m.Step(m.now, Fence{})
	m.Step(m.now, Quit{})
	want.Healthy, want.Goodbye, want.State = false, true, Stopping
	if got := m.Report(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("report = %+v, want %+v: what was last seen of the fence, not that it is gone", got, want)
	}
	if m.Why() != "the daemon is being stopped" || m.Epoch() != 5 || m.Idle() {
		t.Errorf("why %q, epoch %d, idle %v", m.Why(), m.Epoch(), m.Idle())
	}
}
