package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// ringFile is what a keyring file is to its readers: its keys, and who has read it how often since they changed.
type ringFile struct {
	mu   sync.Mutex
	keys [][]byte
	read map[string]int
}

func (f *ringFile) put(keys ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys, f.read = keys, map[string]int{}
}

func (f *ringFile) reader(name string) func() [][]byte {
	return func() [][]byte {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.read[name]++
		return f.keys
	}
}

// taken says that a member has come back for the keys, and so has done with them what it had to.
func (f *ringFile) taken(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read[name] > 1
}

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// answered is when a member last answered this one's ping.
func answered(g *Gossip, node string) time.Time {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	if e := g.table.members[node]; e != nil {
		return e.answered
	}
	return time.Time{}
}

// TestRotation: a key is added on all nodes, made the first on all, and the old one removed, each node at its own time. They never
// lose each other, and who has the old key only is heard at first, and then not any more.
func TestRotation(t *testing.T) {
	t.Parallel()
	old, next := testKey, bytes.Repeat([]byte{9}, 32)
	names, addrs := []string{"a", "b", "t"}, []string{freeAddr(t), freeAddr(t), freeAddr(t)}
	file, said := &ringFile{}, &journal{}
	file.put(old)
	nodes := map[string]*Gossip{}
	for i, name := range names {
		cfg := config(name, addrs[i], addrs...)
		cfg.Cluster, cfg.Rotated = "prod", file.reader(name)
		if name == "a" {
			cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
		}
		nodes[name], _ = start(t, cfg)
	}
	// heard waits until all have taken the keys and then been answered by all others.
	heard := func(stage string) {
		t.Helper()
		for _, name := range names {
			until(t, nodes[name], stage+": keys taken", func(map[string]Member) bool { return file.taken(name) })
		}
		since := time.Now()
		for _, name := range names {
			until(t, nodes[name], stage+": answers", func(members map[string]Member) bool {
				for _, other := range names {
					if m, known := members[other]; known && (m.State == Dead || m.State == Left) {
						t.Fatalf("%s: %s takes %s for %s", stage, name, other, m.State)
					}
					if other != name && !answered(nodes[name], other).After(since) {
						return false
					}
				}
				return true
			})
		}
	}
	heard("before")
	file.put(old, next)
	heard("added")
	late := config("w", freeAddr(t), addrs[0])
	late.Cluster = "prod"
	start(t, late)
	until(t, nodes["a"], "who has the old key only is seen", stateIs("w", Alive))
	file.put(next, old)
	heard("promoted")
	file.put(next)
	heard("removed")
	until(t, nodes["a"], "who has the old key only is not heard any more", stateIs("w", Dead))
	until(t, nodes["a"], "it is said why", func(map[string]Member) bool {
		return strings.Contains(said.String(), "port=gossip reason=key")
	})
	for _, key := range []string{fmt.Sprintf("%x", next), string(next), string(old)} {
		if strings.Contains(said.String(), key) {
			t.Errorf("a key in the log: %s", said)
		}
	}
}

// TestRotate: the ring holds what it is to hold, whatever it held before, and may be read meanwhile (with -race).
func TestRotate(t *testing.T) {
	key := func(c rune) []byte { return bytes.Repeat([]byte{byte(c)}, 16) }
	all := func(text string) (keys [][]byte) {
		for _, c := range text {
			keys = append(keys, key(c))
		}
		return keys
	}
	for _, from := range []string{"a", "ab", "abc", "abcd", "dcba"} {
		for _, to := range []string{"a", "b", "x", "ba", "ac", "xa", "axb", "ax", "acb", "ab", "aa"} {
			ring, err := memberlist.NewKeyring(all(from), key(rune(from[0])))
			if err != nil {
				t.Fatal(err)
			}
			stop, reading := make(chan struct{}), sync.WaitGroup{}
			reading.Go(func() {
				for n := 0; ; n++ {
					for _, k := range ring.GetKeys() {
						n += int(k[0])
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
			if err := rotate(ring, all(to)); err != nil {
				t.Error(err)
			}
			close(stop)
			reading.Wait()
			var got string
			for _, k := range ring.GetKeys() {
				got += string(k[:1])
			}
			want := to
			if to == "aa" {
				want = "a"
			}
			if got[0] != to[0] || len(got) != len(want) || strings.Trim(got, to) != "" {
				t.Errorf("from %s to %s: %s", from, to, got)
			}
		}
	}
}

// TestRefusals: memberlist's words for what it did not listen to are told apart, and a flood of them is a line in five seconds.
func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`[ERR] memberlist: discarding packet with unacceptable label "Failed to send from=x": from=10.0.0.9:1`:            "cluster 10.0.0.9:1",
		"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:1":            "key 10.0.0.9:1",
		"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=10.0.0.9:1": "key 10.0.0.9:1",
		"[ERR] memberlist: failed to receive: remote node state is larger than limit (99999999) from=10.0.0.9:1":          "message 10.0.0.9:1",
		"[ERR] memberlist: failed to receive and remove the stream label header: EOF from=10.0.0.9:1":                     " 10.0.0.9:1",
		"[ERR] memberlist: Failed to send ack: no route to host from=10.0.0.9:1":                                          " 10.0.0.9:1",
		"[DEBUG] memberlist: Stream connection from=10.0.0.9:1":                                                           " ",
		"[ERR] memberlist: Push/Pull with b failed: connection refused":                                                   " ",
	} {
		if reason, peer := refusal(text); reason+" "+peer != want {
			t.Errorf("%s: %q %q, want %q", text, reason, peer, want)
		}
	}
	said, now := &journal{}, time.Unix(1000, 0)
	e := &ear{log: slog.New(slog.NewTextHandler(said, nil)), now: func() time.Time { return now }, counts: map[string]*count{}}
	flood := func() {
		for range 1000 {
			_, _ = e.Write([]byte("[ERR] memberlist: Decrypt packet failed: " + strings.Repeat("x", 1000) + " from=10.0.0.9:1\n"))
		}
	}
	flood()
	now = now.Add(tellEvery)
	flood()
	if text := said.String(); strings.Count(text, "turned away") != 2 || !strings.Contains(text, "count=1000") || len(text) > 1200 {
		t.Errorf("%s", text)
	}
}
