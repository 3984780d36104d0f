package control_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// court is one granter on the witness t, which leads, over the candidates a, b and c, all of them well unless a test
// says otherwise.
type court struct {
	t     testing.TB
	g     *control.Granter
	now   control.Instant
	log   lease.State
	says  map[lease.NodeID]control.Report
	quiet map[lease.NodeID]bool
}

var ids = []lease.NodeID{"a", "b", "c", "t"}

func newCourt(t testing.TB, change ...func(*control.GranterConfig)) *court {
	t.Helper()
	cfg := control.GranterConfig{Job: jobName, Self: "t", Timing: control.DefaultTiming()}
	for _, f := range change {
		f(&cfg)
	}
	c := &court{
		t: t, g: control.NewGranter(cfg), now: control.Instant(time.Hour),
		says: map[lease.NodeID]control.Report{}, quiet: map[lease.NodeID]bool{},
	}
	nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "t", Witness: true}}
	c.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{jobName, "etl"}}})
	for _, id := range ids {
		c.says[id] = control.Report{Token: tokenOf(id), State: control.Standby, Healthy: true, Hears: ids}
	}
	c.change("t", func(r *control.Report) { r.State, r.Healthy = control.Witness, false })
	c.step(control.Members{Nodes: c.log.Nodes})
	c.step(control.Leading{On: true})
	return c
}

func tokenOf(id lease.NodeID) lease.Token {
	return lease.Token(fmt.Sprintf("%032x", id[0]))
}

func (c *court) change(id lease.NodeID, f func(*control.Report)) {
	said := c.says[id]
	f(&said)
	c.says[id] = said
}

func (c *court) step(in control.Input) []control.Effect {
	c.t.Helper()
	effects := c.g.Step(c.now, in)
	if len(effects) > 1 {
		c.t.Fatalf("%d proposals at once: %+v", len(effects), effects)
	}
	return effects
}

// beats lets everybody who is not quiet speak, and returns what was proposed.
func (c *court) beats() []control.Effect {
	c.t.Helper()
	var effects []control.Effect
	for _, id := range ids {
		if !c.quiet[id] {
			effects = append(effects, c.step(control.Beat{From: id, Said: c.says[id]})...)
		}
	}
	return effects
}

// pass lets time go by, with beats, until something is proposed or d is over.
func (c *court) pass(d time.Duration) []control.Effect {
	c.t.Helper()
	for end := c.now.Add(d); c.now < end; {
		c.now = c.now.Add(10 * time.Millisecond)
		if effects := c.step(control.Tick{}); len(effects) > 0 {
			return effects
		}
		if time.Duration(c.now)%(50*time.Millisecond) == 0 {
			if effects := c.beats(); len(effects) > 0 {
				return effects
			}
		}
	}
	return nil
}

// apply puts somebody's command to the log and tells the granter.
func (c *court) apply(command lease.Command) []control.Effect {
	c.t.Helper()
	out := c.log.Apply(command)
	if !out.Accepted {
		c.t.Fatalf("refused: %s", out.Why)
	}
	job, _ := c.log.Job(out.Job)
	return c.step(control.Lease{Job: job})
}

// hold makes a node the active holder, as an operator could not tell from a grant of our own.
func (c *court) hold(id lease.NodeID) {
	c.t.Helper()
	job, _ := c.log.Job(jobName)
	c.change(id, func(r *control.Report) { r.State, r.Epoch = control.Active, job.Epoch+1 })
	grant := &lease.Grant{Job: jobName, Expect: job.Epoch, Next: job.Epoch + 1, Node: id, Token: c.says[id].Token, Cause: lease.CauseFirst}
	c.log.Apply(lease.Command{Grant: grant})
	now, _ := c.log.Job(jobName)
	for _, in := range []control.Input{control.Beat{From: id, Said: c.says[id]}, control.Lease{Job: now}, control.Proposed{}} {
		if effects := c.step(in); len(effects) > 0 {
			c.t.Fatalf("%s holds it, and yet: %s", id, proposal(effects))
		}
	}
}

// release lets the holder say that its life is over.
func (c *court) release(cause lease.Cause) []control.Effect {
	c.t.Helper()
	job, _ := c.log.Job(jobName)
	c.change(job.Holder, func(r *control.Report) { r.State = control.Standby })
	return c.apply(lease.Command{Release: &lease.Release{Job: jobName, Epoch: job.Epoch, Token: job.Token, Cause: cause}})
}

// proposal writes the only effect as a line.
func proposal(effects []control.Effect) string {
	if len(effects) == 0 {
		return "nothing"
	}
	if e := effects[0]; e.Kind != control.Propose || len(effects) > 1 {
		return fmt.Sprintf("%+v", effects)
	}
	switch c := effects[0].Command; {
	case c.Grant != nil:
		return fmt.Sprintf("grant %d after %d to %s because %s", c.Grant.Next, c.Grant.Expect, c.Grant.Node, c.Grant.Cause)
	case c.Observe != nil:
		return fmt.Sprintf("observe %d of %s", c.Observe.Epoch, c.Observe.Node)
	}
	return fmt.Sprintf("%+v", effects[0].Command)
}

func want(t *testing.T, effects []control.Effect, line string) {
	t.Helper()
	if got := proposal(effects); got != line {
		t.Errorf("proposed %s, want %s", got, line)
	}
}

// TestUnfit names every reason why a node cannot be granted the job.
func TestUnfit(t *testing.T) {
	follow := func(cfg *control.GranterConfig) { cfg.Follow = "etl" }
	tests := []struct {
		name, want string
		config     func(*control.GranterConfig)
		node       lease.NodeID
		do         func(*court)
	}{
		{name: "well", node: "b"},
		{name: "not a member", node: "z", want: "not a member"},
		{name: "witness", node: "t", want: "is a witness"},
		{name: "nofailover", node: "b", want: "is tagged nofailover",
			config: func(cfg *control.GranterConfig) { cfg.NoFailover = map[lease.NodeID]bool{"b": true} }},
		{name: "never heard", node: "b", want: "is not heard", do: func(c *court) { c.quiet["b"] = true }},
		{name: "not heard any more", node: "b", want: "is not heard",
			do: func(c *court) { c.beats(); c.quiet["b"] = true; c.pass(310 * time.Millisecond) }},
		{name: "just still heard", node: "b",
			do: func(c *court) { c.beats(); c.quiet["b"] = true; c.pass(300 * time.Millisecond) }},
		{name: "gone", node: "b", want: "is not heard",
			do: func(c *court) { c.beats(); c.step(control.Lost{Node: "b", Refused: true}); c.quiet["b"] = true }},
		{name: "lost, but not refused", node: "b",
			do: func(c *court) { c.beats(); c.step(control.Lost{Node: "b"}); c.quiet["b"] = true }},
		{name: "gone, then lost again", node: "b", want: "is not heard",
			do: func(c *court) {
				c.beats()
				c.step(control.Lost{Node: "b", Refused: true})
				c.step(control.Lost{Node: "b"})
				c.quiet["b"] = true
			}},
		{name: "released it, and its next beat is not here yet", node: "b",
			do: func(c *court) {
				c.hold("b")
				said := c.says["b"]
				c.release(lease.CauseExited)
				c.says["b"] = said
				c.quiet["b"] = true
			}},
		{name: "released it because it is leaving", node: "b", want: "is active, not standby",
			do: func(c *court) {
				c.hold("b")
				said := c.says["b"]
				c.release(lease.CauseShutdown)
				c.says["b"] = said
				c.quiet["b"] = true
			}},
		{name: "released it in an earlier life", node: "b", want: "is boot, not standby",
			do: func(c *court) {
				c.hold("b")
				c.change("b", func(r *control.Report) { r.State, r.Token = control.Boot, tokenOf("z") })
				c.step(control.Beat{From: "b", Said: c.says["b"]})
				said := c.says["b"]
				c.release(lease.CauseExited)
				c.says["b"] = said
				c.quiet["b"] = true
			}},
		{name: "gone and back", node: "b", do: func(c *court) { c.step(control.Lost{Node: "b", Refused: true}) }},
		{name: "goodbye", node: "b", want: "is leaving",
			do: func(c *court) { c.change("b", func(r *control.Report) { r.Goodbye = true }) }},
		{name: "boot", node: "b", want: "is boot, not standby",
			do: func(c *court) { c.change("b", func(r *control.Report) { r.State = control.Boot }) }},
		{name: "stopping", node: "b", want: "is stopping, not standby",
			do: func(c *court) { c.change("b", func(r *control.Report) { r.State = control.Stopping }) }},
		{name: "blind", node: "b", want: "cannot reach the metastore",
			do: func(c *court) { c.change("b", func(r *control.Report) { r.Healthy = false }) }},
		{name: "one-way link", node: "b", want: "does not hear the leader",
			do: func(c *court) { c.change("b", func(r *control.Report) { r.Hears = []lease.NodeID{"a", "c"} }) }},
		{name: "the leader itself need not hear itself", node: "b",
			config: func(cfg *control.GranterConfig) { cfg.Self = "b" },
			do:     func(c *court) { c.change("b", func(r *control.Report) { r.Hears = nil }) }},
		{name: "follows what nobody holds", node: "b", want: "does not hold etl", config: follow},
		{name: "follows what another holds", node: "b", want: "does not hold etl", config: follow,
			do: func(c *court) {
				c.step(control.Lease{Job: lease.Job{Name: "etl", Phase: lease.Granted, Epoch: 1, Holder: "a"}})
			}},
		{name: "follows what was released", node: "b", want: "does not hold etl", config: follow,
			do: func(c *court) {
				c.step(control.Lease{Job: lease.Job{Name: "etl", Phase: lease.Released, Epoch: 1, Holder: "b"}})
			}},
		{name: "follows what it holds", node: "b", config: follow,
			do: func(c *court) {
				c.step(control.Lease{Job: lease.Job{Name: "etl", Phase: lease.Granted, Epoch: 1, Holder: "b"}})
			}},
		{name: "holds it and is suspected", node: "b", want: "holds the job and is suspected",
			do: func(c *court) { c.hold("b"); c.change("b", func(r *control.Report) { r.State = control.Standby }) }},
		{name: "held it in an earlier life", node: "b",
			do: func(c *court) {
				c.hold("b")
				c.change("b", func(r *control.Report) { r.State, r.Token = control.Standby, tokenOf("z") })
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change := func(*control.GranterConfig) {}
			if tt.config != nil {
				change = tt.config
			}
			c := newCourt(t, change)
			if tt.do != nil {
				tt.do(c)
			}
			c.beats()
			if got := c.g.Unfit(tt.node); got != tt.want {
				t.Errorf("Unfit(%s) = %q, want %q", tt.node, got, tt.want)
			}
		})
	}
}

// TestOrder shows what each criterion is stronger than: wish, priority, warm, home, name.
func TestOrder(t *testing.T) {
	prefer := func(id lease.NodeID) func(*control.GranterConfig) {
		return func(cfg *control.GranterConfig) { cfg.Priority = map[lease.NodeID]int{id: 1} }
	}
	none := func(*control.GranterConfig) {}
	warm := func(c *court, ids ...lease.NodeID) {
		for _, id := range ids {
			c.change(id, func(r *control.Report) { r.Warm = true })
		}
	}
	// lived lets b have the job and lose it, once for each cause, perhaps after an operator's wish.
	lived := func(c *court, move *lease.Move, causes ...lease.Cause) []control.Effect {
		var effects []control.Effect
		for _, cause := range causes {
			c.beats()
			c.hold("b")
			if move != nil {
				job, _ := c.log.Job(jobName)
				c.apply(lease.Command{Ask: &lease.Ask{Job: jobName, Epoch: job.Epoch, Move: *move}})
			}
			effects = c.release(cause)
		}
		return effects
	}
	tests := []struct {
		name   string
		config func(*control.GranterConfig)
		do     func(*court) []control.Effect
		want   string
	}{
		{"name", none, func(c *court) []control.Effect { return c.pass(time.Second) }, "grant 1 after 0 to a because first"},
		{"warm over name", none, func(c *court) []control.Effect { warm(c, "b", "c"); return c.pass(time.Second) },
			"grant 1 after 0 to b because first"},
		{"priority over warm", prefer("c"), func(c *court) []control.Effect { warm(c, "b"); return c.pass(time.Second) },
			"grant 1 after 0 to c because first"},
		{"home over name, after a first failed life", none,
			func(c *court) []control.Effect { return lived(c, nil, lease.CauseExited) }, "grant 2 after 1 to b because restart"},
		{"warm over home", none,
			func(c *court) []control.Effect { warm(c, "c"); return lived(c, nil, lease.CauseExited) }, "grant 2 after 1 to c because restart"},
		{"no home without a failure", none,
			func(c *court) []control.Effect { return lived(c, nil, lease.CauseFenced) }, "grant 2 after 1 to a because restart"},
		{"any other than the last holder", prefer("b"),
			func(c *court) []control.Effect { return lived(c, &lease.Move{}, lease.CauseSwitchover) },
			"grant 2 after 1 to a because switchover"},
		{"wish over priority", prefer("a"),
			func(c *court) []control.Effect { return lived(c, &lease.Move{To: "c"}, lease.CauseSwitchover) },
			"grant 2 after 1 to c because switchover"},
		{"wish cannot be had", none,
			func(c *court) []control.Effect {
				c.quiet["c"] = true
				return lived(c, &lease.Move{To: "c"}, lease.CauseSwitchover)
			},
			"grant 2 after 1 to a because switchover"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCourt(t, tt.config)
			want(t, tt.do(c), tt.want)
		})
	}
	t.Run("home is last after a second failed life", func(t *testing.T) {
		c := newCourt(t, none)
		c.quiet["b"], c.quiet["c"] = true, true
		c.beats()
		c.hold("a")
		c.release(lease.CauseExited)
		c.hold("a")
		c.quiet["b"] = false
		c.beats()
		c.release(lease.CauseHung)
		want(t, c.pass(2*time.Second), "grant 3 after 2 to b because restart")
	})
}

func TestSuspicion(t *testing.T) {
	follow := func(cfg *control.GranterConfig) { cfg.Follow = "etl" }
	etlOn := func(c *court, id lease.NodeID) []control.Effect {
		return c.step(control.Lease{Job: lease.Job{Name: "etl", Phase: lease.Granted, Epoch: 1, Holder: id}})
	}
	ask := func(now bool) func(*court) []control.Effect {
		return func(c *court) []control.Effect {
			return c.apply(lease.Command{Ask: &lease.Ask{Job: jobName, Epoch: 1, Move: lease.Move{To: "c", Now: now}}})
		}
	}
	tests := []struct {
		name string
		do   func(*court) []control.Effect
		want string
	}{
		{"well", func(c *court) []control.Effect { return c.pass(5 * time.Second) }, "nothing"},
		{"gone", func(c *court) []control.Effect { return c.step(control.Lost{Node: "a", Refused: true}) }, "grant 2 after 1 to b because gone"},
		{"connection closed", func(c *court) []control.Effect {
			return append(c.step(control.Lost{Node: "a"}), c.pass(5*time.Second)...)
		}, "nothing"},
		{"silent", func(c *court) []control.Effect { c.quiet["a"] = true; return c.pass(time.Second) }, "grant 2 after 1 to b because silent"},
		{"reborn", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Token, r.State = tokenOf("z"), control.Boot })
			return c.beats()
		}, "grant 2 after 1 to b because reborn"},
		{"leaving, not yet left", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Goodbye, r.State = true, control.Stopping })
			return c.pass(5 * time.Second)
		}, "nothing"},
		{"left", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Goodbye, r.State = true, control.Left })
			return c.beats()
		}, "grant 2 after 1 to b because goodbye"},
		{"blind for a moment", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Healthy = false })
			effects := c.pass(550 * time.Millisecond)
			c.change("a", func(r *control.Report) { r.Healthy = true })
			return append(effects, c.pass(5*time.Second)...)
		}, "nothing"},
		{"blind", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Healthy = false })
			return c.pass(time.Second)
		}, "grant 2 after 1 to b because blind"},
		{"everybody is blind", func(c *court) []control.Effect {
			for _, id := range ids {
				c.change(id, func(r *control.Report) { r.Healthy = false })
			}
			return c.pass(5 * time.Second)
		}, "nothing"},
		{"blind and stopping", func(c *court) []control.Effect {
			c.change("a", func(r *control.Report) { r.Healthy, r.State = false, control.Stopping })
			return c.pass(5 * time.Second)
		}, "nothing"},
		{"an operator asks for a failover", ask(true), "grant 2 after 1 to c because failover"},
		{"an operator asks for a switchover, which the holder answers", ask(false), "nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCourt(t)
			c.beats()
			c.hold("a")
			effects := tt.do(c)
			want(t, effects, tt.want)
			s := c.g.Suspicion()
			if len(effects) > 0 && (s.Cause != effects[0].Command.Grant.Cause || s.Detail == "") {
				t.Errorf("suspicion %+v does not explain %s", s, proposal(effects))
			}
		})
	}
	t.Run("what it follows moved", func(t *testing.T) {
		c := newCourt(t, follow)
		etlOn(c, "a")
		c.beats()
		c.hold("a")
		want(t, c.pass(time.Second), "nothing")
		want(t, etlOn(c, "b"), "grant 2 after 1 to b because follow")
		if s := c.g.Suspicion(); s.Cause != lease.CauseFollow || s.Detail != "etl is on b" {
			t.Errorf("suspicion = %+v, want that etl is on b", s)
		}
	})
}

// answered lets the granter's own proposal be agreed on, as the log does it: first the news, then the answer.
func (c *court) answered(effects []control.Effect) []control.Effect {
	c.t.Helper()
	if len(effects) != 1 {
		c.t.Fatalf("proposed %s, want one proposal", proposal(effects))
	}
	command := *effects[0].Command
	if g := command.Grant; g != nil {
		c.change(g.Node, func(r *control.Report) { r.State, r.Epoch = control.Active, g.Next })
	}
	effects = c.apply(command)
	return append(effects, c.step(control.Proposed{})...)
}

func TestFirstGrantWaits(t *testing.T) {
	c := newCourt(t)
	c.beats()
	want(t, c.pass(600*time.Millisecond), "nothing")
	want(t, c.pass(10*time.Millisecond), "grant 1 after 0 to a because first")
}

func TestOnlyTheLeaderDecides(t *testing.T) {
	c := newCourt(t)
	c.step(control.Leading{On: false})
	want(t, c.pass(5*time.Second), "nothing")
	c.quiet["a"] = true
	c.step(control.Leading{On: true})
	want(t, c.pass(600*time.Millisecond), "nothing") // it is only now that it leads
	want(t, c.pass(10*time.Millisecond), "grant 1 after 0 to b because first")
	if s := c.g.Suspicion(); s != (control.Suspicion{}) {
		t.Errorf("suspects %+v of nobody", s)
	}
}

// TestANewLeaderHasHeardNobodyYet: that it was not told of the holder before it led is not the holder's silence.
func TestANewLeaderHasHeardNobodyYet(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	c.step(control.Leading{On: false})
	c.quiet["a"] = true
	want(t, c.pass(5*time.Second), "nothing")
	if s := c.g.Suspicion(); s != (control.Suspicion{}) {
		t.Errorf("a follower suspects: %+v", s)
	}
	want(t, c.step(control.Leading{On: true}), "nothing")
	want(t, c.pass(300*time.Millisecond), "nothing")
	want(t, c.pass(10*time.Millisecond), "grant 2 after 1 to b because silent")
}

func TestOneProposalAtATime(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	want(t, c.step(control.Lost{Node: "a", Refused: true}), "grant 2 after 1 to b because gone")
	c.quiet["a"] = true
	want(t, c.pass(5*time.Second), "nothing") // it is out
	want(t, c.step(control.Proposed{}), "grant 2 after 1 to b because gone")
	want(t, c.step(control.Tick{}), "nothing")
	c.step(control.Leading{On: false})
	want(t, c.step(control.Leading{On: true}), "grant 2 after 1 to b because gone") // who asked then, may never hear
}

// TestNextEpoch is beyond whatever anyone has seen.
func TestNextEpoch(t *testing.T) {
	tests := []struct {
		name string
		do   func(*court)
		want string
	}{
		{"a role without a row", func(c *court) {
			c.change("b", func(r *control.Report) { r.HighestRole = 9 })
		}, "grant 10 after 0 to a because first"},
		{"the highest of the roles", func(c *court) {
			c.change("a", func(r *control.Report) { r.HighestRole = 3 })
			c.change("b", func(r *control.Report) { r.HighestRole = 9 })
			c.change("c", func(r *control.Report) { r.HighestRole = 7 })
		}, "grant 10 after 0 to a because first"},
		{"a row that belongs to nobody", func(c *court) {
			c.change("c", func(r *control.Report) { r.Row = control.Row{Epoch: 4} })
		}, "grant 5 after 0 to a because first"},
		{"a role above the row", func(c *court) {
			c.change("c", func(r *control.Report) { r.Row, r.HighestRole = control.Row{Epoch: 4}, 6 })
		}, "grant 7 after 0 to a because first"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCourt(t)
			tt.do(c)
			want(t, c.pass(time.Second), tt.want)
		})
	}
}

// TestObserve: a fence row beyond the log was taken without quorum, or the log was lost; the log catches up first.
func TestObserve(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	c.change("c", func(r *control.Report) { r.Row = control.Row{Epoch: 4, Node: "b", Token: tokenOf("b")} })
	c.change("b", func(r *control.Report) {
		r.Row, r.State, r.Epoch = control.Row{Epoch: 6, Node: "b", Token: tokenOf("b")}, control.Active, 6
	})
	want(t, c.step(control.Beat{From: "b", Said: c.says["b"]}), "observe 6 of b")
	want(t, c.beats(), "nothing")
	want(t, c.step(control.Proposed{}), "observe 6 of b") // not 4, and not lost for good
	job, _ := c.log.Job(jobName)
	job.Epoch, job.Holder, job.Token = 6, "b", tokenOf("b")
	want(t, c.step(control.Lease{Job: job}), "nothing")
	want(t, c.step(control.Proposed{}), "nothing") // b is well
	want(t, c.pass(5*time.Second), "nothing")
}

// TestSilenceIsDamped: each failover by silence beyond the first makes the next one slower, up to eight times, until
// ten minutes have passed.
func TestSilenceIsDamped(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	var took []time.Duration
	fail := func() {
		job, _ := c.log.Job(jobName)
		c.beats()
		c.quiet[job.Holder] = true
		effects := c.pass(10 * time.Second)
		took = append(took, effects[0].Command.Grant.Detect.Took.Round(300*time.Millisecond))
		want(t, c.answered(effects), "nothing")
		c.quiet[job.Holder] = false
		c.change(job.Holder, func(r *control.Report) { r.State = control.Standby })
		c.beats()
	}
	for range 7 {
		fail()
	}
	c.pass(11 * time.Minute)
	fail()
	got, ms := fmt.Sprint(took), time.Millisecond
	if want := fmt.Sprint([]time.Duration{300 * ms, 300 * ms, 600 * ms, 1200 * ms, 2400 * ms, 2400 * ms, 2400 * ms, 300 * ms}); got != want {
		t.Errorf("detection took %s, want %s", got, want)
	}
}

// TestRestartsBackOff: the first failed life is replaced at once, later ones after a doubling wait.
func TestRestartsBackOff(t *testing.T) {
	c := newCourt(t)
	c.quiet["b"], c.quiet["c"] = true, true
	c.beats()
	c.hold("a")
	var waits []time.Duration
	fail := func(cause lease.Cause) {
		from := c.now
		effects := c.release(cause)
		if len(effects) == 0 {
			effects = c.pass(time.Minute)
		}
		waits = append(waits, c.now.Since(from).Round(100*time.Millisecond))
		want(t, c.answered(effects), "nothing")
	}
	for range 3 {
		for _, cause := range []lease.Cause{lease.CauseExited, lease.CauseHung, lease.CauseStartFailed} {
			fail(cause)
		}
	}
	fail(lease.CauseFenced) // not the job's fault; still it waits for the failures before
	c.pass(11 * time.Minute)
	fail(lease.CauseExited)
	s := time.Second
	if got, want := fmt.Sprint(waits[:9]), fmt.Sprint([]time.Duration{0, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}); got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	if waits[10] != 0 {
		t.Errorf("ten calm minutes later the wait is %s, want none", waits[10])
	}
}

// TestAHolderThatWasNeverHeard is given the whole detection time by a leader that is new to everything.
func TestAHolderThatWasNeverHeard(t *testing.T) {
	c := newCourt(t)
	c.quiet["a"] = true
	c.beats()
	want(t, c.apply(lease.Command{Grant: &lease.Grant{Job: jobName, Next: 1, Node: "a", Token: tokenOf("a")}}), "nothing")
	want(t, c.pass(300*time.Millisecond), "nothing")
	want(t, c.pass(10*time.Millisecond), "grant 2 after 1 to b because silent")
}
