package raftstore

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// ice stands before a disk and lets no write through while it is frozen, as a device does that does not
// answer: the write neither fails nor ends.
type ice struct {
	storage
	mu     sync.Mutex
	melted chan struct{} // closed = not frozen; nil = never was
}

func (i *ice) Save(b *replica.Batch) error {
	i.mu.Lock()
	melted := i.melted
	i.mu.Unlock()
	if melted != nil {
		i.storage.(*disk).took.begin()
		<-melted
	}
	return i.storage.Save(b)
}

func (i *ice) freeze() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.melted = make(chan struct{})
}

func (i *ice) thaw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.melted)
	i.melted = nil
}

// beating broadcasts from every member every 20 ms until the returned stop, which tells how often.
func (c *cluster) beating() (stop func() int) {
	done, count := make(chan struct{}), make(chan int)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-done:
				count <- n
				return
			case <-ticker.C:
			}
			for _, m := range c.members {
				m.store.Broadcast([]byte("beat"))
			}
		}
	}()
	return func() int { close(done); return <-count }
}

// received is how many raft messages a member had from another one.
func (m *member) received(from *member) uint64 {
	for _, p := range m.store.Status().PeerStates {
		if p.ID == from.cfg.Self {
			return p.Received
		}
	}
	return 0
}

// others are the members but one.
func (c *cluster) others(but *member) []*member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return m == but })
}

// rates are what the others hear of a member in a second: raft messages and beats.
func (c *cluster) rates(of *member) (raft, beats float64) {
	before := map[*member][2]uint64{}
	count := func(m *member) [2]uint64 {
		return [2]uint64{m.received(of), uint64(m.watch.beatCount(of.cfg.Self))}
	}
	for _, m := range c.others(of) {
		before[m] = count(m)
	}
	stop, began := c.beating(), time.Now()
	time.Sleep(time.Second)
	stop()
	took := time.Since(began).Seconds()
	for m, was := range before {
		now := count(m)
		raft += float64(now[0]-was[0]) / took / float64(len(before))
		beats += float64(now[1]-was[1]) / took / float64(len(before))
	}
	return raft, beats
}

// TestFrozenLeaderBeatsOn: with an election timeout that is longer than the freeze the leader stays, and
// what it sends comes at the rate it always had.
func TestFrozenLeaderBeatsOn(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.ElectionTicks = 300 })
	c.startAll()
	leader := c.leader()
	c.connected()
	before := leader.store.Status()
	fullRaft, fullBeats := c.rates(leader)
	leader.ice.freeze()
	ended := make(chan error, 1)
	go func() { ended <- leader.store.Propose(context.Background(), []byte("held up")) }()
	c.until("the write under way", func() bool { return leader.store.Status().FsyncP99 > 100*time.Millisecond })
	for range 2 {
		raft, beats := c.rates(leader)
		t.Logf("%.0f raft messages a second of %.0f, %.0f beats of %.0f", raft, fullRaft, beats, fullBeats)
		if raft < fullRaft*0.7 || beats < fullBeats*0.7 {
			t.Error("the frozen disk holds up what has nothing to do with it")
		}
	}
	now := leader.store.Status()
	if now.Term != before.Term || !now.Self || now.FsyncP99 < 2*time.Second {
		t.Errorf("the leader has %+v", now)
	}
	select {
	case err := <-ended:
		t.Errorf("the proposal ended before its entry was durable here: %v", err)
	default:
	}
	leader.ice.thaw()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.agree("held up")
}

// TestFrozenLeaderGivesUp: the group goes on, first with the disks of the others and then with another
// leader, by one orderly change; the node catches up by itself.
func TestFrozenLeaderGivesUp(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "before")
	c.agree("before")
	leader := c.leader()
	others, term, began := c.others(leader), leader.store.Status().Term, time.Now()
	leader.ice.freeze()
	worst := time.Duration(0)
	for n := 0; time.Since(began) < 2*time.Second; n++ {
		start := time.Now()
		c.propose(others[n%2], "on "+time.Since(began).String())
		worst = max(worst, time.Since(start))
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("no proposal took longer than %s", worst)
	if worst > time.Second {
		t.Errorf("a proposal took %s", worst)
	}
	for _, m := range c.members {
		if now := m.store.Status(); now.Term != term+1 || now.Leader == leader.cfg.Self || now.Leader == 0 {
			t.Errorf("node %s: term %d leader %x, want one change from term %d",
				m.cfg.name(m.cfg.Self), now.Term, now.Leader, term)
		}
	}
	now := leader.store.Status()
	if now.Stuck < time.Second || now.FsyncP99 < time.Second || len(leader.machine.all()) != 1 {
		t.Errorf("the node with the frozen disk has %+v and %q", now, leader.machine.all())
	}
	leader.ice.thaw()
	c.agree(others[0].machine.all()...)
	c.until("the node to recover", func() bool { return leader.store.Status().Stuck == 0 })
	c.propose(leader, "after")
	c.agree("after")
}

// TestFrozenFollowerIsNotNoticed: the others go on at the speed of their own disks.
func TestFrozenFollowerIsNotNoticed(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	leader := c.leader()
	frozen := c.follower(leader)
	c.connected()
	changes := leader.watch.changes()
	term, began := leader.store.Status().Term, time.Now()
	frozen.ice.freeze()
	stop := c.beating()
	for time.Since(began) < 2*time.Second {
		c.propose(leader, time.Since(began).String())
		time.Sleep(20 * time.Millisecond)
	}
	beats := stop()
	if got := leader.watch.beatCount(frozen.cfg.Self); got < beats*8/10 {
		t.Errorf("the leader heard %d of %d beats", got, beats)
	}
	if now := leader.store.Status(); now.Term != term || !now.Self || leader.watch.changes() != changes {
		t.Errorf("the leader has %+v", now)
	}
	if now := frozen.store.Status(); now.Stuck < time.Second || now.Leader != leader.cfg.Self {
		t.Errorf("the node with the frozen disk has %+v", now)
	}
	if lost := leader.watch.lostNotes(); len(lost) != 0 {
		t.Errorf("the leader lost %v", lost)
	}
	frozen.ice.thaw()
	c.agree(leader.machine.all()...)
	c.propose(frozen, "after")
	c.agree("after")
}

// TestStopWhileFrozen: a store whose disk does not answer ends when it does, and has lost nothing that
// it acknowledged.
func TestStopWhileFrozen(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "before")
	c.agree("before")
	leader := c.leader()
	leader.ice.freeze()
	c.propose(c.others(leader)[0], "during")
	leader.stop()
	c.until("its peers to see it go", func() bool {
		status := c.others(leader)[0].store.Status()
		return slices.ContainsFunc(status.PeerStates, func(p PeerState) bool { return !p.Connected })
	})
	leader.ice.thaw()
	c.halt(leader)
	c.start(leader)
	c.agree("before", "during")
}
