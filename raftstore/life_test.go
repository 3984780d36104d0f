package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// begun is a life in which the list holds one item.
func begun() Beginning {
	return Beginning{Life: Life{}.Next(), Index: 40, Term: 9, State: []byte(`["before"]`)}
}

// found makes the directories of members for the beginning of a life.
func (c *cluster) found(b Beginning, members ...*member) {
	c.t.Helper()
	for _, m := range members {
		if _, err := Found(m.cfg, b, true); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestALifeBeginsWithItsState: every node of the new life has what it began with, whichever leads, and after a restart.
func TestALifeBeginsWithItsState(t *testing.T) {
	c := newCluster(t, nil)
	b := begun()
	c.found(b, c.members...)
	c.startAll()
	c.propose(c.leader(), "one")
	c.agree("before", "one")
	for _, m := range c.members {
		status := m.store.Status()
		if status.Life != b.Life || status.Term <= b.Term || status.Applied <= b.Index || status.Doubt != "" {
			t.Errorf("node %s: %+v", m.cfg.name(m.cfg.Self), status)
		}
	}
	c.stopAll()
	c.startAll()
	c.propose(c.leader(), "two")
	c.agree("before", "one", "two")
}

// TestANodeWithANewDiskFollowsTheLifeOfTheOthers: it is told the life, gets the state, and is of that life after a restart.
func TestANodeWithANewDiskFollowsTheLifeOfTheOthers(t *testing.T) {
	c := newCluster(t, nil)
	b := begun()
	c.found(b, c.members...)
	c.startAll()
	c.propose(c.leader(), "one")
	wiped := c.follower(c.leader())
	c.halt(wiped)
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(wiped)
	c.until("the wiped node to vote again", func() bool { return wiped.store.Status().Doubt == "" && wiped.store.Status().Applied > b.Index })
	c.agree("before", "one")
	c.halt(wiped)
	c.start(wiped)
	c.until("the wiped node to be back", func() bool { return wiped.store.Status().Leader != 0 })
	if got := wiped.store.Life(); got != b.Life {
		t.Errorf("it is of life %s, want %s", got, b.Life)
	}
}

// TestTheLifeBeforeIsRefused: who comes back from a life that is over is not heard, in either direction, and learns nothing.
func TestTheLifeBeforeIsRefused(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "old")
	c.agree("old")
	c.stopAll()
	old, renewed := c.members[0], c.members[1:]
	b := begun()
	c.found(b, renewed...)
	c.startAll()
	c.until("a leader of the new life", func() bool { return renewed[0].store.Status().Leader != 0 })
	c.propose(renewed[0], "new")
	c.until("refusals of the old node", func() bool {
		for _, m := range renewed {
			if len(m.store.Status().Refused) == 0 {
				return false
			}
		}
		return len(old.store.Status().Refused) > 0
	})
	if got := old.machine.all(); slices.Contains(got, "new") || slices.Contains(got, "before") {
		t.Errorf("the old node has %q", got)
	}
	if status := old.store.Status(); status.Leader != 0 || status.Life != (Life{}) || status.PeerStates[1].Connected {
		t.Errorf("the old node is %+v", status)
	}
	if got := renewed[1].machine.all(); slices.Contains(got, "old") {
		t.Errorf("the new life has %q", got)
	}
}

func TestBelonging(t *testing.T) {
	second := Life{}.Next()
	third, other := second.Next(), Life{}.Next()
	for _, test := range []struct {
		name         string
		own          Life
		unborn       bool
		theirs       string
		refused      bool
		follows, now Life
	}{
		{"same", second, false, identity("c", second), false, second, second},
		{"another cluster", second, false, "d", true, second, second},
		{"another cluster, of which ours is the beginning", Life{}, true, "c2", true, Life{}, Life{}},
		{"nonsense after the mark", Life{}, true, "c#2", true, Life{}, Life{}},
		{"the first, said at length", second, false, "c#0", true, second, second},
		{"an earlier life", third, false, identity("c", second), true, third, third},
		{"a later life", second, false, identity("c", third), true, second, second},
		{"another one of the same number", second, false, identity("c", other), true, second, second},
		{"a later life, and nothing written yet", Life{}, true, identity("c", third), false, third, third},
		{"nothing written, but no first life either", second, true, identity("c", third), true, second, second},
	} {
		b := &belonging{cluster: "c"}
		b.found(test.own, test.unborn)
		if err := b.check(test.theirs); (err != nil) != test.refused {
			t.Errorf("%s: %v", test.name, err)
		}
		if b.now() != test.own {
			t.Errorf("%s: a look made it %s", test.name, b.now())
		}
		b.follow(test.theirs)
		if b.now() != test.follows {
			t.Errorf("%s: it follows %s, want %s", test.name, b.now(), test.follows)
		}
	}
	b := &belonging{cluster: "c"}
	b.found(Life{}, true)
	if l, write := b.settle(); l != (Life{}) || write {
		t.Errorf("settled as %s, %t", l, write)
	}
	b.follow(identity("c", third))
	if b.now() != (Life{}) || b.check(identity("c", third)) == nil {
		t.Error("a node that has written something takes another life over")
	}
}

func TestLifeText(t *testing.T) {
	for _, l := range []Life{{}, Life{}.Next(), Life{}.Next().Next()} {
		if got, err := ParseLife(l.String()); err != nil || got != l {
			t.Errorf("%s: %v, %v", l, got, err)
		}
	}
	for _, text := range []string{"", "1", "0-0123456789abcdef", "01-0123456789abcdef", "1-0123456789ABCDEF", "1-0123456789abcdef0", "1000000000-0123456789abcdef"} {
		if got, err := ParseLife(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestFoundRefuses(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.leader()
	c.stopAll()
	m := c.members[0]
	if _, err := Found(m.cfg, begun(), false); !errors.Is(err, ErrDirUsed) {
		t.Errorf("over a directory that is used: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(m.cfg.Dir, diskFile))
	if err != nil {
		t.Fatal(err)
	}
	b := begun()
	moved, err := Found(m.cfg, b, true)
	if err != nil || moved != m.cfg.Dir+".before-"+b.Life.String() {
		t.Fatalf("moved to %q, %v", moved, err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(moved) })
	if kept, err := os.ReadFile(filepath.Join(moved, diskFile)); err != nil || !slices.Equal(kept, before) {
		t.Errorf("what was there is not kept: %v", err)
	}
	for name, bad := range map[string]Beginning{
		"the first life":           {Index: 40, Term: 9, State: []byte("x")},
		"an index of an empty log": {Life: b.Life, Index: 1, Term: 9, State: []byte("x")},
		"a term of an empty log":   {Life: b.Life, Index: 40, Term: 1, State: []byte("x")},
		"no state":                 {Life: b.Life, Index: 40, Term: 9},
	} {
		if _, err := Found(m.cfg, bad, true); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, _ := filepath.Glob(m.cfg.Dir + ".new-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestSalvage reads a node's directory: the whole log, whatever of it is known to be agreed on.
func TestSalvage(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.SnapshotEvery, cfg.KeepEntries = 5, 2 })
	c.startAll()
	leader := c.leader()
	var all []string
	for _, text := range strings.Split("a b c d e f g h", " ") {
		c.propose(leader, text)
		all = append(all, text)
	}
	c.agree(all...)
	if _, err := Salvage(leader.cfg); !errors.Is(err, ErrRunning) {
		t.Errorf("of a node that runs: %v", err)
	}
	c.stopAll()
	for _, m := range c.members {
		r, err := Salvage(m.cfg)
		if err != nil {
			t.Fatal(err)
		}
		state := &list{}
		if err := state.Restore(r.Snapshot); err != nil {
			t.Fatal(err)
		}
		for _, command := range r.Commands {
			state.Apply(command.Index, command.Data)
		}
		if !slices.Equal(state.all(), m.machine.all()) || r.Doubt != "" || r.Term < 2 || r.Last < r.Commit || r.SnapshotAt < 5 {
			t.Errorf("found %q and %+v, the node had %q", state.all(), r, m.machine.all())
		}
	}
	stranger := leader.cfg
	stranger.Cluster = "other"
	if _, err := Salvage(stranger); !errors.Is(err, ErrForeignDir) {
		t.Errorf("of another cluster: %v", err)
	}
	alone := leader.cfg
	alone.Peers = slices.DeleteFunc(slices.Clone(alone.Peers), func(p Peer) bool { return p.ID != alone.Self })
	if _, err := Salvage(alone); err != nil {
		t.Errorf("with other voters: %v", err)
	}
	if err := os.Remove(filepath.Join(leader.cfg.Dir, sidecarFile)); err != nil {
		t.Fatal(err)
	}
	if r, err := Salvage(leader.cfg); err != nil || !strings.Contains(r.Doubt, sidecarFile) {
		t.Errorf("without its sidecar: doubt %q, %v", r.Doubt, err)
	}
}
