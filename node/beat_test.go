package node

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

func fullBeat() beat {
	return beat{Node: "a", Version: "1.2.3", Fsync: 4 * time.Millisecond, Disk: "full", Jobs: map[lease.JobName]control.Report{
		"scheduler": {
			Token: lifeA, Goodbye: true, Hears: []lease.NodeID{"a", "t"}, State: control.Active, Epoch: 3, Healthy: true,
			Row: control.Row{Epoch: 3, Node: "a", Token: lifeA}, HighestRole: 4, Unwritable: true, Warm: true,
		},
		"etl": {Token: lifeA, State: control.Standby},
	}, Lines: map[lease.JobName]line{"scheduler": {"3 of 12 chunks", 1500 * time.Millisecond, "next slot"}}}
}

func TestBeatRoundTrip(t *testing.T) {
	want := fullBeat()
	got, err := decodeBeat(want.encode())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestDecodeBeat(t *testing.T) {
	if b, err := decodeBeat([]byte(`{"node":"a","from_the_future":{"x":1},"jobs":{"etl":{"state":"active","mood":"good"}}}`)); err != nil {
		t.Errorf("a newer node says more: %v", err)
	} else if b.Jobs["etl"].State != control.Active {
		t.Errorf("beat = %+v", b)
	}
	for _, bad := range []string{"", "null", "{}", "[]", `{"node":"A"}`, `{"node":"a`, `{"node":"a"} x`, `{"node":"a","fsync":"x"}`, "\x01{}"} {
		if b, err := decodeBeat([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "decode beat: ") {
			t.Errorf("%q: got %+v, %v; want an error", bad, b, err)
		}
	}
}

func FuzzDecodeBeat(f *testing.F) {
	f.Add(fullBeat().encode())
	f.Add(beat{Node: "t"}.encode())
	f.Add([]byte(`{"node":"a","jobs":{"etl":null}}`))
	f.Add([]byte("{\"node\":\"a\",\"lines\":{\"etl\":{\"text\":\"\\u001b[2J \\u202e\\ud800\xff\",\"age\":-7}}}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		b, err := decodeBeat(payload)
		if err != nil {
			return
		}
		if !lease.ValidName(string(b.Node)) {
			t.Fatalf("accepted node %q", b.Node)
		}
		again, err := decodeBeat(b.encode())
		if err != nil || string(again.encode()) != string(b.encode()) {
			t.Fatalf("%q became %s, then %s, %v", payload, b.encode(), again.encode(), err)
		}
	})
}

func TestHearing(t *testing.T) {
	h := newHearing()
	for i, id := range []lease.NodeID{"t", "a", "b"} {
		h.note(beat{Node: id, Version: fmt.Sprint(i)}, control.Instant(i+1)*control.Instant(time.Second))
	}
	h.note(beat{Node: "t", Version: "9"}, control.Instant(3*time.Second))
	now := control.Instant(4 * time.Second)
	for d, want := range map[time.Duration]string{
		0: "[]", 999 * time.Millisecond: "[]", time.Second: "[b t]", 2 * time.Second: "[a b t]",
	} {
		if got := fmt.Sprint(h.since(now, d)); got != want {
			t.Errorf("heard within %s: %s, want %s", d, got, want)
		}
	}
	if got := h.beats["t"].Version; got != "9" {
		t.Errorf("last beat of t is of version %s, want the newest", got)
	}
}

// TestRaftID holds the identities in every data directory there is: they may never change.
func TestRaftID(t *testing.T) {
	for name, want := range map[lease.NodeID]uint64{
		"a": 0xaf63dc4c8601ec8c, "b": 0xaf63df4c8601f1a5, "t": 0xaf63e94c860202a3, "abcdefghijklmnop": 0x7ef46f6c05086855,
	} {
		if got := RaftID(name); got != want {
			t.Errorf("RaftID(%s) = %#x, want %#x", name, got, want)
		}
	}
}

func TestPhasesSumToTheWhole(t *testing.T) {
	var p phases
	ms := func(n int64) control.Instant { return control.Instant(n * int64(time.Millisecond)) }
	mark := func(at int64, to control.State) { p.note(&control.Transition{To: to, At: ms(at)}) }
	if got := p.timings(); got != nil {
		t.Errorf("before any takeover: %v", got)
	}
	mark(1, control.Standby)
	for i, to := range []control.State{control.Fencing, control.Stopping, control.Standby} { // one that was given up
		mark(int64(10*i+10), to)
	}
	for i, to := range []control.State{control.Fencing, control.Draining, control.Adopting, control.Starting, control.Active} {
		mark(int64(100+i*i), to)
	}
	if got, want := fmt.Sprint(p.timings()), "[{fence 1ms} {drain 3ms} {adopt 5ms} {start 7ms}]"; got != want {
		t.Errorf("phases = %s, want %s, 16 ms together", got, want)
	}
	mark(500, control.Stopping)
	mark(600, control.Standby)
	if got, want := fmt.Sprint(p.timings()), "[{fence 1ms} {drain 3ms} {adopt 5ms} {start 7ms}]"; got != want {
		t.Errorf("after the life: %s, want %s", got, want)
	}
}

// TestWire: what the parts report reaches the machines it concerns.
func TestWire(t *testing.T) {
	cfg := Config{Nodes: map[string]Member{"a": {}, "b": {}, "t": {Witness: true}}}
	w := NewWire(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	w.Leadership(raftstore.Leadership{Self: true, Ready: true})
	w.Leadership(raftstore.Leadership{Self: true})
	w.Leadership(raftstore.Leadership{Leader: RaftID("b")})
	w.PeerLost(RaftID("b"), true)
	w.PeerLost(RaftID("t"), false)
	w.Beat(RaftID("a"), fullBeat().encode())
	w.Beat(RaftID("b"), fullBeat().encode()) // b speaks in a's name
	w.Beat(17, fullBeat().encode())
	w.Beat(RaftID("a"), []byte("noise"))
	job := w.Job("etl")
	job.Exited(3, "exit code 1")
	job.Idle(3, time.Second)
	row := fence.Row{Epoch: 3, Node: "a", Token: string(lifeA)}
	job.Health(fence.Health{Reachable: true, Writable: true, Row: row, HighestRole: 4})
	job.Health(fence.Health{Reachable: true})
	job.Health(fence.Health{Writable: true})
	want := strings.Join([]string{
		"all: control.Leading {On:true}", "all: control.Leading {On:false}", "all: control.Leading {On:false}",
		"all: control.Lost {Node:b Refused:true}", "all: control.Lost {Node:t Refused:false}",
		"all: <nil> <nil>", // the beat
		"etl: control.Exited {Epoch:3 Detail:exit code 1}", "etl: control.Progress {Epoch:3 Idle:1s}",
		fmt.Sprintf("etl: control.Fence {Healthy:true Row:{Epoch:3 Node:a Token:%s} HighestRole:4}", lifeA),
		"etl: control.Fence {Healthy:false Row:{Epoch:0 Node: Token:} HighestRole:0}",
		"etl: control.Fence {Healthy:false Row:{Epoch:0 Node: Token:} HighestRole:0}",
	}, "; ")
	if got := told(w.mail); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

// TestDroppedBeatsAreCounted: a peer that speaks nonsense at every pulse fills no disk with complaints.
func TestDroppedBeatsAreCounted(t *testing.T) {
	var out strings.Builder
	w := NewWire(Config{Nodes: map[string]Member{"a": {}, "b": {}}}, slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Now()
	w.now = func() time.Time { return now }
	long := beat{Node: lease.NodeID(strings.Repeat("X", 10_000))}.encode()
	for range 100 {
		w.Beat(RaftID("b"), fullBeat().encode()) // in a's name
	}
	w.Beat(RaftID("a"), long)
	now = now.Add(dropEvery)
	w.Beat(RaftID("b"), fullBeat().encode())
	w.Beat(RaftID("a"), fullBeat().encode())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	for i, want := range []string{`peer=b count=1 err="it is a's"`, "peer=a count=1", "peer=b count=100"} {
		if !strings.Contains(lines[i], want) || len(lines[i]) > 2*maxDrop {
			t.Errorf("line %d is %s, want %s", i, lines[i], want)
		}
	}
}
