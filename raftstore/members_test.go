package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// newcomer makes a node that is to be added; it is not started.
func (c *cluster) newcomer(name string) *member {
	c.t.Helper()
	self := Peer{ID: id(name), Name: name, Addr: freeAddr(c.t)}
	m := &member{cfg: Config{
		Cluster: "test", Self: self.ID, Peers: append(slices.Clone(c.members[0].cfg.Peers), self), Join: true,
		Dir: c.t.TempDir(), Listen: self.Addr,
		Logger: slog.New(slog.NewTextHandler(testWriter{c.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}}
	c.members = append(c.members, m)
	return m
}

// peer is how the others know a member.
func (m *member) peer() Peer {
	return m.cfg.Peers[slices.IndexFunc(m.cfg.Peers, func(p Peer) bool { return p.ID == m.cfg.Self })]
}

// change makes a step, through whoever leads, again until it is done.
func (c *cluster) change(what string, step Change, done func(Roster) bool) {
	c.t.Helper()
	c.until(what, func() bool {
		for _, m := range c.running() {
			status := m.store.Status()
			if status.Last == 0 { // who waits to be added knows only what it is configured with
				continue
			}
			if done(status.Members) {
				return true
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			err := m.store.Change(ctx, step)
			cancel()
			if err != nil && !errors.Is(err, ErrNotLeader) {
				c.t.Logf("%s: %v", what, err)
			}
		}
		return false
	})
}

func (c *cluster) add(m *member) {
	c.t.Helper()
	p := m.peer()
	c.change("addition of "+p.Name, Change{Add: &p}, func(r Roster) bool { _, ok := r.Member(p.ID); return ok })
}

func (c *cluster) remove(m *member) {
	c.t.Helper()
	c.change("removal of "+m.peer().Name, Change{Remove: m.cfg.Self}, func(r Roster) bool { return r.WasRemoved(m.cfg.Self) })
}

// votes waits until all running members that are not removed know a member for a voter.
func (c *cluster) votes(m *member) {
	c.t.Helper()
	c.until("vote of "+m.peer().Name, func() bool {
		for _, other := range c.running() {
			if !slices.Contains(other.store.Status().Voters, m.cfg.Self) && !other.store.Status().Removed {
				return false
			}
		}
		return true
	})
}

// TestMemberIsReplaced has a node take the place of another while commands go on, and each of the old ones in turn.
func TestMemberIsReplaced(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "before")
	commands := []string{"before"}
	for _, turn := range []struct{ old, fresh string }{{"t", "u"}, {"b", "c"}, {"a", "d"}} {
		old := c.named(turn.old)
		fresh := c.newcomer(turn.fresh)
		c.start(fresh)
		c.add(fresh)
		c.votes(fresh)
		c.propose(fresh, "beside "+turn.old)
		c.remove(old)
		c.until("farewell of "+turn.old, func() bool { return old.watch.farewell() != "" })
		c.propose(fresh, "after "+turn.old) // while it is still there
		c.halt(old)
		c.propose(c.leader(), "without "+turn.old)
		commands = append(commands, "beside "+turn.old, "after "+turn.old, "without "+turn.old)
		c.agree(commands...)
		c.refusesToStart(old)
	}
	want := []string{"c", "d", "u"}
	for _, m := range c.running() {
		if got := slices.Sorted(slices.Values(names(m.store.Status().Members, false))); !slices.Equal(got, want) {
			t.Errorf("node %s knows the voters %q, want %q", m.peer().Name, got, want)
		}
	}
	for _, m := range c.running() { // the configurations are those of before
		c.halt(m)
		c.start(m)
	}
	c.propose(c.leader(), "restarted")
	c.agree(append(commands, "restarted")...)
}

func (c *cluster) named(name string) *member {
	c.t.Helper()
	for _, m := range c.members {
		if m.peer().Name == name {
			return m
		}
	}
	c.t.Fatalf("no node %s", name)
	return nil
}

// refusesToStart starts a removed node on its old data directory, which may or may not know. It must be told either way.
func (c *cluster) refusesToStart(m *member) {
	c.t.Helper()
	c.start(m)
	c.until("end or farewell of "+m.peer().Name, func() bool {
		select {
		case err := <-m.ended:
			if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "another name") {
				c.t.Errorf("%s ended with %v, want ErrRemoved and what to do", m.peer().Name, err)
			}
			m.ended <- nil // for halt
			return true
		default:
			return m.watch.farewell() != ""
		}
	})
	c.halt(m)
}

// TestRemovedWhileDown is removed while it is down: nothing on its disk says so, and the others do.
func TestRemovedWhileDown(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "x")
	lost := c.follower(c.leader())
	c.halt(lost)
	c.remove(lost)
	c.propose(c.leader(), "y")
	c.start(lost)
	c.until("farewell", func() bool { return lost.watch.farewell() != "" })
	if status := lost.store.Status(); !status.Removed {
		t.Errorf("it does not know: %+v", status)
	}
	c.halt(lost)
	c.agree("x", "y")
}

// TestAwayForAChange is down while two of three are replaced, and both of the old ones are gone when it comes back: whoever leads is a
// stranger to its log.
func TestAwayForAChange(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "x")
	away, gone := c.named("a"), c.named("b")
	c.halt(away)
	fresh := c.newcomer("c")
	c.start(fresh)
	c.add(fresh)
	c.votes(fresh)
	c.remove(gone)
	c.until("farewell", func() bool { return gone.watch.farewell() != "" })
	c.halt(gone)
	c.propose(fresh, "y")
	c.start(away)
	c.propose(away, "z")
	c.agree("x", "y", "z")
}

// TestJoinerWaits has a node that nobody has added: it takes part in nothing, and does nobody harm.
func TestJoinerWaits(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	fresh := c.newcomer("u")
	c.start(fresh)
	c.until("refusal", func() bool { return refusals(leader, "message") > 0 })
	c.propose(leader, "x")
	if status := fresh.store.Status(); status.Leader != 0 || status.Last != 0 || len(status.Voters) != 0 {
		t.Errorf("it has %+v", status)
	}
	c.halt(fresh)
	c.start(fresh) // it waits on, on the same directory
	c.add(fresh)
	c.votes(fresh)
	c.agree("x")
}

// TestJoinerLosesItsDisk has it lost as a voter: what it starts with then is all that a joiner has, and it may not vote before it
// has caught up, as it had promised things.
func TestJoinerLosesItsDisk(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "x")
	fresh := c.newcomer("u")
	c.start(fresh)
	c.add(fresh)
	c.votes(fresh)
	c.remove(c.named("t"))
	c.halt(c.named("t"))
	c.propose(fresh, "y")
	c.halt(fresh)
	if err := os.RemoveAll(fresh.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(fresh)
	c.until("doubt", func() bool { return replica.IsNew(fresh.store.Status().Doubt) || fresh.store.Status().Applied > 0 })
	c.until("end of doubt", func() bool { s := fresh.store.Status(); return s.Doubt == "" && s.Applied > 0 })
	c.propose(fresh, "z")
	c.agree("x", "y", "z")
}

// TestOlderVersionIsNoPeerOfAChange has a member that does not say that it knows rosters.
func TestOlderVersionIsNoPeerOfAChange(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	older := leader.store.links()[c.follower(leader).cfg.Self]
	c.until("connection", func() bool { return older.up.Load() })
	older.knows.Store(false)
	p := c.newcomer("u").peer()
	if err := leader.store.Examine(context.Background(), Change{Add: &p}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "upgrade it") {
		t.Errorf("error %v", err)
	}
}

// TestMembersAreRead has the directory of a cluster without rosters: the configuration counts, until the log has members.
func TestMembersAreRead(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.SnapshotEvery = 3 })
	c.startAll()
	for _, command := range []string{"1", "2", "3", "4", "5"} {
		c.propose(c.leader(), command)
	}
	for _, m := range c.members {
		c.halt(m)
		c.start(m)
	}
	c.agree("1", "2", "3", "4", "5")
	for _, m := range c.members {
		c.until("snapshot", func() bool { return m.store.Status().Snapshot >= 3 }) // it is told of after the machine has the commands
		if got := m.store.Status(); len(got.Members.Members) != 3 || len(m.watch.rosters) != 0 {
			t.Errorf("node %s: %+v, told %v", m.peer().Name, got.Members, m.watch.rosters)
		}
	}
}

// TestDirectoryOfARemovedNode: what the log of a removed node says of it is enough, with nobody to ask.
func TestDirectoryOfARemovedNode(t *testing.T) {
	list := roster.New([]Peer{{ID: 1, Name: "a", Addr: "h:1"}, {ID: 2, Name: "b", Addr: "h:2"}, {ID: 3, Name: "t", Addr: "h:3"}})
	list, err := list.After(Change{Remove: 3})
	if err != nil {
		t.Fatal(err)
	}
	snapshot := &pb.Snapshot{Data: list.Wrap([]byte("state")), Metadata: &pb.SnapshotMetadata{ConfState: &pb.ConfState{Voters: []uint64{1, 2}}}}
	for _, test := range []struct {
		self uint64
		want error
	}{{1, nil}, {3, ErrRemoved}} {
		who := owner{self: test.self, voters: []uint64{1, 2, 3}} // the configuration is that of before
		if err := who.checkMembers(snapshot); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("node %d: %v, want %v", test.self, err, test.want)
		}
	}
	if err := (owner{self: 1, voters: []uint64{1, 2}, join: true}).checkMembers(&pb.Snapshot{Metadata: snapshot.GetMetadata()}); !errors.Is(err, replica.ErrFounder) {
		t.Errorf("a founder that is to join: %v", err)
	}
	snapshot.Data = snapshot.Data[:30]
	if err := (owner{self: 1}).checkMembers(snapshot); err == nil {
		t.Error("members that are cut short are taken")
	}
}

// TestGuestsAreFew: a peer that tells of ever more members is not believed for ever.
func TestGuestsAreFew(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	s := c.leader().store
	done := make(chan int)
	s.post(func(s *Store) {
		for n := range 3 * maxGuests {
			name := fmt.Sprintf("g%d", n)
			s.meet(roster.New([]Peer{{ID: id(name), Name: name, Addr: "127.0.0.1:1"}}))
		}
		done <- len(s.guests)
	})
	if got := <-done; got != maxGuests {
		t.Errorf("%d guests, want %d", got, maxGuests)
	}
}

// TestHintOfWhoJoins: its configuration may be out of date, and what it says of the members is nobody's business.
func TestHintOfWhoJoins(t *testing.T) {
	c := newCluster(t, nil)
	fresh := c.newcomer("u")
	c.start(fresh)
	if got := fresh.store.standing().members; len(got.Members) != 0 {
		t.Errorf("it tells others of %v", got)
	}
	c.start(c.members[0])
	c.until("its word", func() bool { return len(c.members[0].store.standing().members.Members) == 3 })
}

// TestChangeOfWhoHasGoneOn: nobody would know of a change that is made after its request has ended.
func TestChangeOfWhoHasGoneOn(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader, p := c.leader(), c.newcomer("u").peer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := leader.store.Change(ctx, Change{Add: &p}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	c.propose(leader, "x") // it has been through the loop by then
	if _, ok := leader.store.Status().Members.Member(p.ID); ok {
		t.Error("it was made")
	}
}
