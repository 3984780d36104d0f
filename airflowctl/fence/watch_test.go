package fence_test

import (
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// watcher keeps what Observe was told.
type watcher struct {
	mu   sync.Mutex
	last fence.Health
	seen int
}

func (w *watcher) observe(h fence.Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = h
	w.seen++
}

func (w *watcher) get() (fence.Health, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.seen
}

func watching(w *watcher, probe time.Duration) func(*fence.Config) {
	return func(c *fence.Config) { c.Observe, c.Probe = w.observe, probe }
}

func TestAFencedNodeLearnsAtOnce(t *testing.T) {
	b := newBench(t)
	var w watcher
	b.fencer(b.a, watching(&w, time.Hour)) // so that only a notice can bring news
	f := b.fencer(b.b)
	eventually(t, "first probe", func() bool { _, n := w.get(); return n == 1 })
	for epoch := uint64(1); epoch <= 20; epoch++ {
		c := claim(epoch, "b")
		mustTake(t, f, c)
		eventually(t, "notice", func() bool { h, _ := w.get(); return h.Row.Epoch == epoch })
		h, _ := w.get()
		if !h.Reachable || !h.Writable || h.Row.Token != c.Token || h.HighestRole != epoch || h.ServerVersion != server.Version() {
			t.Errorf("health = %+v", h)
		}
	}
	_, before := w.get()
	if err := f.Release(t.Context(), fence.Claim{Epoch: 20, Node: "b", Token: w.last.Row.Token}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notice of the release", func() bool { _, n := w.get(); return n > before })
}

func TestHealthFollowsTheServer(t *testing.T) {
	b := newBench(t)
	var w watcher
	f := b.fencer(b.a, watching(&w, 20*time.Millisecond))
	is := func(reachable, writable bool) func() bool {
		return func() bool { h, _ := w.get(); return h.Reachable == reachable && h.Writable == writable }
	}
	eventually(t, "healthy", is(true, true))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "server gone", is(false, false))
	if h, _ := w.get(); h.Err == "" || h.Row != (fence.Row{}) {
		t.Errorf("health = %+v", h)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healthy again", is(true, true))
	b.admin = open(t, b.adminDSN())
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" SET default_transaction_read_only = on")
	mustExec(t, b.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'duoflow/scheduler/fencer'")
	eventually(t, "read-only", is(true, false))
	b.admin = open(t, b.adminDSN())
	mustExec(t, b.admin, "SET default_transaction_read_only = off")
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" RESET default_transaction_read_only")
	eventually(t, "writable again", is(true, true))
	mustExec(t, b.admin, "DELETE FROM duoflow.fence WHERE job = $1", job)
	eventually(t, "row gone", is(false, false))
	mustExec(t, b.admin, "INSERT INTO duoflow.fence (job) VALUES ($1)", job)
	eventually(t, "row back", is(true, true))
	take(t, f, claim(1, "a"))
}
