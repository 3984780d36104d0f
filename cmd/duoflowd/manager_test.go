package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/control"
)

// stuck is how long a test waits for what has to come.
const stuck = time.Minute

// overseen is a service manager's socket, which the environment names.
func overseen(t *testing.T) *net.UnixConn {
	t.Helper()
	socket := &net.UnixAddr{Name: fmt.Sprintf("@duoflowd-test-%d-%d", os.Getpid(), rand.Int64()), Net: "unixgram"} // a path may be too long for one
	conn, err := net.ListenUnixgram("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv(notifyVariable, socket.Name)
	t.Setenv(everyVariable, "100000")
	t.Setenv(watchedVariable, strconv.Itoa(os.Getpid()))
	return conn
}

// heard reads words until want has been said so many times.
func heard(t *testing.T, conn *net.UnixConn, want string, times int) {
	t.Helper()
	word := make([]byte, 100)
	for times > 0 {
		if err := conn.SetReadDeadline(time.Now().Add(stuck)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(word)
		if err != nil {
			t.Fatalf("waiting for %s: %v", want, err)
		}
		if string(word[:n]) == want {
			times--
		}
	}
}

// lonely is the configuration of a witness whose peers are not there, on a loopback address of its own.
func lonely(t *testing.T) node.Config {
	t.Helper()
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
	text := strings.ReplaceAll(`cluster: x
node: t
witness: true
data_dir: data
insecure_loopback: true
listen: {peer: "IP:7400", gossip: "IP:7401", admin: "IP:7402", http: "IP:7403"}
nodes: {a: "127.0.0.1:1", b: "127.0.0.2:1", t: {peer: "IP:7400", witness: true}}
gossip: {keyring: keys}
jobs: {scheduler: {kind: command, command: ["true"]}}
`, "IP", ip)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys"), []byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.ParseConfig([]byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestManagerIsTold: a daemon is ready when all it listens on can be reached, although it has no quorum; then it gives signs of life,
// and says when it is about to end.
func TestManagerIsTold(t *testing.T) {
	conn, cfg := overseen(t), lonely(t)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	heard(t, conn, "READY=1", 1)
	for _, addr := range []string{cfg.Listen.Peer, cfg.Listen.Gossip, cfg.Listen.Admin, cfg.Listen.HTTP} {
		reached, err := net.DialTimeout("tcp", addr, stuck)
		if err != nil {
			t.Errorf("ready, and %v", err)
			continue
		}
		_ = reached.Close()
	}
	heard(t, conn, "WATCHDOG=1", 3)
	end()
	heard(t, conn, "STOPPING=1", 1)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestManagerIsNotToldTooEarly: a daemon that cannot listen was never ready.
func TestManagerIsNotToldTooEarly(t *testing.T) {
	conn, cfg := overseen(t), lonely(t)
	taken, err := net.Listen("tcp", cfg.Listen.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); exitCode(err) != exitFailed {
		t.Errorf("it ended with %v", err)
	}
	var said []string
	word := make([]byte, 100)
	for len(said) == 0 || said[len(said)-1] != "STOPPING=1" {
		if err := conn.SetReadDeadline(time.Now().Add(stuck)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(word)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, string(word[:n]))
	}
	if slices.Contains(said, "READY=1") {
		t.Errorf("it said %q", said)
	}
}

// TestManagerThatDoesNotRead: the loop does not wait for one.
func TestManagerThatDoesNotRead(t *testing.T) {
	conn := overseen(t)
	m, err := findManager(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 10_000 { // a socket holds some ten or some hundred
			m.alive(control.Instant(i+1) * control.Instant(time.Second))
		}
	}()
	select {
	case <-done:
	case <-time.After(stuck):
		t.Fatal("the loop waits")
	}
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		t.Error(err)
	}
	if err := m.send("x", unix.MSG_DONTWAIT); err != nil {
		t.Errorf("after one was read: %v", err)
	}
	if err := m.send("x", unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the socket was not full: %v", err)
	}
}

// TestSignsOfLife come as often as they are wanted, and not with each turn of the loop.
func TestSignsOfLife(t *testing.T) {
	conn := overseen(t)
	m, err := findManager(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if m.every != 50*time.Millisecond {
		t.Fatalf("every %v, not half of what the manager waits for", m.every)
	}
	for now := time.Second; now < 2*time.Second; now += 10 * time.Millisecond {
		m.alive(control.Instant(now))
		if now == 1500*time.Millisecond {
			heard(t, conn, "WATCHDOG=1", 10)
		}
	}
	heard(t, conn, "WATCHDOG=1", 10)
	m.tell("END")
	word := make([]byte, 100)
	if n, err := conn.Read(word); err != nil || string(word[:n]) != "END" {
		t.Errorf("%q follows, %v", word[:n], err)
	}
}

func TestFindManager(t *testing.T) {
	for _, tt := range []struct {
		name, socket, every, watched string
		want                         time.Duration
		none, wrong                  bool
	}{
		{"nobody", "", "1000", "", 0, true, false},
		{"no watchdog", "/run/x", "", "", 0, false, false},
		{"by name", "@x", "4000000", "", 2 * time.Second, false, false},
		{"another process is watched", "/run/x", "1000", "1", 0, false, false},
		{"no path", "x", "", "", 0, false, true},
		{"no number", "/run/x", "often", "", 0, false, true},
		{"never", "/run/x", "0", "", 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(notifyVariable, tt.socket)
			t.Setenv(everyVariable, tt.every)
			t.Setenv(watchedVariable, tt.watched)
			m, err := findManager(nil)
			if (err != nil) != tt.wrong || (m == nil) != (tt.none || tt.wrong) {
				t.Fatalf("%+v, %v", m, err)
			}
			if m != nil && m.every != tt.want {
				t.Errorf("every %v, not %v", m.every, tt.want)
			}
			for _, line := range environment(nil) {
				if name, _, _ := strings.Cut(line, "="); slices.Contains([]string{notifyVariable, everyVariable, watchedVariable}, name) {
					t.Errorf("a job inherits %s", line)
				}
			}
		})
	}
}
