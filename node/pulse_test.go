package node

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

func TestNextBeat(t *testing.T) {
	const period = 50 * time.Millisecond
	for wall := time.Unix(1_700_000_000, 0); wall.Nanosecond() < 200_000_000; wall = wall.Add(777_777) {
		d := nextBeat(wall, period)
		if d < period/2 || d >= period*3/2 || wall.Add(d).UnixNano()%int64(period) != 0 {
			t.Fatalf("%s after %s: want the instant that all nodes beat at, half to one and a half periods away", d, wall)
		}
	}
}

// TestPulse: it rings when it was set to and not before, keeps one ring for a loop that stalls, and ends with ctx.
func TestPulse(t *testing.T) {
	p, err := newPulse()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.run(ctx) }()
	for range 3 {
		began := time.Now()
		if err := p.after(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.rings:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not ring")
		}
		if took := time.Since(began); took < 20*time.Millisecond {
			t.Errorf("it rang after %s, want 20ms", took)
		}
	}
	if err := p.after(0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(p.rings) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not ring at once")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run returned %v", err)
	}
	if p.after(time.Second) == nil {
		t.Error("it can be set after its end")
	}
}

func idleNode(t *testing.T, profile string) *Node {
	t.Helper()
	cfg := soleConfig("scheduler")
	cfg.Detection = profile
	wire := NewWire(cfg, nil)
	n, err := New(Parts{Config: cfg, Token: lifeA, Wire: wire, Log: &soleLog{wire: wire}, Gossip: alone{},
		Jobs: map[lease.JobName]HostedJob{"scheduler": &stubJob{}}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTicksDue: the log's time is this node's, but for what passed in a stall.
func TestTicksDue(t *testing.T) {
	n := idleNode(t, "lan")
	now := control.Instant(time.Hour)
	if got := n.ticksDue(now); got != 5 {
		t.Errorf("at the start: %d ticks, want a beat's worth", got)
	}
	total, start := 0, now
	for _, ms := range []int{50, 49, 51, 12, 9, 10, 8, 54, 50, 47} {
		now = now.Add(time.Duration(ms) * time.Millisecond)
		total += n.ticksDue(now)
	}
	if want := int(now.Since(start) / (10 * time.Millisecond)); total != want {
		t.Errorf("%d ticks in %s, want %d", total, now.Since(start), want)
	}
	now = now.Add(10 * time.Second)
	if got := n.ticksDue(now); got != 5 {
		t.Errorf("after a stall: %d ticks, want a beat's worth", got)
	}
	if got := n.ticksDue(now.Add(10 * time.Millisecond)); got != 1 {
		t.Errorf("10 ms later: %d ticks, want 1", got)
	}
}

// TestHurry: time is looked at closely while something is under way or overdue, and else once a beat; `fast` always.
func TestHurry(t *testing.T) {
	now := control.Instant(time.Hour)
	for _, tt := range []struct {
		what    string
		profile string
		prepare func(*Node)
		want    time.Duration
	}{
		{"clearing up at the start", "lan", func(*Node) {}, tickQuick},
		{"standby", "lan", stand, beatEvery},
		{"standby, wan", "wan", stand, beatEvery},
		{"standby, fast", "fast", stand, tickQuick},
		{"nobody leads", "lan", func(n *Node) { stand(n); n.wire.led.Store(false) }, tickQuick},
		{"a beat is missing", "lan", func(n *Node) { stand(n); n.heard.note(beat{Node: "b"}, now.Add(-80*time.Millisecond)) }, tickQuick},
		{"a node is long gone", "lan", func(n *Node) { stand(n); n.heard.note(beat{Node: "b"}, now.Add(-time.Second)) }, beatEvery},
		{"a node is on time", "lan", func(n *Node) { stand(n); n.heard.note(beat{Node: "b"}, now.Add(-60*time.Millisecond)) }, beatEvery},
	} {
		n := idleNode(t, tt.profile)
		var said []bool
		n.hurry = func(on bool) { said = append(said, on) }
		n.beatAt = now.Add(beatEvery)
		tt.prepare(n)
		n.setHurry(now)
		n.setHurry(now)
		if got := n.untilTick(now); got != tt.want {
			t.Errorf("%s: the next tick is in %s, want %s", tt.what, got, tt.want)
		}
		if want := fmt.Sprint(map[bool][]bool{true: {true}}[n.inHurry]); fmt.Sprint(said) != want {
			t.Errorf("%s: told %v, want %s", tt.what, said, want)
		}
	}
	n := idleNode(t, "lan")
	n.inHurry, n.beatAt = true, now.Add(12*time.Millisecond)
	if got := n.untilTick(now); got != 12*time.Millisecond {
		t.Errorf("just before a beat: %s, want the time to it", got)
	}
}

// stand makes a node one that is led and stands by.
func stand(n *Node) {
	n.wire.led.Store(true)
	n.seats[0].machine.Step(1, control.Begin{})
	n.seats[0].machine.Step(1, control.Done{Of: control.Clear, Outcome: control.OK})
}

// TestBeatsSayTheSameOnce: a beat that says what the last one said is not decoded again, and any other is.
func TestBeatsSayTheSameOnce(t *testing.T) {
	w := NewWire(soleConfig("scheduler"), nil)
	said := fullBeat()
	first, err := w.hear(7, said.encode())
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.hear(7, said.encode())
	if err != nil || reflect.ValueOf(second.Jobs).Pointer() != reflect.ValueOf(first.Jobs).Pointer() {
		t.Errorf("the same again: %v, decoded anew", err)
	}
	said.Version = "1.2.4"
	if got, err := w.hear(7, said.encode()); err != nil || !reflect.DeepEqual(got, said) {
		t.Errorf("something new: got %+v, %v; want %+v", got, err, said)
	}
	if _, err := w.hear(7, []byte("nonsense")); err == nil {
		t.Error("nonsense was accepted")
	}
	if got, err := w.hear(8, []byte(`{"node":"b"}`)); err != nil || got.Node != "b" {
		t.Errorf("another peer: got %+v, %v", got, err)
	}
}

// BenchmarkDecodeBeat is what a beat costs that is not the one before.
func BenchmarkDecodeBeat(b *testing.B) {
	payload := fullBeat().encode()
	for b.Loop() {
		if _, err := decodeBeat(payload); err != nil {
			b.Fatal(err)
		}
	}
}
