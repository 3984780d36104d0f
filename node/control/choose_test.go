package control_test

import (
	"slices"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// unfits name every reason why a node cannot be granted the job.
var unfits = []struct {
	name, want string
	config     func(*control.GranterConfig)
	node       lease.NodeID
	do         func(*court)
}{
	{name: "well", node: "b"},
	{name: "not a member", node: "z", want: "not a member"},
	{name: "witness", node: "t", want: "is a witness"},
	{name: "about to be removed", node: "b", want: "is leaving the cluster", do: func(c *court) {
		c.log.Apply(lease.Command{Retire: &lease.Retire{Node: "b"}})
		c.step(control.Members{Nodes: slices.Clone(c.log.Nodes)})
	}},
	{name: "removed", node: "b", want: "not a member", do: func(c *court) { c.members("a", "c", "t") }},
	{name: "joined", node: "z", do: func(c *court) {
		c.members("a", "b", "c", "t", "z")
		c.says["z"] = control.Report{Token: tokenOf("z"), State: control.Standby, Healthy: true, Hears: ids}
		c.step(control.Beat{From: "z", Said: c.says["z"]})
	}},
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
	{name: "released it because it is leaving", node: "b", want: "is leaving",
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
	{name: "full disk", node: "b", want: "has a disk that takes no writes",
		do: func(c *court) { c.change("b", func(r *control.Report) { r.Unwritable = true }) }},
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

func follow(cfg *control.GranterConfig) { cfg.Follow = "etl" }

func TestUnfit(t *testing.T) {
	for _, tt := range unfits {
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

func none(*control.GranterConfig) {}

func prefer(id lease.NodeID) func(*control.GranterConfig) {
	return func(cfg *control.GranterConfig) { cfg.Priority = map[lease.NodeID]int{id: 1} }
}

func (c *court) warm(ids ...lease.NodeID) {
	for _, id := range ids {
		c.change(id, func(r *control.Report) { r.Warm = true })
	}
}

// lived lets b have the job and lose it, once for each cause, perhaps after an operator's wish.
func (c *court) lived(move *lease.Move, causes ...lease.Cause) []control.Effect {
	c.t.Helper()
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

// orders show what each criterion is stronger than: wish, priority, warm, home, name.
var orders = []struct {
	name   string
	config func(*control.GranterConfig)
	do     func(*court) []control.Effect
	want   string
}{
	{"name", none, func(c *court) []control.Effect { return c.pass(time.Second) }, "grant 1 after 0 to a because first"},
	{"warm over name", none, func(c *court) []control.Effect { c.warm("b", "c"); return c.pass(time.Second) },
		"grant 1 after 0 to b because first"},
	{"priority over warm", prefer("c"), func(c *court) []control.Effect { c.warm("b"); return c.pass(time.Second) },
		"grant 1 after 0 to c because first"},
	{"home over name, after a first failed life", none,
		func(c *court) []control.Effect { return c.lived(nil, lease.CauseExited) }, "grant 2 after 1 to b because restart"},
	{"warm over home", none,
		func(c *court) []control.Effect { c.warm("c"); return c.lived(nil, lease.CauseExited) }, "grant 2 after 1 to c because restart"},
	{"no home without a failure", none,
		func(c *court) []control.Effect { return c.lived(nil, lease.CauseFenced) }, "grant 2 after 1 to a because restart"},
	{"any other than the last holder", prefer("b"),
		func(c *court) []control.Effect { return c.lived(&lease.Move{}, lease.CauseSwitchover) },
		"grant 2 after 1 to a because switchover"},
	{"wish over priority", prefer("a"),
		func(c *court) []control.Effect { return c.lived(&lease.Move{To: "c"}, lease.CauseSwitchover) },
		"grant 2 after 1 to c because switchover"},
	{"wish cannot be had", none,
		func(c *court) []control.Effect {
			c.quiet["c"] = true
			return c.lived(&lease.Move{To: "c"}, lease.CauseSwitchover)
		},
		"grant 2 after 1 to a because switchover"},
}

func TestOrder(t *testing.T) {
	for _, tt := range orders {
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

// suspicions begin with a being active and well, and end with what the leader wants.
var suspicions = []struct {
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
	{"an operator asks for a failover", askFor(true), "grant 2 after 1 to c because failover"},
	{"an operator asks for a switchover, which the holder answers", askFor(false), "nothing"},
}

func askFor(now bool) func(*court) []control.Effect {
	return func(c *court) []control.Effect {
		return c.apply(lease.Command{Ask: &lease.Ask{Job: jobName, Epoch: 1, Move: lease.Move{To: "c", Now: now}}})
	}
}

func TestSuspicion(t *testing.T) {
	for _, tt := range suspicions {
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
		etlOn := func(c *court, id lease.NodeID) []control.Effect {
			return c.step(control.Lease{Job: lease.Job{Name: "etl", Phase: lease.Granted, Epoch: 1, Holder: id}})
		}
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
