package replica

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// TestTranscripts plays the stories in testdata: three replicas and a network, in one goroutine, one
// command after the other. Raft's jitter is seeded, so a story is the same every time. Rewrite the
// expectations with -rewrite and read the difference.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		cryptotest.SetGlobalRandom(t, 1)
		w := &world{t: t}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
			w.out.Reset()
			w.command(d)
			if w.out.Len() == 0 {
				return "ok"
			}
			return w.out.String()
		})
	})
}

// machine is a state machine that joins the commands.
type machine struct{ text string }

func (m *machine) Apply(_ uint64, data []byte)   { m.text += string(data) }
func (m *machine) Snapshot() ([]byte, error)     { return []byte(m.text), nil }
func (m *machine) Restore(snapshot []byte) error { m.text = string(snapshot); return nil }

// world is the cluster of one story: nodes 1, 2 and 3.
type world struct {
	t       *testing.T
	out     strings.Builder
	cfg     Config
	nodes   map[uint64]*node
	network []*pb.Message // in the order of sending
	cut     map[uint64]bool
	drop    string // type of messages that are lost and told of; "" = none
}

// node is one member; replica is nil while it is down.
type node struct {
	replica  *Replica
	memory   *Memory
	machine  *machine
	wake     time.Duration
	frozen   bool // the disk stands still
	saving   bool // and owes a save
	founded  bool // its disk was, when it went down
	newcomer bool // it was not there when the group was made
}

// ids are those that a group is made of; the world turns in the order of all that there are.
var ids = []uint64{1, 2, 3}

func (w *world) all() []uint64 { return slices.Sorted(maps.Keys(w.nodes)) }

// command runs one line of a story.
func (w *world) command(d *datadriven.TestData) {
	var at uint64
	count, wiped, text := 1, false, ""
	d.MaybeScanArgs(w.t, "node", &at)
	d.MaybeScanArgs(w.t, "n", &count)
	d.MaybeScanArgs(w.t, "text", &text)
	wiped = d.HasArg("wiped")
	switch d.Cmd {
	case "cluster": // three new nodes
		w.cluster(d)
	case "start": // a node that was down, on its storage or (wiped) on a new one
		w.start(at, wiped, text)
	case "kill": // messages to it are lost
		w.nodes[at].replica, w.nodes[at].founded = nil, w.nodes[at].replica.doubt.founded
	case "cut", "join": // what is under way to or from the node is lost while it is cut
		w.cut[at] = d.Cmd == "cut"
	case "freeze", "thaw": // the disk stands still: no save ends
		w.nodes[at].frozen = d.Cmd == "freeze"
		w.flush(at)
	case "drop": // lose, and tell of, every message of one type from now on; no type = none
		w.drop = ""
		d.MaybeScanArgs(w.t, "type", &w.drop)
	case "run": // n ticks of everybody, with all messages; tells changes of leadership
		for range count {
			w.turn()
		}
	case "tick": // n ticks of one node, without delivering
		for range count {
			w.nodes[at].replica.Tick()
			w.flush(at)
		}
	case "deliver": // all messages until none is left; tells each
		w.deliver(true)
	case "newcomer": // a node that is not of the group yet, and is connected with everybody
		w.nodes[at] = &node{newcomer: true}
		w.start(at, true, "")
	case "change": // the node is told to add, promote or remove another
		w.change(d, at)
	case "propose":
		if err := w.nodes[at].replica.Propose([]byte(text)); err != nil {
			fmt.Fprintln(&w.out, err)
		}
		w.flush(at)
	case "read": // tells the number of the read when the node's machine is new enough for it
		var number int
		d.ScanArgs(w.t, "number", &number)
		if err := w.nodes[at].replica.Read(uint64(number)); err != nil {
			fmt.Fprintln(&w.out, err)
		}
		w.flush(at)
	case "lost": // the node learns that the process of another is gone
		w.lost(d, at)
	case "wake":
		w.nodes[at].replica.Wake()
		w.flush(at)
	case "status":
		w.status()
	default:
		w.t.Fatalf("unknown command %s", d.Cmd)
	}
}

// cluster makes three new nodes that know each other to be new.
func (w *world) cluster(d *datadriven.TestData) {
	w.cfg = Config{HeartbeatTicks: 3, ElectionTicks: 30, SnapshotEvery: 1000, KeepEntries: 100}
	d.MaybeScanArgs(w.t, "preferred", &w.cfg.Preferred)
	d.MaybeScanArgs(w.t, "every", &w.cfg.SnapshotEvery)
	d.MaybeScanArgs(w.t, "keep", &w.cfg.KeepEntries)
	w.nodes, w.network, w.cut = map[uint64]*node{}, nil, map[uint64]bool{}
	w.drop = ""
	for _, id := range ids {
		w.nodes[id] = &node{}
	}
	for _, id := range ids {
		w.start(id, true, "")
	}
}

// start brings a node up and connects it.
func (w *world) start(id uint64, wiped bool, doubt string) {
	n := w.nodes[id]
	snapshot, hard := Seed(ids)
	if n.newcomer {
		snapshot, hard = Blank()
	}
	var entries []*pb.Entry
	if !wiped {
		snapshot, hard, entries = stored(w.t, n.memory)
	}
	memory, err := NewMemory(snapshot, hard, entries)
	if err != nil {
		w.t.Fatal(err)
	}
	n.memory, n.machine, n.saving = memory, &machine{}, false
	cfg := w.cfg
	cfg.ID, cfg.Storage, cfg.Machine, cfg.Doubt = id, n.memory, n.machine, doubt
	cfg.Founded = !wiped && n.founded
	if !n.newcomer {
		cfg.Members = bootstrap()
	}
	cfg.Current = func(number uint64) { fmt.Fprintf(&w.out, "%d: read %d of %q\n", id, number, n.machine.text) }
	if n.replica, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	for _, other := range w.all() {
		if o := w.nodes[other]; other != id && o.replica != nil {
			n.replica.Link(other, true)
			n.replica.PeerFresh(other, o.replica.Fresh())
			n.replica.PeerTerm(other, o.replica.Term())
			n.replica.PeerMembers(o.replica.State().Members)
			o.replica.PeerMembers(n.replica.State().Members)
			o.replica.Link(id, true)
			o.replica.PeerFresh(id, n.replica.Fresh())
			o.replica.PeerTerm(id, n.replica.Term())
			w.flush(other)
		}
	}
	w.flush(id)
}

// stored reads what a memory would leave on a disk.
func stored(t *testing.T, m *Memory) (*pb.Snapshot, *pb.HardState, []*pb.Entry) {
	t.Helper()
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	first, ferr := m.FirstIndex()
	last, lerr := m.LastIndex()
	if err := errors.Join(ferr, lerr); err != nil {
		t.Fatal(err)
	}
	var entries []*pb.Entry
	if first > snapshot.GetMetadata().GetIndex()+1 {
		t.Fatalf("the log begins at %d behind the snapshot", first)
	}
	if first-1 < snapshot.GetMetadata().GetIndex() { // the anchor, of which only index and term are known
		term, err := m.Term(first - 1)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &pb.Entry{Index: new(first - 1), Term: new(term)})
	}
	if last >= first {
		rest, err := m.Entries(first, last+1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, rest...)
	}
	return snapshot, m.Hard(), entries
}

// flush runs one node's work and collects what leaves it.
func (w *world) flush(id uint64) {
	n := w.nodes[id]
	for {
		if n.saving && !n.frozen {
			if err := n.replica.Saved(); err != nil {
				w.t.Fatal(err)
			}
			n.saving = false
		}
		out, err := n.replica.Flush()
		if err != nil {
			w.t.Fatal(err)
		}
		w.leave(id, out)
		if n.saving && out.Save != nil {
			w.t.Fatalf("node %d has two saves under way", id)
		}
		n.saving = n.saving || out.Save != nil
		if !n.saving || n.frozen {
			return
		}
	}
}

// leave collects one output.
func (w *world) leave(id uint64, out Output) {
	w.network = append(w.network, out.Messages...)
	if out.Wake > 0 {
		w.nodes[id].wake = out.Wake
		fmt.Fprintf(&w.out, "%d wants to wake in %s\n", id, out.Wake)
	}
	for _, entry := range out.Dropped {
		fmt.Fprintf(&w.out, "%d: %q was given back\n", id, entry.GetData())
	}
	for _, m := range out.Members {
		fmt.Fprintf(&w.out, "%d: voters %d, learners %d, removed %v\n", id, m.Roster.Voters(), m.Roster.Learners(), m.Roster.Removed)
	}
	if l := out.Leadership; l != nil {
		fmt.Fprintf(&w.out, "%d: %s\n", id, describe(*l))
	}
}

// describe says who leads.
func describe(l Leadership) string {
	text := fmt.Sprintf("term %d leader %d", l.Term, l.Leader)
	if l.Self {
		text += " (self)"
	}
	if l.Ready {
		text += " ready"
	}
	return text
}

// turn is one tick of everybody.
func (w *world) turn() {
	for _, id := range w.all() {
		if w.nodes[id].replica != nil {
			w.nodes[id].replica.Tick()
			w.flush(id)
		}
	}
	w.deliver(false)
}

// deliver empties the network.
func (w *world) deliver(tell bool) {
	for len(w.network) > 0 {
		m := w.network[0]
		w.network = w.network[1:]
		to := w.nodes[m.GetTo()]
		dropped := m.GetType().String() == w.drop
		lost := dropped || to.replica == nil || w.cut[m.GetTo()] || w.cut[m.GetFrom()]
		if tell || dropped {
			mark := ""
			if lost {
				mark = " LOST"
			}
			fmt.Fprintf(&w.out, "%s%s\n", raft.DescribeMessage(m, nil), mark)
		}
		if lost {
			if from := w.nodes[m.GetFrom()].replica; from != nil {
				from.Unreachable(m.GetTo())
			}
			continue
		}
		if m.GetType() == pb.MsgSnap {
			w.nodes[m.GetFrom()].replica.SnapshotSent(m.GetTo(), true)
		}
		if err := to.replica.Step(m); err != nil {
			fmt.Fprintln(&w.out, err)
		}
		w.flush(m.GetTo())
	}
}

// bootstrap is the roster that the nodes' configurations name.
func bootstrap() roster.Roster {
	var members []roster.Member
	for _, id := range ids {
		members = append(members, person(id))
	}
	return roster.New(members)
}

func person(id uint64) roster.Member {
	return roster.Member{ID: id, Name: fmt.Sprint("n", id), Addr: fmt.Sprint("h:", id)}
}

// change has a node propose a change of members.
func (w *world) change(d *datadriven.TestData, at uint64) {
	var c roster.Change
	var add uint64
	d.MaybeScanArgs(w.t, "add", &add)
	d.MaybeScanArgs(w.t, "promote", &c.Promote)
	d.MaybeScanArgs(w.t, "remove", &c.Remove)
	if add != 0 {
		m := person(add)
		c.Add = &m
	}
	if err := w.nodes[at].replica.Change(7, c); err != nil {
		fmt.Fprintln(&w.out, err)
	}
	w.flush(at)
}

// lost tells a node about another.
func (w *world) lost(d *datadriven.TestData, at uint64) {
	var id uint64
	d.ScanArgs(w.t, "id", &id)
	w.nodes[at].replica.Lost(id)
	w.flush(at)
}

// status tells everything about everybody.
func (w *world) status() {
	for _, id := range w.all() {
		n := w.nodes[id]
		if n.replica == nil {
			fmt.Fprintf(&w.out, "%d: down\n", id)
			continue
		}
		s := n.replica.State()
		fmt.Fprintf(&w.out, "%d: %s, log %d..%d commit %d applied %d %q",
			id, describe(s.Leadership), s.Snapshot, s.Last, s.Commit, s.Applied, n.machine.text)
		if s.Doubt != "" {
			fmt.Fprintf(&w.out, " doubt: %s", s.Doubt)
		}
		if s.Stuck {
			fmt.Fprint(&w.out, " STUCK")
		}
		fmt.Fprintln(&w.out)
	}
}
