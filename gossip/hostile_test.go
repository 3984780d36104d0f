package gossip

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGarbageDoesNotHurt: packets and streams of nobody who holds the key are dropped, whatever they are; the members
// stay as they are, and what a stream costs is given back.
func TestGarbageDoesNotHurt(t *testing.T) {
	addrA, addrB := freeAddr(t), freeAddr(t)
	said := &journal{}
	victim := config("a", addrA, addrB)
	victim.Logger = slog.New(slog.NewTextHandler(said, nil))
	a, _ := start(t, victim)
	start(t, config("b", addrB, addrA))
	both := func(m map[string]Member) bool { return m["b"].State == Alive && m["a"].State == Alive }
	until(t, a, "both alive", both)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	stranger := config("x", freeAddr(t), addrA)
	stranger.Keys = [][]byte{bytes.Repeat([]byte{9}, 32)}
	x, _ := start(t, stranger)
	otherCluster := config("y", freeAddr(t), addrA)
	otherCluster.Cluster = "other"
	y, _ := start(t, otherCluster)
	var joined sync.WaitGroup
	for range 4 {
		joined.Go(func() { sprayPackets(addrA) })
		joined.Go(func() { openStreams(addrA) })
	}
	joined.Wait()

	for _, reason := range []string{"key", "cluster", "silent", "message"} {
		until(t, a, "told of "+reason, func(map[string]Member) bool {
			return strings.Contains(said.String(), "port=gossip reason="+reason)
		})
	}
	if lines := strings.Count(said.String(), "\n"); lines > 100 {
		t.Errorf("%d lines of log", lines)
	}
	until(t, a, "both alive after the noise", both)
	for g, want := range map[*Gossip]string{a: "a b", x: "x", y: "y"} {
		var names []string
		for _, m := range g.Members() {
			names = append(names, m.Node)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s knows %s", g.cfg.Node, got)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > 200 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 || runtime.NumGoroutine() > 200 {
		t.Errorf("%d MiB and %d goroutines are left", grown>>20, runtime.NumGoroutine())
	}
}

// garbage is every type of message that memberlist knows, and all others, followed by noise.
func garbage(i int) []byte {
	b := make([]byte, 1+i%1400)
	_, _ = rand.Read(b)
	b[0] = byte(i)
	return b
}

func sprayPackets(to string) {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return
	}
	defer conn.Close()
	for i := range 5000 {
		_, _ = conn.Write(garbage(i)) // a full buffer drops it, as any network may
	}
}

// openStreams sends noise on 250 streams at once, a tenth of which say that a lot of it will follow, and a tenth that more will
// than is allowed.
func openStreams(to string) {
	var open []net.Conn
	for i := range 250 {
		conn, err := net.Dial("tcp", to)
		if err != nil {
			continue
		}
		open = append(open, conn)
		text := garbage(i)
		if i%10 == 0 { // an encrypted message of 16 MiB
			text = append([]byte{10, 1, 0, 0, 0}, text...)
		}
		if i%10 == 5 { // one that is longer than any may be
			text = append([]byte{10, 0xff, 0, 0, 0}, text...)
		}
		_, _ = conn.Write(text)
	}
	for _, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = fmt.Fscanln(conn) // until the other side has had enough
		conn.Close()
	}
}
