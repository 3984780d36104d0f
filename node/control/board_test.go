package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// crowd is the granters of several jobs on the witness t, which leads, over the candidates a and b. What they propose is agreed on
// when a test says so.
type crowd struct {
	t        *testing.T
	jobs     []lease.JobName
	granters map[lease.JobName]*control.Granter
	now      control.Instant
	log      lease.State
	quiet    map[lease.NodeID]bool
	warm     map[lease.NodeID]bool
	proposed []lease.Command
}

var crowdIDs = []lease.NodeID{"a", "b", "t"}

// newCrowd makes a job of each weight, j0, j1 and so on.
func newCrowd(t *testing.T, change func(lease.JobName, *control.GranterConfig), weights ...int) *crowd {
	t.Helper()
	c := &crowd{
		t: t, granters: map[lease.JobName]*control.Granter{}, now: control.Instant(time.Hour),
		quiet: map[lease.NodeID]bool{}, warm: map[lease.NodeID]bool{},
	}
	weigh := map[lease.JobName]int{}
	for i, weight := range weights {
		name := lease.JobName(fmt.Sprintf("j%d", i))
		c.jobs, weigh[name] = append(c.jobs, name), weight
	}
	board := control.NewBoard(weigh)
	for _, name := range c.jobs {
		cfg := control.GranterConfig{Job: name, Self: "t", Timing: control.DefaultTiming(), Board: board}
		if change != nil {
			change(name, &cfg)
		}
		c.granters[name] = control.NewGranter(cfg)
	}
	nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}
	c.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: c.jobs}})
	c.all(control.Members{Nodes: c.log.Nodes})
	c.all(control.Leading{On: true})
	return c
}

func (c *crowd) all(in control.Input) {
	for _, name := range c.jobs {
		c.step(name, in)
	}
}

func (c *crowd) step(name lease.JobName, in control.Input) {
	for _, e := range c.granters[name].Step(c.now, in) {
		c.proposed = append(c.proposed, *e.Command)
	}
}

// said is what a node says of a job: it does at once what the log wants of it.
func (c *crowd) said(id lease.NodeID, name lease.JobName) control.Report {
	r := control.Report{Token: tokenOf(id), State: control.Standby, Healthy: true, Hears: crowdIDs, Warm: c.warm[id]}
	if id == "t" {
		r.State = control.Witness
	}
	if job, _ := c.log.Job(name); job.HeldBy(id, r.Token) {
		r.State, r.Epoch = control.Active, job.Epoch
	}
	return r
}

func (c *crowd) beats() {
	for _, id := range crowdIDs {
		for _, name := range c.jobs {
			if !c.quiet[id] {
				c.step(name, control.Beat{From: id, Said: c.said(id, name)})
			}
		}
	}
}

// pass lets time go by, with beats.
func (c *crowd) pass(d time.Duration) {
	for end := c.now.Add(d); c.now < end; {
		c.now = c.now.Add(50 * time.Millisecond)
		c.all(control.Tick{})
		c.beats()
	}
}

// agree puts everything that was proposed to the log, in that order, and tells who proposed it.
func (c *crowd) agree() {
	c.t.Helper()
	all := c.proposed
	c.proposed = nil
	for _, command := range all {
		out := c.log.Apply(command)
		if !out.Accepted {
			c.t.Fatalf("refused: %s", out.Why)
		}
		c.tell(out.Job)
		c.step(out.Job, control.Proposed{})
	}
}

func (c *crowd) tell(name lease.JobName) {
	job, _ := c.log.Job(name)
	c.step(name, control.Lease{Job: job})
}

// grant has a job granted as by somebody else.
func (c *crowd) grant(name lease.JobName, to lease.NodeID) {
	c.t.Helper()
	job, _ := c.log.Job(name)
	out := c.log.Apply(lease.Command{Grant: &lease.Grant{
		Job: name, Expect: job.Epoch, Next: job.Epoch + 1, Node: to, Token: tokenOf(to), Cause: lease.CauseFirst,
	}})
	if !out.Accepted {
		c.t.Fatal(out.Why)
	}
	c.tell(name)
}

// fail ends a job's life.
func (c *crowd) fail(name lease.JobName) {
	c.t.Helper()
	job, _ := c.log.Job(name)
	c.log.Apply(lease.Command{Release: &lease.Release{Job: name, Epoch: job.Epoch, Token: job.Token, Cause: lease.CauseExited}})
	c.tell(name)
}

// places are the holders of all jobs, in the order of their names.
func (c *crowd) places() string {
	var at []string
	for _, name := range c.jobs {
		job, _ := c.log.Job(name)
		at = append(at, string(job.Holder))
	}
	return strings.Join(at, " ")
}

func (c *crowd) want(places string) {
	c.t.Helper()
	if got := c.places(); got != places {
		c.t.Errorf("the jobs are on %s, want %s", got, places)
	}
}

// TestJobsAreSpread: all are granted at one instant, before any of the grants is agreed on.
func TestJobsAreSpread(t *testing.T) {
	preferB := func(_ lease.JobName, cfg *control.GranterConfig) { cfg.Priority = map[lease.NodeID]int{"b": 1} }
	for _, tt := range []struct {
		name    string
		change  func(lease.JobName, *control.GranterConfig)
		warm    lease.NodeID
		weights []int
		want    string
	}{
		{"alike", nil, "", []int{1, 1, 1, 1, 1, 1}, "a b a b a b"},
		{"an odd number", nil, "", []int{1, 1, 1}, "a b a"},
		{"one outweighs five", nil, "", []int{5, 1, 1, 1, 1, 1}, "a b b b b b"},
		{"a heavy one comes late", nil, "", []int{1, 1, 9, 1, 1}, "a b a b b"},
		{"a follower weighs nothing", nil, "", []int{1, 0, 0, 1}, "a b b b"},
		{"priority over load", preferB, "", []int{1, 1, 1}, "b b b"},
		{"load over warm", nil, "b", []int{1, 1, 1, 1}, "b a b a"},
		{"no board", func(_ lease.JobName, cfg *control.GranterConfig) { cfg.Board = nil }, "", []int{1, 1, 1}, "a a a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCrowd(t, tt.change, tt.weights...)
			c.warm[tt.warm] = true
			c.pass(time.Second)
			c.agree()
			c.want(tt.want)
		})
	}
}

// TestAHostIsLostAndComesBack: the survivor has all, and keeps it.
func TestAHostIsLostAndComesBack(t *testing.T) {
	c := newCrowd(t, nil, 1, 1, 1, 1)
	c.pass(time.Second)
	c.agree()
	c.want("a b a b")
	c.quiet["b"] = true
	c.pass(time.Second)
	c.agree()
	c.want("a a a a")
	c.quiet["b"] = false
	c.pass(time.Minute)
	if len(c.proposed) > 0 {
		t.Errorf("b is back, and %s", proposal([]control.Effect{{Kind: control.Propose, Command: &c.proposed[0]}}))
	}
	// What has to move anyway goes to where there is room.
	job, _ := c.log.Job("j0")
	c.log.Apply(lease.Command{Ask: &lease.Ask{Job: "j0", Epoch: job.Epoch, Move: lease.Move{Now: true}}})
	c.tell("j0")
	c.agree()
	c.want("b a a a")
}

// TestAFailedLifeIsNoTimeToSpread: after the first the job stays where it is, though the other node is empty; after the second it
// goes elsewhere, though that is full.
func TestAFailedLifeIsNoTimeToSpread(t *testing.T) {
	c := newCrowd(t, nil, 1, 1, 1, 1)
	c.beats()
	for _, name := range c.jobs {
		c.grant(name, "b")
	}
	c.beats()
	c.fail("j0")
	c.pass(100 * time.Millisecond)
	c.agree()
	c.want("b b b b")

	c.grant("j0", "a")
	c.beats()
	c.grant("j1", "a")
	c.grant("j2", "a")
	c.grant("j3", "a")
	c.grant("j0", "b")
	c.beats()
	c.fail("j0")
	c.pass(5 * time.Second)
	c.agree()
	c.want("a a a a")
}

// TestAProposalThatFailedWeighsNothing, and neither does one of a leadership that is over.
func TestAProposalThatFailedWeighsNothing(t *testing.T) {
	for name, forget := range map[string]func(*crowd){
		"not agreed on":      func(c *crowd) { c.step("j0", control.Proposed{}) },
		"no leader any more": func(c *crowd) { c.step("j0", control.Leading{On: false}) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, nil, 9, 1)
			c.step("j1", control.Leading{On: false})
			c.pass(time.Second)
			if len(c.proposed) != 1 || c.proposed[0].Grant.Node != "a" {
				t.Fatalf("proposed: %+v", c.proposed)
			}
			c.proposed = nil
			for _, id := range []lease.NodeID{"a", "b"} { // nobody is there for j0 any more
				said := c.said(id, "j0")
				said.Goodbye = true
				c.step("j0", control.Beat{From: id, Said: said})
			}
			forget(c)
			c.step("j1", control.Leading{On: true})
			c.jobs = c.jobs[1:] // j0 hears nothing more
			c.pass(time.Second)
			c.agree()
			if job, _ := c.log.Job("j1"); job.Holder != "a" {
				t.Errorf("j1 is on %q, want a", job.Holder)
			}
		})
	}
}

// TestOthersProposalsCount until they are answered, also when the job's old state is told once more meanwhile.
func TestOthersProposalsCount(t *testing.T) {
	c := newCrowd(t, nil, 1, 1)
	c.step("j1", control.Leading{On: false})
	c.pass(time.Second)
	c.tell("j0") // vacant still
	c.step("j1", control.Leading{On: true})
	c.pass(time.Second)
	c.agree()
	c.want("a b")
}

// TestAJobIsNoBurdenToItself: a daemon that has restarted is as good as the other for the job that it had.
func TestAJobIsNoBurdenToItself(t *testing.T) {
	c := newCrowd(t, nil, 5)
	c.beats()
	c.log.Apply(lease.Command{Grant: &lease.Grant{Job: "j0", Next: 1, Node: "a", Token: tokenOf("z"), Cause: lease.CauseFirst}})
	c.tell("j0")
	c.agree()
	if job, _ := c.log.Job("j0"); job.Epoch != 2 || job.Holder != "a" || job.Token != tokenOf("a") {
		t.Errorf("job %+v, want epoch 2 on a", job)
	}
}

// TestWhatNobodyRunsWeighsNothing: a job that was stopped is no burden to the node that had it.
func TestWhatNobodyRunsWeighsNothing(t *testing.T) {
	c := newCrowd(t, nil, 9, 1)
	c.beats()
	c.grant("j0", "a")
	c.log.Apply(lease.Command{Hold: &lease.Hold{Job: "j0", Cause: lease.CauseOperator, Pause: &lease.Pause{Level: lease.PauseStopped}}})
	job, _ := c.log.Job("j0")
	c.log.Apply(lease.Command{Release: &lease.Release{Job: "j0", Epoch: 1, Token: job.Token, Cause: lease.CausePaused}})
	c.tell("j0")
	c.pass(time.Second)
	c.agree()
	c.want("a a")
}
