package raftstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRefusedRedialIsReported: peers of a process that is gone must know within 50 ms, and the
// survivors of a leader elect at once instead of after an election timeout. The best of five rounds
// counts, because the machine that runs the tests may do other things as well.
func TestRefusedRedialIsReported(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	report, elect := time.Hour, time.Hour
	for range 5 {
		leader := c.leader()
		c.connected()
		reported, elected := c.lose(leader)
		report, elect = min(report, reported), min(elect, elected)
		c.start(leader)
	}
	t.Logf("reported within %s, elected within %s", report, elect)
	if report > 50*time.Millisecond {
		t.Errorf("the refusal was reported after %s", report)
	}
	if elect > 200*time.Millisecond {
		t.Errorf("the new leader was ready after %s, which is no faster than an election timeout", elect)
	}
}

// lose halts the leader and tells how long it took until both others knew that it is gone, and until
// one of them led. The time to close the sockets is within both.
func (c *cluster) lose(leader *member) (reported, elected time.Duration) {
	c.t.Helper()
	began := time.Now()
	before := map[*member]int{}
	for _, m := range c.members {
		before[m] = len(m.watch.lostNotes())
	}
	c.halt(leader)
	c.until("two reports", func() bool {
		reported = 0
		for _, m := range c.running() {
			at := refusal(m.watch.lostNotes()[before[m]:], leader.cfg.Self)
			if at.IsZero() {
				return false
			}
			reported = max(reported, at.Sub(began))
		}
		return true
	})
	c.leader()
	return reported, time.Since(began)
}

// refusal is the time of the report that a node's process is gone; zero = none.
func refusal(notes []lostNote, id uint64) time.Time {
	for _, note := range notes {
		if note.id == id && note.refused {
			return note.at
		}
	}
	return time.Time{}
}

// connected waits until every running member has a stream to every other one.
func (c *cluster) connected() {
	c.t.Helper()
	c.until("connections", func() bool {
		for _, m := range c.running() {
			for _, p := range m.store.Status().PeerStates {
				if !p.Connected && slices.ContainsFunc(c.running(), func(o *member) bool { return o.cfg.Self == p.ID }) {
					return false
				}
			}
		}
		return true
	})
}

func TestPreferredLeaderTakesOver(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.PreferredLeader = id("t") })
	c.start(c.members[0])
	c.start(c.members[1])
	c.propose(c.leader(), "without the witness")
	c.start(c.members[2])
	c.until("the witness to lead", func() bool { return c.members[2].store.Status().Ready })
	c.propose(c.members[0], "with the witness")
	c.agree("without the witness", "with the witness")
}

// TestStallCausesNoElection: a follower whose loop stood still for three election timeouts takes in
// the heartbeats that came meanwhile before it lets time pass.
func TestStallCausesNoElection(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	stalled, term := c.follower(leader), leader.store.Status().Term
	block := make(chan struct{})
	stalled.machine.set(func(l *list) { l.block = block })
	c.propose(leader, "stall")
	c.until("the stall", func() bool { return leader.store.Status().Applied > stalled.store.Status().Applied })
	stall := time.After(900 * time.Millisecond)
	beats := 0
	for waiting := true; waiting; {
		select {
		case <-stall:
			waiting = false
		case <-time.After(5 * time.Millisecond):
			leader.store.Broadcast([]byte("beat"))
			beats++
		}
	}
	if got := stalled.watch.beatCount(leader.cfg.Self); got < beats/2 {
		t.Errorf("the stalled node got %d of %d beats", got, beats)
	}
	stalled.machine.set(func(l *list) { l.block = nil })
	close(block)
	c.propose(stalled, "after")
	c.agree("stall", "after")
	if now := leader.store.Status(); now.Term != term || !now.Self {
		t.Errorf("term went from %d to %d, leader is %x", term, now.Term, now.Leader)
	}
}

func TestBeats(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.connected()
	c.until("beats", func() bool {
		for _, m := range c.members {
			m.store.Broadcast([]byte("beat of " + m.cfg.name(m.cfg.Self)))
		}
		for _, m := range c.members {
			for _, o := range c.members {
				if m != o && m.watch.beatCount(o.cfg.Self) == 0 {
					return false
				}
			}
		}
		return true
	})
	c.members[0].watch.mu.Lock()
	defer c.members[0].watch.mu.Unlock()
	if got := c.members[0].watch.beats[id("b")][0]; got != "beat of b" {
		t.Errorf("beat is %q", got)
	}
}

func TestOtherClusterIsRefused(t *testing.T) {
	c := newCluster(t, nil)
	c.members[2].cfg.Cluster = "other"
	c.startAll()
	c.propose(c.members[0], "two of us")
	stray := c.members[2].store
	if status := c.members[0].store.Status(); status.PeerStates[2].Connected {
		t.Error("the stray node is connected")
	}
	if status := stray.Status(); status.Leader != 0 || status.PeerStates[0].Connected || status.PeerStates[1].Connected {
		t.Errorf("the stray node has %+v", status)
	}
	if c.members[0].watch.changes() == 0 {
		t.Error("no leadership was reported")
	}
}

// TestPartition cuts the leader off by a proxy that stands before every node.
func TestPartition(t *testing.T) {
	c := newCluster(t, nil)
	fences := c.fence()
	c.startAll()
	leader := c.leader()
	c.propose(leader, "before")
	for i, m := range c.members {
		for j, o := range c.members {
			if (m == leader) != (o == leader) {
				fences[i][j].cut()
			}
		}
	}
	var second *member
	c.until("a new leader", func() bool {
		for _, m := range c.members {
			if status := m.store.Status(); status.Ready && m != leader {
				second = m
			}
		}
		return second != nil && leader.store.Status().Leader == 0
	})
	c.propose(second, "during")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := leader.store.Propose(ctx, []byte("lost")); err == nil {
		t.Error("the lonely node accepted a proposal")
	}
	for _, note := range second.watch.lostNotes() {
		if note.refused {
			t.Error("a cut connection was reported as refused")
		}
	}
	for i := range fences {
		for j := range fences[i] {
			fences[i][j].heal()
		}
	}
	c.propose(leader, "after")
	c.agree("before", "during", "after")
}

// TestWipedNodeCatchesUp: the node neither votes nor campaigns until it has what it once had, and
// the leader, which counts on entries that are gone, sends them again.
func TestWipedNodeCatchesUp(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	for i := range 5 {
		c.propose(c.leader(), string(rune('v'+i)))
	}
	leader := c.leader()
	wiped := c.follower(leader)
	term := leader.store.Status().Term
	c.agree("v", "w", "x", "y", "z")
	c.halt(wiped)
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(wiped)
	c.agree("v", "w", "x", "y", "z")
	c.until("end of the doubt", func() bool { return wiped.store.Status().Doubt == "" })
	if now := leader.store.Status(); now.Term != term || !now.Self {
		t.Errorf("leadership changed: %+v", now)
	}
	c.propose(wiped, "back")
	c.agree("back")
}

// TestWipedNodeDoesNotVote: with only one sound node left there must be no leader.
func TestWipedNodeDoesNotVote(t *testing.T) {
	c := newCluster(t, nil)
	c.fillAndStop("one")
	wiped, sound := c.members[0], c.members[1]
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(wiped)
	c.start(sound)
	c.connected()
	time.Sleep(time.Second) // more than an election takes
	for _, m := range c.running() {
		if status := m.store.Status(); status.Leader != 0 {
			t.Errorf("node %s knows leader %x", m.cfg.name(m.cfg.Self), status.Leader)
		}
	}
	if wiped.store.Status().Doubt == "" {
		t.Error("the wiped node has no doubt")
	}
	c.start(c.members[2])
	c.leader()
	c.agree("one")
	c.until("end of the doubt", func() bool { return wiped.store.Status().Doubt == "" })
}

// TestDamagedMetaPage: bbolt opens such a file as of the transaction before, so the node is in doubt
// until it has caught up.
func TestDamagedMetaPage(t *testing.T) {
	for page := range 2 {
		c := newCluster(t, nil)
		c.fillAndStop("one", "two")
		m := c.members[page]
		path := filepath.Join(m.cfg.Dir, diskFile)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{0xff}, int64(page*os.Getpagesize())+metaOffset+metaSummed); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		if doubt, err := metaDoubt(path); err != nil || doubt == "" {
			t.Fatalf("page %d: doubt %q, %v", page, doubt, err)
		}
		c.startAll()
		c.leader()
		c.agree("one", "two")
		c.until("end of the doubt", func() bool { return m.store.Status().Doubt == "" })
		c.stopAll()
	}
}

// TestOlderCopyOfTheFile: somebody puts back yesterday's bbolt file. The node says so, does not vote until
// it has what it once had, and a restart before that changes nothing.
func TestOlderCopyOfTheFile(t *testing.T) {
	c := newCluster(t, nil)
	c.fillAndStop("one")
	m := c.members[0]
	path := filepath.Join(m.cfg.Dir, diskFile)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c.fillAndStop("two", "three")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // alone it stays in doubt, also when it is started again
		c.start(m)
		c.until("the doubt", func() bool { return strings.Contains(m.store.Status().Doubt, "older copy") })
		c.halt(m)
	}
	c.startAll()
	c.agree("one", "two", "three")
	c.until("end of the doubt", func() bool { return m.store.Status().Doubt == "" })
	c.halt(m)
	c.start(m)
	c.until("its files read", func() bool { return m.store.Addr() != "" })
	if doubt := m.store.Status().Doubt; doubt != "" {
		t.Errorf("the doubt that ended is back: %s", doubt)
	}
	c.leader()
}

// TestHalfCaughtUpIsDoubted: a wiped node that is started again when it has some entries, but not all.
func TestHalfCaughtUpIsDoubted(t *testing.T) {
	c := newCluster(t, nil)
	c.fillAndStop("one", "two")
	m := c.members[0]
	if err := os.RemoveAll(m.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	d, err := openDisk(m.cfg.Dir, m.cfg.owner(), &window{})
	if err != nil {
		t.Fatal(err)
	}
	b := batch(2, 0, 2)
	b.Doubt = "the data directory is new"
	if err := errors.Join(d.Save(b), d.Close()); err != nil {
		t.Fatal(err)
	}
	c.start(m)
	c.until("the doubt", func() bool { return m.store.Status().Doubt == b.Doubt })
	c.start(c.members[1])
	c.start(c.members[2])
	c.agree("one", "two")
	c.until("end of the doubt", func() bool { return m.store.Status().Doubt == "" })
}
