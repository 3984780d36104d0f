package gossip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestNewReportsEveryProblem(t *testing.T) {
	_, err := New(Config{
		Node: "A", Cluster: strings.Repeat("c", 300), Listen: "0.0.0.0:1", Seeds: []string{"b", "b:0", ":1"},
		Keys: [][]byte{{1}}, Meta: Meta{Version: strings.Repeat("v", 600)},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`node "A"`, "cluster", `listen "0.0.0.0:1"`, `seed "b"`, `seed "b:0"`, `seed ":1"`, "keys[0]", "512"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	for _, listen := range []string{"", "localhost:7401", ":7401", "[::]:7401"} {
		cfg := config("a", listen)
		if _, err := New(cfg); err == nil {
			t.Errorf("listen %q accepted: memberlist would listen everywhere", listen)
		}
	}
	if cfg := config("a", "127.0.0.1:1"); true {
		cfg.Keys = nil
		if _, err := New(cfg); err == nil {
			t.Error("accepted without a key")
		}
	}
}

func TestMembersBeforeRunIsThisNode(t *testing.T) {
	g, err := New(config("a", "127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	got := g.Members()
	if len(got) != 1 || got[0].Node != "a" || got[0].State != Alive || got[0].Meta.Version != "v0" {
		t.Errorf("members %+v", got)
	}
}

func TestMetaFitsTheLimitExactly(t *testing.T) {
	overhead := len(`{"v":""}`)
	m := Meta{Version: strings.Repeat("v", memberlist.MetaMaxSize-overhead)}
	text, err := m.encode()
	if err != nil || len(text) != memberlist.MetaMaxSize {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if got, err := decodeMeta(text); err != nil || got != m {
		t.Errorf("round trip: %v %v", got, err)
	}
	m.Version += "v"
	if _, err := m.encode(); err == nil {
		t.Error("one byte too many accepted")
	}
	if _, err := decodeMeta(append(text, ' ')); err == nil {
		t.Error("one byte too many read")
	}
}

func TestParseKeyring(t *testing.T) {
	keys, err := ParseKeyring("# primary\nAAECAwQFBgcICQoLDA0ODw==\n\n  AAECAwQFBgcICQoLDA0ODxAREhMUFRYX  \n")
	if err != nil || len(keys) != 2 || len(keys[0]) != 16 || len(keys[1]) != 24 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	for text, want := range map[string]string{
		"":              "no key",
		"# only":        "no key",
		"\nsecret key!": "line 2 is not base64",
		"AAECAw==":      "line 1: key of 4 bytes",
	} {
		_, err := ParseKeyring(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// FuzzDecodeMeta: whatever a key holder sends is read into a Meta that encodes again, or refused.
func FuzzDecodeMeta(f *testing.F) {
	f.Add([]byte(`{"v":"1","r":"witness","p":"h:1","a":"h:2","h":"h:3"}`))
	f.Add([]byte(`{"v":1}`))
	f.Add([]byte(`[]`))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte("x"), 513))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := decodeMeta(text)
		if err != nil {
			if (m != Meta{}) || !strings.HasPrefix(err.Error(), "decode meta: ") {
				t.Errorf("refused with %v but returned %+v", err, m)
			}
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		var back Meta
		if err := json.Unmarshal(again, &back); err != nil || back != m {
			t.Errorf("%+v became %+v, %v", m, back, err)
		}
	})
}

// newTable is a table with a clock in the hand of the test.
func newTable(now *time.Time) *table {
	g, err := New(config("a", "127.0.0.1:1"))
	if err != nil {
		panic(err)
	}
	g.table.now = func() time.Time { return *now }
	return g.table
}

func node(name string, port uint16, meta string) *memberlist.Node {
	return &memberlist.Node{Name: name, Addr: net.IPv4(127, 0, 0, 1), Port: port, Meta: []byte(meta)}
}

func TestTableTellsSuspectDeadAndLeft(t *testing.T) {
	now := time.Unix(1000, 0)
	table := newTable(&now)
	b := node("b", 2, `{"v":"1"}`)
	state := func() Member { return table.list()[1] }
	table.NotifyJoin(b)
	table.NotifyPingComplete(b, 800*time.Microsecond, nil)
	table.NotifyPingComplete(b, 1600*time.Microsecond, nil)
	if m := state(); m.State != Alive || m.RTT != 900*time.Microsecond {
		t.Errorf("after two pings %+v", m)
	}
	now = now.Add(suspectAfter(1))
	if m := state(); m.State != Alive {
		t.Errorf("at the limit %+v", m)
	}
	now = now.Add(time.Nanosecond)
	if m := state(); m.State != Suspect {
		t.Errorf("past the limit %+v", m)
	}
	table.NotifyPingComplete(b, time.Millisecond, nil)
	if m := state(); m.State != Alive {
		t.Errorf("after an answer %+v", m)
	}
	table.NotifyLeave(b)
	if m := state(); m.State != Dead || m.RTT != 0 {
		t.Errorf("without a goodbye %+v", m)
	}
	table.NotifyJoin(b)
	table.NotifyMsg([]byte("bye b"))
	table.NotifyLeave(b)
	if m := state(); m.State != Left {
		t.Errorf("after a goodbye %+v", m)
	}
	table.NotifyJoin(b)
	table.NotifyLeave(b)
	if m := state(); m.State != Dead {
		t.Errorf("an old goodbye counted: %+v", m)
	}
}

func TestTableKeepsAMemberWithUnreadableMeta(t *testing.T) {
	now := time.Unix(1000, 0)
	table := newTable(&now)
	table.NotifyJoin(node("b", 2, "{"))
	if m := table.list()[1]; m.State != Alive || m.Meta != (Meta{}) {
		t.Errorf("%+v", m)
	}
	table.NotifyUpdate(node("b", 3, `{"r":"witness"}`))
	if m := table.list()[1]; m.Addr != "127.0.0.1:3" || m.Meta.Role != "witness" {
		t.Errorf("%+v", m)
	}
}

func TestTableRefusesStrangeNamesAndAFlood(t *testing.T) {
	now := time.Unix(1000, 0)
	table := newTable(&now)
	for _, name := range []string{"", "A", "a/b", strings.Repeat("a", 17), "a\nb"} {
		if table.NotifyAlive(node(name, 1, "")) == nil {
			t.Errorf("name %q accepted", name)
		}
	}
	for i := range 2 * maxMembers {
		n := node(fmt.Sprintf("n%d", i), 1, "")
		if table.NotifyAlive(n) == nil {
			table.NotifyJoin(n)
		}
	}
	if got := len(table.list()); got != maxMembers {
		t.Errorf("%d members kept", got)
	}
	if err := table.NotifyAlive(node("n0", 1, "")); err != nil {
		t.Errorf("a known member is refused: %v", err)
	}
	table.NotifyMsg([]byte("bye nobody"))
	table.NotifyMsg([]byte("something else"))
	table.NotifyLeave(node("nobody", 1, ""))
	table.NotifyPingComplete(node("nobody", 1, ""), time.Second, nil)
}
