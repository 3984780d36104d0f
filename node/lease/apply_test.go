package lease_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

const (
	scheduler lease.JobName = "scheduler"
	etl       lease.JobName = "etl"
)

// Three lives: two of node a, one of node b.
var (
	tokenA  = lease.Token(strings.Repeat("a", 32))
	tokenA2 = lease.Token(strings.Repeat("2", 32))
	tokenB  = lease.Token(strings.Repeat("b", 32))
)

func configure(nodes ...lease.Node) lease.Command {
	return lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{scheduler, etl}}}
}

func grant(expect, next lease.Epoch, node lease.NodeID, token lease.Token) lease.Command {
	return lease.Command{Grant: &lease.Grant{
		Job: scheduler, Expect: expect, Next: next, Node: node, Token: token, Cause: lease.CauseFirst, Detail: "why", At: 7,
	}}
}

func release(epoch lease.Epoch, token lease.Token) lease.Command {
	return lease.Command{Release: &lease.Release{
		Job: scheduler, Epoch: epoch, Token: token, Cause: lease.CauseExited, Detail: "exit code 1", At: 8,
	}}
}

func observe(epoch lease.Epoch, node lease.NodeID, token lease.Token) lease.Command {
	return lease.Command{Observe: &lease.Observe{Job: scheduler, Epoch: epoch, Node: node, Token: token, At: 9}}
}

func ask(epoch lease.Epoch, move lease.Move) lease.Command {
	return lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: epoch, Move: move}}
}

// plan is a wish for later.
func plan(epoch lease.Epoch, move lease.Move) lease.Command {
	return lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: epoch, Move: move, In: time.Hour, By: "eve", At: 10}}
}

func cancel(epoch lease.Epoch) lease.Command {
	return lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: epoch, Cancel: true}}
}

// pause puts a pause in the place of what order has made.
func pause(order uint64, level lease.Level) lease.Command {
	return lease.Command{Hold: &lease.Hold{Job: scheduler, Order: order, Cause: lease.CauseOperator, At: 11, Pause: &lease.Pause{
		Level: level, For: time.Minute, By: "eve", Reason: "upgrade", At: 11,
	}}}
}

func resume(order uint64) lease.Command {
	return lease.Command{Hold: &lease.Hold{Job: scheduler, Order: order, Cause: lease.CauseOperator, By: "bob", At: 12}}
}

func report(epoch lease.Epoch, phases ...lease.Timing) lease.Command {
	return lease.Command{Report: &lease.Report{Job: scheduler, Epoch: epoch, Phases: phases}}
}

// cluster is a and b, with t as witness, after the given commands, all of which must be accepted.
func cluster(t testing.TB, commands ...lease.Command) *lease.State {
	t.Helper()
	s := &lease.State{}
	setup := configure(lease.Node{ID: "a"}, lease.Node{ID: "b"}, lease.Node{ID: "t", Witness: true})
	for _, c := range append([]lease.Command{setup}, commands...) {
		if out := s.Apply(c); !out.Accepted {
			t.Fatalf("set up: %s refused: %s", c.Encode()[1:], out.Why)
		}
	}
	return s
}

// acceptance is a command that is accepted after others, and the job that comes of it.
type acceptance struct {
	name   string
	before []lease.Command
	do     lease.Command
	want   string
}

// TestAccepted names, for every command, what an accepted one changes.
func TestAccepted(t *testing.T) {
	mustAccept(t, []acceptance{
		{"first grant", nil, grant(0, 1, "a", tokenA), "1 granted a aaaa; grant 1 a first why @7"},
		{"grant skips epochs", nil, grant(0, 9, "b", tokenB), "9 granted b bbbb; grant 9 b first why @7"},
		{"grant while another life holds it", []lease.Command{grant(0, 1, "a", tokenA)}, grant(1, 2, "b", tokenB),
			"2 granted b bbbb; grant 1 a first why @7; grant 2 b first why @7"},
		{"grant to the same life again", []lease.Command{grant(0, 1, "a", tokenA)}, grant(1, 2, "a", tokenA),
			"2 granted a aaaa; grant 1 a first why @7; grant 2 a first why @7"},
		{"grant ends a wish", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"})}, grant(1, 2, "b", tokenB),
			"2 granted b bbbb; grant 1 a first why @7; grant 2 b first why @7"},
		{"release", []lease.Command{grant(0, 1, "a", tokenA)}, release(1, tokenA),
			"1 released a aaaa; grant 1 a first why @7; release 1 a exited exit code 1 @8"},
		{"release keeps a wish", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"})}, release(1, tokenA),
			"1 released a aaaa move b false false; grant 1 a first why @7; release 1 a exited exit code 1 @8"},
		{"observe what was never granted", nil, observe(4, "b", tokenB), "4 granted b bbbb; observe 4 b forced  @9"},
		{"observe past a grant ends its wish", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{})},
			observe(2, "b", tokenB), "2 granted b bbbb; grant 1 a first why @7; observe 2 b forced  @9"},
		{"observe a node that is no member", nil, observe(4, "z", tokenB), "4 granted z bbbb; observe 4 z forced  @9"},
		{"ask for anywhere else", []lease.Command{grant(0, 1, "a", tokenA)}, ask(1, lease.Move{}),
			"1 granted a aaaa move  false false; grant 1 a first why @7"},
		{"ask for a node, at once", []lease.Command{grant(0, 1, "a", tokenA)}, ask(1, lease.Move{To: "b", Now: true}),
			"1 granted a aaaa move b true false; grant 1 a first why @7"},
		{"ask replaces a wish", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"})}, ask(1, lease.Move{}),
			"1 granted a aaaa move  false false; grant 1 a first why @7"},
		{"ask for the last holder of a released job", []lease.Command{grant(0, 1, "a", tokenA), release(1, tokenA)},
			ask(1, lease.Move{To: "a"}),
			"1 released a aaaa move a false false; grant 1 a first why @7; release 1 a exited exit code 1 @8"},
		{"ask for a job nobody had", nil, ask(0, lease.Move{To: "b"}), "0 vacant   move b false false"},
		{"ask for a new life", []lease.Command{grant(0, 1, "a", tokenA)}, ask(1, lease.Move{To: "a", Here: true}),
			"1 granted a aaaa move a false true; grant 1 a first why @7"},
		{"report", []lease.Command{grant(0, 1, "a", tokenA)}, report(1, lease.Timing{Name: "fence", Took: 5}),
			"1 granted a aaaa; grant 1 a first why @7 fence=5ns"},
		{"report of an older epoch", []lease.Command{grant(0, 1, "a", tokenA), grant(1, 2, "b", tokenB)},
			report(1, lease.Timing{Name: "fence", Took: 5}),
			"2 granted b bbbb; grant 1 a first why @7 fence=5ns; grant 2 b first why @7"},
		{"report goes to the grant, not to its release", []lease.Command{grant(0, 1, "a", tokenA), release(1, tokenA)},
			report(1, lease.Timing{Name: "fence", Took: 5}),
			"1 released a aaaa; grant 1 a first why @7 fence=5ns; release 1 a exited exit code 1 @8"},
		{"report of an observed epoch", []lease.Command{observe(3, "a", tokenA)}, report(3, lease.Timing{Name: "drain", Took: 6}),
			"3 granted a aaaa; observe 3 a forced  @9 drain=6ns"},
	})
}

// TestOrdersAccepted is about what operators order: moves for later, their end, and pauses.
func TestOrdersAccepted(t *testing.T) {
	mustAccept(t, []acceptance{
		{"plan", []lease.Command{grant(0, 1, "a", tokenA)}, plan(1, lease.Move{To: "b"}),
			"1 granted a aaaa order 1 plan {Move:{To:b Now:false Here:false} In:1h0m0s By:eve At:10}; grant 1 a first why @7"},
		{"ask for what was planned", []lease.Command{grant(0, 1, "a", tokenA), plan(1, lease.Move{To: "b"})}, ask(1, lease.Move{To: "b"}),
			"1 granted a aaaa move b false false order 2; grant 1 a first why @7"},
		{"grant ends a plan", []lease.Command{grant(0, 1, "a", tokenA), plan(1, lease.Move{To: "b"})}, grant(1, 2, "b", tokenB),
			"2 granted b bbbb order 2; grant 1 a first why @7; grant 2 b first why @7"},
		{"cancel a wish and a plan", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{}), plan(1, lease.Move{})}, cancel(1),
			"1 granted a aaaa order 2; grant 1 a first why @7"},
		{"pause", []lease.Command{grant(0, 1, "a", tokenA)}, pause(0, lease.PauseMoves),
			"1 granted a aaaa order 1 pause {Level:moves For:1m0s By:eve Reason:upgrade At:11}; grant 1 a first why @7; " +
				"pause 1 a operator moves by eve: upgrade @11"},
		{"pause a job nobody had", nil, pause(0, lease.PauseGrants),
			"0 vacant   order 1 pause {Level:grants For:1m0s By:eve Reason:upgrade At:11}; pause 0  operator grants by eve: upgrade @11"},
		{"a pause that stops ends wish and plan", []lease.Command{grant(0, 1, "a", tokenA), ask(1, lease.Move{}), plan(1, lease.Move{})},
			pause(1, lease.PauseStopped),
			"1 granted a aaaa order 2 pause {Level:stopped For:1m0s By:eve Reason:upgrade At:11}; grant 1 a first why @7; " +
				"pause 1 a operator stopped by eve: upgrade @11"},
		{"resume", []lease.Command{pause(0, lease.PauseMoves)}, resume(1),
			"0 vacant   order 2; pause 0  operator moves by eve: upgrade @11; resume 0  operator  by bob @12"},
		{"ask under a pause", []lease.Command{grant(0, 1, "a", tokenA), pause(0, lease.PauseGrants)}, ask(1, lease.Move{To: "b"}),
			"1 granted a aaaa move b false false order 1 pause {Level:grants For:1m0s By:eve Reason:upgrade At:11}; grant 1 a first why @7; " +
				"pause 1 a operator grants by eve: upgrade @11"},
		{"grant keeps a pause", []lease.Command{pause(0, lease.PauseMoves)}, grant(0, 1, "a", tokenA),
			"1 granted a aaaa order 1 pause {Level:moves For:1m0s By:eve Reason:upgrade At:11}; pause 0  operator moves by eve: upgrade @11; " +
				"grant 1 a first why @7"},
		{"observe ends what stops it", []lease.Command{pause(0, lease.PauseStopped)}, observe(4, "b", tokenB),
			"4 granted b bbbb order 2; pause 0  operator stopped by eve: upgrade @11; observe 4 b forced  @9"},
		{"report under a pause goes to the grant", []lease.Command{grant(0, 1, "a", tokenA), pause(0, lease.PauseMoves)},
			report(1, lease.Timing{Name: "fence", Took: 5}),
			"1 granted a aaaa order 1 pause {Level:moves For:1m0s By:eve Reason:upgrade At:11}; grant 1 a first why @7 fence=5ns; " +
				"pause 1 a operator moves by eve: upgrade @11"},
	})
}

func mustAccept(t *testing.T, tests []acceptance) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster(t, tt.before...)
			if out := s.Apply(tt.do); !out.Accepted || out.Why != "" || out.Job != scheduler {
				t.Fatalf("outcome = %+v, want it accepted for %s", out, scheduler)
			}
			if got := show(s, scheduler); got != tt.want {
				t.Errorf("state\n got %s\nwant %s", got, tt.want)
			}
			if got := show(s, etl); got != "0 vacant  " {
				t.Errorf("another job changed: %s", got)
			}
		})
	}
}

// show writes a job as one line.
func show(s *lease.State, name lease.JobName) string {
	j, _ := s.Job(name)
	line := fmt.Sprintf("%d %s %s %.4s", j.Epoch, j.Phase, j.Holder, j.Token)
	if j.Move != nil {
		line += fmt.Sprintf(" move %s %v %v", j.Move.To, j.Move.Now, j.Move.Here)
	}
	if j.Order != 0 {
		line += fmt.Sprintf(" order %d", j.Order)
	}
	if j.Pause != nil {
		line += fmt.Sprintf(" pause %+v", *j.Pause)
	}
	if j.Plan != nil {
		line += fmt.Sprintf(" plan %+v", *j.Plan)
	}
	for _, e := range j.History {
		line += fmt.Sprintf("; %s %d %s %s %s @%d", e.Kind, e.Epoch, e.Node, e.Cause, e.Detail, e.At)
		for _, p := range e.Phases {
			line += fmt.Sprintf(" %s=%s", p.Name, p.Took)
		}
	}
	return line
}

// refusal is a command that is refused after others, and why.
type refusal struct {
	name   string
	before []lease.Command
	do     lease.Command
	why    string
}

// What the refusals begin with: a job that is held, one that was released, and a text that is too long.
var (
	held = []lease.Command{grant(0, 5, "a", tokenA)}
	over = append(held[:1:1], release(5, tokenA))
	long = strings.Repeat("x", 1025)
)

// TestRefused names every refusal. A refused command changes nothing, to the byte.
func TestRefused(t *testing.T) {
	mustRefuse(t, []refusal{
		{"nothing", nil, lease.Command{}, "command is empty"},
		{"grant of an unknown job", nil, lease.Command{Grant: &lease.Grant{Job: "ghost", Next: 1, Node: "a", Token: tokenA}}, "no such job"},
		{"grant on an older epoch", held, grant(4, 6, "b", tokenB), "epoch is 5, the grant expected 4"},
		{"grant on a later epoch", held, grant(6, 7, "b", tokenB), "epoch is 5, the grant expected 6"},
		{"grant of the same epoch", held, grant(5, 5, "b", tokenB), "next epoch 5 does not exceed 5"},
		{"grant of an older epoch", held, grant(5, 4, "b", tokenB), "next epoch 4 does not exceed 5"},
		{"grant of epoch 0", nil, grant(0, 0, "b", tokenB), "next epoch 0 does not exceed 0"},
		{"grant to nobody known", held, grant(5, 6, "z", tokenB), "no such node: z"},
		{"grant to the witness", held, grant(5, 6, "t", tokenB), "t is a witness"},
		{"grant to no name", held, grant(5, 6, "Node_B", tokenB), `node name "Node_B": want ^[a-z][a-z0-9-]{0,15}$`},
		{"grant without a token", held, grant(5, 6, "b", ""), "token: want 32 lower-case hexadecimal digits"},
		{"grant to a token in capitals", held, grant(5, 6, "b", lease.Token(strings.Repeat("B", 32))), "token: want 32"},
		{"grant of no name", nil, lease.Command{Grant: &lease.Grant{Job: "", Next: 1, Node: "a", Token: tokenA}}, `job name ""`},
		{"grant with too much to say", nil, lease.Command{Grant: &lease.Grant{Job: scheduler, Next: 1, Node: "a", Token: tokenA, Detail: long}},
			"text of 1025 bytes: at most 1024"},
		{"release of what nobody has", nil, release(1, tokenA), "epoch 1 is not held by that life"},
		{"release of an older epoch", held, release(4, tokenA), "epoch 4 is not held by that life"},
		{"release of a later epoch", held, release(6, tokenA), "epoch 6 is not held by that life"},
		{"release by another life of the node", held, release(5, tokenA2), "epoch 5 is not held by that life"},
		{"release twice", over, release(5, tokenA), "epoch 5 is not held by that life"},
		{"release without a token", held, release(5, "short"), "token: want 32"},
		{"release of no name", held, lease.Command{Release: &lease.Release{Job: "9", Token: tokenA}}, `job name "9"`},
		{"release with too much to say", held, lease.Command{Release: &lease.Release{Job: scheduler, Epoch: 5, Token: tokenA, Detail: long}},
			"text of 1025 bytes: at most 1024"},
		{"observe what is known", held, observe(5, "a", tokenA), "epoch is 5, nothing new in 5"},
		{"observe the past", held, observe(4, "b", tokenB), "epoch is 5, nothing new in 4"},
		{"observe nothing", nil, observe(0, "b", tokenB), "epoch is 0, nothing new in 0"},
		{"observe a witness", held, observe(6, "t", tokenB), "t is a witness"},
		{"observe nobody", held, observe(6, "", tokenB), `node name ""`},
		{"observe no life", held, observe(6, "b", "none"), "token: want 32"},
		{"observe of no name", held, lease.Command{Observe: &lease.Observe{Job: "-", Epoch: 6, Node: "b", Token: tokenB}}, `job name "-"`},
		{"ask about an older epoch", held, ask(4, lease.Move{}), "epoch is 5, the request was made for 4"},
		{"ask about a later epoch", held, ask(6, lease.Move{}), "epoch is 5, the request was made for 6"},
		{"ask for nobody known", held, ask(5, lease.Move{To: "z"}), "no such node: z"},
		{"ask for the witness", held, ask(5, lease.Move{To: "t"}), "t is a witness and never runs a job"},
		{"ask for the holder", held, ask(5, lease.Move{To: "a"}), "a holds it already"},
		{"ask for a new life elsewhere", held, ask(5, lease.Move{To: "b", Here: true}), `there is no life on "b"`},
		{"ask for a new life of what nobody runs", over, ask(5, lease.Move{To: "a", Here: true}), `there is no life on "a"`},
		{"ask for a new life beside the present one", held, ask(5, lease.Move{To: "a", Here: true, Now: true}), `there is no life on "a"`},
		{"ask about no name", held, lease.Command{Ask: &lease.Ask{Job: "A"}}, `job name "A"`},
		{"report of what was never granted", held, report(4, lease.Timing{Name: "x"}), "epoch 4 is not in the history"},
		{"report of an unknown job", held, lease.Command{Report: &lease.Report{Job: "ghost", Epoch: 5}}, "no such job"},
		{"report with too many phases", held, report(5, make([]lease.Timing, 33)...), "report of 33 phases: at most 32"},
		{"report about no name", held, lease.Command{Report: &lease.Report{Job: "a_b", Epoch: 5}}, `job name "a_b"`},
		{"configure a bad node", held, configure(lease.Node{ID: "seventeen-letters"}), `node name "seventeen-letters"`},
		{"configure a bad job", held, lease.Command{Configure: &lease.Configure{Jobs: []lease.JobName{"Job"}}}, `job name "Job"`},
		{"configure the holder as witness", held, configure(lease.Node{ID: "a", Witness: true}), "I7: witness a holds epoch 5"},
	})
}

// TestOrdersRefused is about what operators order: moves, plans and pauses.
func TestOrdersRefused(t *testing.T) {
	mustRefuse(t, []refusal{
		{"ask for later than a month", held, lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: 5, In: lease.MaxWait + 1}}, "a wait of 720h0m0"},
		{"ask for earlier than now", held, lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: 5, In: -1}}, "a wait of -1ns"},
		{"ask by a name without end", held, lease.Command{Ask: &lease.Ask{Job: scheduler, Epoch: 5, By: long}}, "text of 1025 bytes"},
		{"ask for what is stopped", append(held[:1:1], pause(0, lease.PauseStopped)), ask(5, lease.Move{To: "b"}),
			"it is paused: stopped by eve: upgrade"},
		{"plan for what is stopped", append(held[:1:1], pause(0, lease.PauseStopped)), plan(5, lease.Move{To: "b"}), "it is paused"},
		{"plan for the witness", held, plan(5, lease.Move{To: "t"}), "t is a witness and never runs a job"},
		{"grant of what is stopped", append(over[:2:2], pause(0, lease.PauseStopped)), grant(5, 6, "b", tokenB), "it is paused: stopped"},
		{"cancel nothing", held, cancel(5), "no move is asked for or planned"},
		{"cancel for an older epoch", held, cancel(4), "epoch is 5, the request was made for 4"},
		{"pause in the place of an unseen order", append(held[:1:1], pause(0, lease.PauseMoves)), pause(0, lease.PauseStopped),
			"order 1 was given since the one you know, 0"},
		{"resume what was paused anew", append(held[:1:1], pause(0, lease.PauseMoves), pause(1, lease.PauseMoves)), resume(1), "order 2 was given"},
		{"resume what is not paused", held, resume(0), "it is not paused"},
		{"pause at no level", held, pause(0, "a bit"), `pause level "a bit": want moves, grants or stopped`},
		{"pause for longer than a month", held, lease.Command{Hold: &lease.Hold{Job: scheduler, Pause: &lease.Pause{
			Level: lease.PauseMoves, For: lease.MaxWait + 1}}}, "a wait of 720h0m0"},
		{"pause with too much to say", held, lease.Command{Hold: &lease.Hold{Job: scheduler, Pause: &lease.Pause{
			Level: lease.PauseMoves, Reason: long}}}, "text of 1025 bytes"},
		{"pause of an unknown job", held, lease.Command{Hold: &lease.Hold{Job: "ghost"}}, "no such job"},
		{"pause of no name", held, lease.Command{Hold: &lease.Hold{Job: "A"}}, `job name "A"`},
		{"retirement of the holder", held, retire("a"), "a holds epoch 5 of it; move it to another node first"},
		{"retirement of a stranger", held, retire("ghost"), "no such node: ghost"},
		{"retirement of nobody", held, retire(""), `node name ""`},
		{"retirement of the last one", append(over[:2:2], retire("a")), retire("b"), "b is the only node that could run a job"},
		{"no retirement is taken back", held, lease.Command{Retire: &lease.Retire{Node: "b", Undo: true}}, "b is not leaving"},
		{"grant to who is leaving", append(over[:2:2], retire("b")), grant(5, 6, "b", tokenB), "b is leaving the cluster"},
		{"move to who is leaving", append(held[:1:1], retire("b")), ask(5, lease.Move{To: "b"}), "b is leaving the cluster"},
	})
}

func retire(id lease.NodeID) lease.Command {
	return lease.Command{Retire: &lease.Retire{Node: id, By: "carol", At: 13}}
}

func mustRefuse(t *testing.T, tests []refusal) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster(t, tt.before...)
			before := string(s.Snapshot())
			out := s.Apply(tt.do)
			if out.Accepted || !strings.Contains(out.Why, tt.why) {
				t.Errorf("outcome = %+v, want a refusal: %s", out, tt.why)
			}
			if after := string(s.Snapshot()); after != before {
				t.Errorf("a refused command changed the state\nfrom %s\n  to %s", before, after)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	s := cluster(t, grant(0, 3, "a", tokenA), release(3, tokenA))
	next := lease.Command{Configure: &lease.Configure{
		Nodes: []lease.Node{{ID: "c"}, {ID: "b"}, {ID: "a", Witness: true}, {ID: "b"}},
		Jobs:  []lease.JobName{"extra"},
	}}
	if out := s.Apply(next); !out.Accepted {
		t.Fatalf("refused: %s", out.Why)
	}
	if got := fmt.Sprint(s.Nodes); got != "[{a true false} {b false false} {c false false}]" {
		t.Errorf("nodes = %s, want them sorted, each once, t gone, and a, which holds nothing, a witness", got)
	}
	var jobs []lease.JobName
	for _, j := range s.Jobs {
		jobs = append(jobs, j.Name)
	}
	if got := fmt.Sprint(jobs); got != "[etl extra scheduler]" {
		t.Errorf("jobs = %s, want the new one among the old ones, sorted", got)
	}
	if j, _ := s.Job(scheduler); j.Epoch != 3 {
		t.Errorf("a job that was left out is at epoch %d, want its epoch 3 kept", j.Epoch)
	}
	before := string(s.Snapshot())
	if out := s.Apply(next); !out.Accepted || string(s.Snapshot()) != before {
		t.Errorf("the same configuration again: %+v, or the state changed", out)
	}
}

func TestLookUp(t *testing.T) {
	s := cluster(t, grant(0, 1, "a", tokenA))
	if j, ok := s.Job("ghost"); ok || j.Phase != lease.Vacant || j.Name != "ghost" {
		t.Errorf("unknown job = %+v, %v; want it vacant and unknown", j, ok)
	}
	if n, ok := s.Node("t"); !ok || !n.Witness {
		t.Errorf("node t = %+v, %v; want the witness", n, ok)
	}
	if _, ok := s.Node("z"); ok {
		t.Error("node z is known")
	}
	j, _ := s.Job(scheduler)
	for _, tt := range []struct {
		node  lease.NodeID
		token lease.Token
		want  bool
	}{{"a", tokenA, true}, {"a", tokenA2, false}, {"b", tokenA, false}} {
		if got := j.HeldBy(tt.node, tt.token); got != tt.want {
			t.Errorf("HeldBy(%s, %.4s) = %v, want %v", tt.node, tt.token, got, tt.want)
		}
	}
	s.Apply(release(1, tokenA))
	if j, _ := s.Job(scheduler); j.HeldBy("a", tokenA) {
		t.Error("a released job is held")
	}
}

// TestReadersKeepTheirCopy: what Job returned is not changed by what is applied later.
func TestReadersKeepTheirCopy(t *testing.T) {
	s := cluster(t, grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"}), report(1, lease.Timing{Name: "fence", Took: 1}))
	old, _ := s.Job(scheduler)
	before := fmt.Sprintf("%+v %+v", old, *old.Move)
	for _, c := range []lease.Command{
		report(1, lease.Timing{Name: "drain", Took: 2}), ask(1, lease.Move{Now: true}), release(1, tokenA), grant(1, 2, "b", tokenB),
	} {
		s.Apply(c)
	}
	if after := fmt.Sprintf("%+v %+v", old, *old.Move); after != before {
		t.Errorf("a copy changed\nfrom %s\n  to %s", before, after)
	}
	old.History[0].Node, old.Move.To = "z", "z"
	now, _ := s.Job(scheduler)
	s.Apply(report(1, lease.Timing{Name: "adopt", Took: 3}))
	_ = append(now.History[0].Phases, lease.Timing{Name: " z "}) // into what may be the same array
	if got := show(s, scheduler); strings.Contains(got, " z ") {
		t.Errorf("writing to a copy changed the state: %s", got)
	}
}

func TestDetectionTimeIsTheFirstPhase(t *testing.T) {
	s := cluster(t)
	c := grant(0, 1, "a", tokenA)
	c.Grant.Detect = lease.Timing{Name: "detect", Took: 300 * time.Millisecond}
	s.Apply(c)
	s.Apply(report(1, lease.Timing{Name: "fence", Took: time.Millisecond}))
	if got, want := show(s, scheduler), "1 granted a aaaa; grant 1 a first why @7 detect=300ms fence=1ms"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := cluster(t)
	for e := lease.Epoch(1); e <= lease.HistoryCap+50; e++ {
		if out := s.Apply(grant(e-1, e, "a", tokenA)); !out.Accepted {
			t.Fatalf("epoch %d: %s", e, out.Why)
		}
	}
	j, _ := s.Job(scheduler)
	if len(j.History) != lease.HistoryCap || j.History[0].Epoch != 51 || j.History[lease.HistoryCap-1].Epoch != lease.HistoryCap+50 {
		t.Errorf("history has %d entries from %d to %d, want the newest %d", len(j.History),
			j.History[0].Epoch, j.History[len(j.History)-1].Epoch, lease.HistoryCap)
	}
	if out := s.Apply(report(50, lease.Timing{Name: "late"})); out.Accepted {
		t.Error("a report for an entry that has been dropped was accepted")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "node-1": true, "abcdefghijklmnop": true, "": false, "abcdefghijklmnopq": false,
		"1a": false, "-a": false, "A": false, "a_b": false, "a.b": false, "a\n": false, "ä": false,
	} {
		if got := lease.ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v, want %v", name, got, want)
		}
	}
	for token, want := range map[lease.Token]bool{
		tokenA: true, "": false, tokenA[1:]: false, tokenA + "a": false, tokenA[1:] + "A": false, tokenA[1:] + "g": false, tokenA + "\n": false,
	} {
		if got := token.Valid(); got != want {
			t.Errorf("Token(%q).Valid() = %v, want %v", token, got, want)
		}
	}
}
