package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// spreadable is a node of a cluster in which a holds every job: j1, which back follows, j2 and j3. Nothing keeps them from b.
func spreadable(t *testing.T, change func(*Config)) *Node {
	t.Helper()
	cfg := soleConfig("j1", "j2", "j3", "back")
	cfg.Nodes["b"], cfg.Nodes["t"] = Member{Peer: "127.0.0.1:2"}, Member{Peer: "127.0.0.1:3", Witness: true}
	back := cfg.Jobs["back"]
	back.Follow = "j1"
	cfg.Jobs["back"] = back
	if change != nil {
		change(&cfg)
	}
	hosted := map[lease.JobName]HostedJob{}
	for _, name := range cfg.jobNames() {
		hosted[name] = &stubJob{}
	}
	n, err := New(Parts{Config: cfg, Token: lifeA, Wire: NewWire(cfg, nil), Log: &soleLog{}, Gossip: alone{}, Jobs: hosted})
	if err != nil {
		t.Fatal(err)
	}
	said := map[lease.JobName]control.Report{}
	p := picture{beats: map[lease.NodeID]beat{"a": {Node: "a", Jobs: said}}, jobs: map[lease.JobName]jobPicture{}}
	apply(t, n, lease.Command{Configure: &lease.Configure{Nodes: cfg.configured().voters(), Jobs: cfg.jobNames()}})
	for _, name := range cfg.jobNames() {
		apply(t, n, lease.Command{Grant: &lease.Grant{Job: name, Next: 1, Node: "a", Token: lifeA, Cause: lease.CauseFirst}})
		said[name] = control.Report{State: control.Active, Epoch: 1}
		p.jobs[name] = jobPicture{standing: standing{unfit: map[lease.NodeID]string{"a": "is active, not standby", "b": "", "t": "is a witness"}}}
	}
	n.picture = p
	return n
}

func apply(t *testing.T, n *Node, c lease.Command) {
	t.Helper()
	n.wire.ledger.mu.Lock()
	defer n.wire.ledger.mu.Unlock()
	if out := n.wire.ledger.state.Apply(c); !out.Accepted {
		t.Fatal(out.Why)
	}
}

func TestSpreadIsPlanned(t *testing.T) {
	hold := lease.Command{Hold: &lease.Hold{Job: "j1", Cause: lease.CauseOperator, Pause: &lease.Pause{Level: lease.PauseMoves}}}
	ask := func(in lease.Ask) lease.Command {
		in.Job, in.Epoch, in.Move = "j1", 1, lease.Move{To: "b"}
		return lease.Command{Ask: &in}
	}
	seen := func(n *Node, name lease.JobName, change func(*jobPicture)) {
		p := n.picture.jobs[name]
		change(&p)
		n.picture.jobs[name] = p
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		do     func(*Node)
		want   string
	}{
		{"a job takes its followers along", nil, nil, "j1:a-b*2; a 4-2 b 0-2"},
		{"a heavier one", func(c *Config) { j := c.Jobs["j2"]; two := 2; j.Weight = &two; c.Jobs["j2"] = j }, nil, "j1:a-b*2; a 5-3 b 0-2"},
		{"one prefers a", func(c *Config) { j := c.Jobs["j1"]; j.Prefer = []string{"a"}; c.Jobs["j1"] = j }, nil, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"b cannot have it", nil, func(n *Node) { n.picture.jobs["j1"].unfit["b"] = "is not heard" }, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"it is not known whether b could", nil, func(n *Node) { delete(n.picture.jobs["j1"].unfit, "b") }, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"paused", nil, func(n *Node) { apply(t, n, hold) }, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"asked for", nil, func(n *Node) { apply(t, n, ask(lease.Ask{})) }, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"planned", nil, func(n *Node) { apply(t, n, ask(lease.Ask{In: 1})) }, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"suspected", nil, func(n *Node) {
			seen(n, "j1", func(p *jobPicture) { p.suspicion.Cause = lease.CauseSilent })
		}, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"not active yet", nil, func(n *Node) {
			n.picture.beats["a"].Jobs["j1"] = control.Report{State: control.Starting, Epoch: 1}
		}, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"active under an epoch before", nil, func(n *Node) {
			n.picture.beats["a"].Jobs["j1"] = control.Report{State: control.Active}
		}, "j2:a-b*1 j3:a-b*1; a 4-2 b 0-2"},
		{"released", nil, func(n *Node) {
			apply(t, n, lease.Command{Release: &lease.Release{Job: "j1", Epoch: 1, Token: lifeA, Cause: lease.CauseExited}})
		}, "j2:a-b*1; a 2-1 b 0-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := spreadable(t, tt.change)
			if tt.do != nil {
				tt.do(n)
			}
			answer, err := n.Operators().Spread(t.Context(), &duoflowv1.SpreadRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if got := spreadText(answer); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, m := range answer.GetMoves() {
				if m.GetEpoch() != 1 {
					t.Errorf("%s is planned for epoch %d", m.GetJob(), m.GetEpoch())
				}
			}
		})
	}
}

func spreadText(answer *duoflowv1.SpreadResponse) string {
	var moves, loads []string
	for _, m := range answer.GetMoves() {
		moves = append(moves, fmt.Sprintf("%s:%s-%s*%d", m.GetJob(), m.GetFrom(), m.GetTo(), m.GetWeight()))
	}
	for _, l := range answer.GetLoads() {
		loads = append(loads, fmt.Sprintf("%s %d-%d", l.GetNode(), l.GetNow(), l.GetThen()))
	}
	return strings.Join(moves, " ") + "; " + strings.Join(loads, " ")
}

// TestALetterIsForWhomItConcerns: what the log says of a job is news to it and to those that follow it.
func TestALetterIsForWhomItConcerns(t *testing.T) {
	n := spreadable(t, nil)
	for _, tt := range []struct {
		letter letter
		want   string
	}{
		{letter{input: control.Lease{Job: lease.Job{Name: "j1"}}}, "back j1"},
		{letter{input: control.Lease{Job: lease.Job{Name: "j2"}}}, "j2"},
		{letter{input: control.Lease{Job: lease.Job{Name: "unknown"}}}, ""},
		{letter{job: "j1", input: control.Fence{}}, "j1"},
		{letter{job: "back", input: control.Fence{}}, "back"},
		{letter{job: "unknown", input: control.Fence{}}, ""},
		{letter{input: control.Tick{}}, "back j1 j2 j3"},
	} {
		var got []string
		for _, s := range n.concerned(tt.letter) {
			got = append(got, string(s.name))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v is for %v, want %s", tt.letter, got, tt.want)
		}
	}
}

// TestWhatIsPaintedAnew: between beats only the jobs to which something happened, and all of them at a beat.
func TestWhatIsPaintedAnew(t *testing.T) {
	n := spreadable(t, nil)
	for _, tt := range []struct {
		name string
		do   func(now control.Instant)
		want string // jobs that show what is, not what was
	}{
		{"nothing happened", func(now control.Instant) { n.paint(now, jobs) }, ""},
		{"the metastore was looked at for one", func(now control.Instant) {
			n.step(t.Context(), now, letter{job: "j2", input: control.Fence{Healthy: true}})
			n.paint(now, jobs)
		}, "j2"},
		{"once more", func(now control.Instant) { n.paint(now, jobs) }, ""},
		{"a tick, and then news of another", func(now control.Instant) {
			n.step(t.Context(), now, letter{job: "j3", input: control.Fence{Healthy: true}})
			n.paint(now, states)
			n.paint(now, jobs)
		}, "j3"},
		{"a beat", func(now control.Instant) { n.paint(now, everything) }, "back j1 j2 j3"},
	} {
		for name, p := range n.picture.jobs {
			p.unfit = map[lease.NodeID]string{"b": "what was"}
			n.picture.jobs[name] = p
		}
		tt.do(n.machine.Boot())
		var got []string
		for _, s := range n.seats {
			if n.snapshot().jobs[s.name].unfit["b"] != "what was" {
				got = append(got, string(s.name))
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: painted %v, want %s", tt.name, got, tt.want)
		}
	}
}
