package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen soon; generous, as machines are shared.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// list is a StateMachine: the commands in their order.
type list struct {
	mu    sync.Mutex
	items []string
	block chan struct{} // when set, Apply waits until it is closed
	sick  error         // when set, Snapshot fails with it
}

func (l *list) Apply(_ uint64, command []byte) {
	l.mu.Lock()
	block := l.block
	l.mu.Unlock()
	if block != nil {
		<-block
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, string(command))
}

func (l *list) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sick != nil {
		return nil, l.sick
	}
	return json.Marshal(l.items)
}

func (l *list) Restore(snapshot []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = nil
	return json.Unmarshal(snapshot, &l.items)
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.items)
}

func (l *list) set(change func(*list)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// lostNote is one call of PeerLost.
type lostNote struct {
	id      uint64
	refused bool
	at      time.Time
}

// watcher is an Observer that remembers.
type watcher struct {
	mu      sync.Mutex
	beats   map[uint64][]string
	lost    []lostNote
	leaders []Leadership
	rosters []Roster
	removed []string
}

func (w *watcher) Beat(from uint64, payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.beats == nil {
		w.beats = map[uint64][]string{}
	}
	w.beats[from] = append(w.beats[from], string(payload))
}

func (w *watcher) PeerLost(id uint64, refused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = append(w.lost, lostNote{id, refused, time.Now()})
}

func (w *watcher) Leadership(l Leadership) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaders = append(w.leaders, l)
}

func (w *watcher) Members(r Roster) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rosters = append(w.rosters, r)
}

func (w *watcher) Removed(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed = append(w.removed, why)
}

// farewell is what the node was told of its removal; "" = nothing.
func (w *watcher) farewell() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.removed, ", and ")
}

func (w *watcher) lostNotes() []lostNote {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lost)
}

// told is how many rosters were told.
func (w *watcher) told() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rosters)
}

// changes is how many changes of leadership were told.
func (w *watcher) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.leaders)
}

func (w *watcher) beatCount(from uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.beats[from])
}

// member is one node of a test cluster; its store changes with every start.
type member struct {
	cfg     Config
	store   *Store
	machine *list
	watch   *watcher
	stop    context.CancelFunc
	ended   chan error // capacity 1
	ice     *ice
}

// cluster is what the tests run: real sockets on loopback, directories of the test.
type cluster struct {
	t       testing.TB
	members []*member // a, b, t
}

// id is the raft id of a name, as the callers of this package compute it.
func id(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// newCluster makes nodes a, b and t that are not started. change, when not nil, edits each one.
func newCluster(t testing.TB, change func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var peers []Peer
	for _, name := range []string{"a", "b", "t"} {
		peers = append(peers, Peer{ID: id(name), Name: name, Addr: freeAddr(t)})
	}
	for _, p := range peers {
		m := &member{cfg: Config{
			Cluster: "test", Self: p.ID, Peers: peers, Dir: t.TempDir(), Listen: p.Addr,
			Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		}}
		if change != nil {
			change(&m.cfg)
		}
		c.members = append(c.members, m)
	}
	t.Cleanup(c.stopAll)
	return c
}

// testWriter sends log lines to the test's log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line[:len(line)-1])
	return len(line), nil
}

// freeAddr finds a port that is free now.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a member that does not run, with a new state machine.
func (c *cluster) start(m *member) {
	c.t.Helper()
	m.machine, m.watch, m.ended = &list{}, &watcher{}, make(chan error, 1)
	m.cfg.Observer = m.watch
	store, err := New(m.cfg, m.machine)
	if err != nil {
		c.t.Fatal(err)
	}
	m.ice = &ice{}
	store.behind = func(d *disk) storage { m.ice.storage = d; return m.ice }
	ctx, cancel := context.WithCancel(context.Background())
	m.store, m.stop = store, cancel
	go func() { m.ended <- store.Run(ctx) }()
}

// startAll runs every member.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		c.start(m)
	}
}

// halt stops a member as a crash would: connections are closed, not drained.
func (c *cluster) halt(m *member) {
	c.t.Helper()
	m.stop()
	if err := <-m.ended; err != nil {
		c.t.Errorf("node %s: %v", m.cfg.name(m.cfg.Self), err)
	}
	m.stop = nil
}

// stopAll stops what runs.
func (c *cluster) stopAll() {
	for _, m := range c.members {
		if m.stop != nil {
			c.halt(m)
		}
	}
}

// running lists the members that run.
func (c *cluster) running() []*member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return m.stop == nil })
}

// leader waits until a ready leader is known to every running member.
func (c *cluster) leader() *member {
	c.t.Helper()
	var found *member
	c.until("a ready leader", func() bool {
		found = nil
		var ids []uint64
		for _, m := range c.running() {
			status := m.store.Status()
			ids = append(ids, status.Leader)
			if status.Ready {
				found = m
			}
		}
		return found != nil && len(slices.Compact(ids)) == 1 && ids[0] == found.cfg.Self
	})
	return found
}

// follower is a running member other than the leader.
func (c *cluster) follower(leader *member) *member {
	for _, m := range c.running() {
		if m != leader {
			return m
		}
	}
	c.t.Fatal("no follower runs")
	return nil
}

// propose sends a command through a member until it is applied there; a command may be in twice
// when a try of unknown outcome is repeated, so tests use each text once and compare sets.
func (c *cluster) propose(m *member, command string) {
	c.t.Helper()
	c.until("proposal "+command, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := m.store.Propose(ctx, []byte(command))
		if err != nil && !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrDropped) {
			c.t.Logf("propose %s: %v", command, err)
		}
		return err == nil
	})
}

// agree waits until the running members hold the same list, with at least these commands.
func (c *cluster) agree(commands ...string) {
	c.t.Helper()
	c.until(fmt.Sprintf("agreement on %d commands", len(commands)), func() bool {
		first := c.running()[0].machine.all()
		for _, command := range commands {
			if !slices.Contains(first, command) {
				return false
			}
		}
		for _, m := range c.running()[1:] {
			if !slices.Equal(first, m.machine.all()) {
				return false
			}
		}
		return true
	})
}

// until polls for something that must come true.
func (c *cluster) until(what string, done func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			c.t.Fatalf("no %s within %s", what, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// breakDisk closes the file under the store, so that its next write fails. It runs in the loop.
func (s *Store) breakDisk(t *testing.T) {
	t.Helper()
	if err := s.saver.storage.(*ice).storage.(*disk).db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
