package control_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// TestRandomStories breaks three hosts at random, from a seed. In no state may two processes be able to write; and
// ten seconds after everything is mended exactly one is.
func TestRandomStories(t *testing.T) {
	failovers := 0
	for seed := range uint64(200) {
		w := randomStory(t, seed)
		failovers += int(w.row.Epoch) - 1
		if seed%10 == 0 {
			if again := randomStory(t, seed); again.out.String() != w.out.String() {
				t.Fatalf("seed %d: the same story twice is not the same", seed)
			}
		}
	}
	if failovers < 300 {
		t.Errorf("%d failovers in 200 stories: they are too tame to show anything", failovers)
	}
}

func randomStory(t *testing.T, seed uint64) *world {
	t.Helper()
	r, w := rand.New(rand.NewPCG(seed, 3)), newWorld()
	w.run(t, seed, time.Second)
	for range 12 {
		w.trouble(r)
		w.run(t, seed, time.Duration(r.IntN(90))*10*time.Millisecond)
	}
	w.mend()
	w.run(t, seed, 10*time.Second)
	w.mustServe(t, seed)
	return w
}

// run lets time go by and looks at every moment of it.
func (w *world) run(t *testing.T, seed uint64, d time.Duration) {
	t.Helper()
	for end := w.now.Add(d); w.now < end; {
		w.pass(10 * time.Millisecond)
		effective := 0
		for _, h := range w.hosts {
			if h.running != 0 && h.running == w.row.Epoch {
				effective++
			}
		}
		if effective > 1 {
			t.Fatalf("seed %d: %d effective instances\n%s", seed, effective, w.out.String())
		}
	}
}

// trouble does one thing to one host, or mends it.
func (w *world) trouble(r *rand.Rand) {
	h := w.hosts[r.IntN(len(w.hosts))]
	if job, _ := w.log.Job(jobName); job.Holder != "" && r.IntN(2) == 0 {
		h = w.host(job.Holder)
	}
	switch n := r.IntN(6); {
	case h.dead && n < 3:
		w.restart(h.id)
	case h.dead:
	case n == 0:
		h.frozen = false
		w.kill(h.id)
	case (n == 1 || n == 2) && h.frozen:
		w.thaw(h)
	case n == 1 || n == 2:
		h.frozen = true
	case n == 3 || n == 4:
		h.cut = !h.cut
	default:
		h.blind = !h.blind
	}
	w.say("%s: dead %v, frozen %v, cut off %v, blind %v", h.id, h.dead, h.frozen, h.cut, h.blind)
}

// thaw hands a host what came while it was frozen, before anything newer.
func (w *world) thaw(h *host) {
	h.frozen = false
	w.wake(h)
	w.drain()
}

func (w *world) mend() {
	for _, h := range w.hosts {
		w.thaw(h)
		h.cut, h.blind = false, false
		if h.dead {
			w.restart(h.id)
		}
	}
}

func (w *world) mustServe(t *testing.T, seed uint64) {
	t.Helper()
	job, _ := w.log.Job(jobName)
	var active []lease.NodeID
	for _, h := range w.hosts {
		if h.machine.State() == control.Active {
			active = append(active, h.id)
		}
	}
	if len(active) != 1 || w.host(active[0]).running != w.row.Epoch || !job.HeldBy(active[0], w.row.Token) || job.Epoch != w.row.Epoch {
		w.status()
		t.Fatalf("seed %d: ten seconds after all is well, active are %v\n%s", seed, fmt.Sprint(active), w.out.String())
	}
}
