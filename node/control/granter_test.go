package control_test

import (
	"fmt"
	"slices"
	"strings"
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

// members has the log agree on other members.
func (c *court) members(names ...lease.NodeID) {
	var nodes []lease.Node
	for _, id := range names {
		nodes = append(nodes, lease.Node{ID: id, Witness: id == "t"})
	}
	c.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{jobName, "etl"}}})
	c.step(control.Members{Nodes: slices.Clone(c.log.Nodes)})
}

// TestWhoWasRemovedIsForgotten: what it was heard to say before it was removed is nothing to go by when it comes back.
func TestWhoWasRemovedIsForgotten(t *testing.T) {
	c := newCourt(t)
	c.beats()
	if why := c.g.Unfit("b"); why != "" {
		t.Fatalf("b %s", why)
	}
	c.members("a", "c", "t")
	c.members("a", "b", "c", "t")
	if why := c.g.Unfit("b"); why != "is not heard" {
		t.Errorf("b %q, want that it is not heard", why)
	}
}

// TestRemovedHolderIsSuspected: a holder that was removed all the same is silent from there, and the job goes to another.
func TestRemovedHolderIsSuspected(t *testing.T) {
	c := newCourt(t)
	c.hold("b")
	c.members("a", "c", "t")
	c.quiet["b"] = true
	effects := c.pass(5 * time.Second)
	if len(effects) != 1 || effects[0].Command.Grant == nil {
		t.Fatalf("proposed: %s", proposal(effects))
	}
	if g := effects[0].Command.Grant; g.Cause != lease.CauseSilent || g.Node == "b" {
		t.Errorf("proposed: %+v", g)
	}
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
	case c.Ask != nil && c.Ask.Cancel:
		return "cancel"
	case c.Ask != nil:
		return fmt.Sprintf("ask to %s", c.Ask.Move.To)
	case c.Hold != nil && c.Hold.Pause == nil:
		return "resume"
	}
	return fmt.Sprintf("%+v", effects[0].Command)
}

func want(t *testing.T, effects []control.Effect, line string) {
	t.Helper()
	if got := proposal(effects); got != line {
		t.Errorf("proposed %s, want %s", got, line)
	}
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
		if why := c.g.Waits(); (len(effects) == 0) != strings.Contains(why, "granted again in") {
			t.Errorf("after the failure number %d the granter waits because %q", len(waits)+1, why)
		}
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

// TestAHolderThatWasNeverHeard is given the time to find a leader that is new to everything.
func TestAHolderThatWasNeverHeard(t *testing.T) {
	c := newCourt(t)
	c.quiet["a"] = true
	c.beats()
	want(t, c.apply(lease.Command{Grant: &lease.Grant{Job: jobName, Next: 1, Node: "a", Token: tokenOf("a")}}), "nothing")
	want(t, c.pass(2*time.Second), "nothing")
	want(t, c.pass(10*time.Millisecond), "grant 2 after 1 to b because silent")
}
