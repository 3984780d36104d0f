package raftstore

import (
	"errors"
	"slices"
	"testing"
)

// knows waits until every running node knows these voters.
func (c *cluster) knows(want ...string) {
	c.t.Helper()
	c.until("agreement on who the members are", func() bool {
		for _, m := range c.running() {
			if got := slices.Sorted(slices.Values(names(m.store.Status().Members, false))); !slices.Equal(got, want) {
				return false
			}
		}
		return true
	})
}

// TestALifeBeginsWithItsMembers has one that joined in a life before, and so says Join, among the founders of the next one. From its
// beginning who belongs to it is in the log, whatever a configuration says later.
func TestALifeBeginsWithItsMembers(t *testing.T) {
	c := newCluster(t, nil)
	c.members[2].cfg.Join = true
	b := begun()
	c.found(b, c.members...)
	c.startAll()
	c.propose(c.leader(), "one")
	for _, m := range c.members {
		c.halt(m)
		m.cfg.Peers = slices.DeleteFunc(slices.Clone(m.cfg.Peers), func(p Peer) bool { return p.Name != m.peer().Name && p.Name != "a" })
	}
	c.startAll()
	c.propose(c.leader(), "two")
	c.agree("before", "one", "two")
	c.knows("a", "b", "t")
	for _, m := range c.members {
		if len(m.watch.rosters) == 0 || m.store.Life() != b.Life {
			t.Errorf("node %s: life %s, told %v", m.peer().Name, m.store.Life(), m.watch.rosters)
		}
	}
}

// TestANodeJoinsALaterLife: what it knows of lives it has from those that it joins, also when it waits for them first.
func TestANodeJoinsALaterLife(t *testing.T) {
	c := newCluster(t, nil)
	b := begun()
	c.found(b, c.members...)
	c.startAll()
	leader := c.leader()
	c.propose(leader, "one")
	fresh := c.newcomer("u")
	c.start(fresh)
	c.until("refusal", func() bool { return refusals(leader, "message") > 0 })
	c.add(fresh)
	c.votes(fresh)
	c.agree("before", "one")
	c.halt(fresh)
	c.start(fresh)
	c.propose(fresh, "two")
	c.agree("before", "one", "two")
	if got := fresh.store.Life(); got != b.Life {
		t.Errorf("it is of life %s, want %s", got, b.Life)
	}
	c.knows("a", "b", "t", "u")
}

// TestSalvageAfterAChange reads directories of a cluster whose members changed, and begins a life with what is there: with those that
// the configuration names then, one that was removed in the life before among them.
func TestSalvageAfterAChange(t *testing.T) {
	for _, test := range []struct {
		name  string
		every uint64
	}{{"from the log", 10_000}, {"from a snapshot", 2}} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, func(cfg *Config) { cfg.SnapshotEvery = test.every })
			c.startAll()
			c.propose(c.leader(), "one")
			fresh, gone := c.newcomer("u"), c.named("t")
			c.start(fresh)
			c.add(fresh)
			c.votes(fresh)
			c.remove(gone)
			c.until("farewell", func() bool { return gone.watch.farewell() != "" })
			all := []string{"one", "two", "three", "four", "five"}
			for _, command := range all[1:] {
				c.propose(fresh, command)
			}
			c.halt(gone)
			c.agree(all...)
			c.stopAll()
			if _, err := Salvage(gone.cfg); !errors.Is(err, ErrRemoved) {
				t.Errorf("of a node that was removed: %v", err)
			}
			last := c.salvaged(c.named("a"), all)
			if got := c.salvaged(fresh, all); got.Last < last.Last {
				t.Errorf("the one that joined has up to %d, the other up to %d", got.Last, last.Last)
			}
			c.goesOn(last, all)
		})
	}
}

// salvaged reads a directory.
func (c *cluster) salvaged(m *member, all []string) Remains {
	c.t.Helper()
	r, err := Salvage(m.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	state := &list{}
	if len(r.Snapshot) > 0 {
		if err := state.Restore(r.Snapshot); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, command := range r.Commands {
		state.Apply(command.Index, command.Data)
	}
	if got := names(r.Members, false); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a", "b", "u"}) || !slices.Equal(state.all(), all) {
		c.t.Errorf("node %s: members %q, commands %q", m.peer().Name, got, state.all())
	}
	return r
}

// goesOn begins a life with what was salvaged and the founders.
func (c *cluster) goesOn(r Remains, all []string) {
	c.t.Helper()
	founders := []*member{c.named("a"), c.named("b"), c.named("t")}
	b := begun()
	b.Index, b.Term = r.Last+1, r.Term+1
	c.found(b, founders...)
	for _, m := range founders {
		c.start(m)
	}
	c.propose(c.leader(), "six")
	c.agree("before", "six")
	c.knows("a", "b", "t")
	if got := c.named("t").machine.all(); slices.Contains(got, all[0]) {
		c.t.Errorf("the new life has %q", got)
	}
}

// TestSalvageOfWhoWaits: nobody has added it, and nothing is there.
func TestSalvageOfWhoWaits(t *testing.T) {
	c := newCluster(t, nil)
	fresh := c.newcomer("u")
	c.start(fresh)
	c.until("start", func() bool { return fresh.store.Addr() != "" })
	c.halt(fresh)
	if r, err := Salvage(fresh.cfg); err != nil || r.Last != 0 || len(r.Members.Members) != 0 || r.Snapshot != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestFoundRefusesMembers that no log could have.
func TestFoundRefusesMembers(t *testing.T) {
	c := newCluster(t, nil)
	m := c.members[0]
	m.cfg.Peers = append(slices.Clone(m.cfg.Peers), Peer{ID: 9, Name: "far too long a name " + string(make([]byte, 64)), Addr: "h:1"})
	if _, err := Found(m.cfg, begun(), true); err == nil {
		t.Error("no error")
	}
}
