package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// childEnv makes this test binary build a lab with a busy host, print its facts and wait to be killed.
const childEnv = "DUOFLOW_LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(noiseEnv); text != "" {
		makeNoise(text)
	}
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	l, err := lab.Up(context.Background(), lab.Options{Hosts: []string{"a"}})
	if err == nil {
		_, err = l.Host("a").Start(lab.Spec{Name: "tree", Args: []string{"sh", "-c", family}})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(l.Net.Addr(lab.Hub))
	select {}
}

// family is a process, its child in a session of its own, and a grandchild that has left them.
const family = `setsid sh -c "setsid sleep 1000 & sleep 1000" & sleep 1000`

func up(t *testing.T, hosts ...string) *lab.Lab {
	t.Helper()
	l, err := lab.Up(t.Context(), lab.Options{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually fails the test when condition does not hold within ten seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, 10*time.Second, what, condition)
}

func eventuallyWithin(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// echo listens on a host and sends back what it gets, line by line.
func echo(t *testing.T, l *lab.Lab, host string) net.Listener {
	t.Helper()
	var listener net.Listener
	must(t, l.Net.Do(host, func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(l.Net.Addr(host), "0"))
		return err
	}))
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for scanner := bufio.NewScanner(conn); scanner.Scan(); {
					fmt.Fprintln(conn, scanner.Text())
				}
			}()
		}
	}()
	return listener
}

// dial connects from a host with a raw socket, because the resolver's goroutines are not in it.
func dial(t *testing.T, l *lab.Lab, host string, to net.Addr) *os.File {
	t.Helper()
	address := to.(*net.TCPAddr)
	var socket int
	must(t, l.Net.Do(host, func() (err error) {
		if socket, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
			return err
		}
		return syscall.Connect(socket, &syscall.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())})
	}))
	must(t, syscall.SetNonblock(socket, true))
	conn := os.NewFile(uintptr(socket), host)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// lines makes every line unique, because copies of earlier lines come late after a heal.
var lines atomic.Int64

// answers tells whether a line comes back within limit; any error but the timeout fails the test,
// because a cut must be silent.
func answers(t *testing.T, conn *os.File, limit time.Duration) bool {
	t.Helper()
	line := fmt.Sprintf("<%d>\n", lines.Add(1))
	if _, err := conn.WriteString(line); err != nil {
		t.Fatalf("write on a cut connection: %v", err)
	}
	must(t, conn.SetReadDeadline(time.Now().Add(limit)))
	var got []byte
	for !bytes.Contains(got, []byte(line)) {
		buffer := make([]byte, 256)
		n, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		if err != nil {
			t.Fatalf("read on a cut connection: %v", err)
		}
		got = append(got, buffer[:n]...)
	}
	return true
}

func TestCutIsSilentAndHeals(t *testing.T) {
	l := up(t)
	if !l.Net.Real() {
		t.Fatal("this machine cannot make network namespaces")
	}
	listener := echo(t, l, "b")
	a, d := dial(t, l, "a", listener.Addr()), dial(t, l, "d", listener.Addr())
	for _, cut := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"both ways", func(ctx context.Context) error { return l.Net.Cut(ctx, "a", "b") }},
		{"requests only", func(ctx context.Context) error { return l.Net.CutOneWay(ctx, "a", "b") }},
		{"answers only", func(ctx context.Context) error { return l.Net.CutOneWay(ctx, "b", "a") }},
		{"twice", func(ctx context.Context) error {
			return errors.Join(l.Net.Cut(ctx, "a", "b"), l.Net.Cut(ctx, "a", "b"))
		}},
		{"isolated", func(ctx context.Context) error { return l.Net.Isolate(ctx, "a") }},
	} {
		must(t, cut.do(t.Context()))
		if answers(t, a, 300*time.Millisecond) {
			t.Errorf("%s: a still reaches b", cut.name)
		}
		if !answers(t, d, 5*time.Second) {
			t.Errorf("%s: d no longer reaches b", cut.name)
		}
		must(t, l.Net.Heal(t.Context(), "a", "b"))
		if !answers(t, a, 10*time.Second) {
			t.Errorf("%s: a does not reach b after the heal", cut.name)
		}
		must(t, l.Net.HealAll(t.Context()))
	}
}

func TestCutFromHub(t *testing.T) {
	l := up(t)
	listener := echo(t, l, lab.Hub)
	a, b := dial(t, l, "a", listener.Addr()), dial(t, l, "b", listener.Addr())
	must(t, l.Net.Cut(t.Context(), "a", lab.Hub))
	if answers(t, a, 300*time.Millisecond) {
		t.Error("a still reaches the hub")
	}
	if !answers(t, b, 5*time.Second) {
		t.Error("b no longer reaches the hub")
	}
	must(t, l.Net.HealAll(t.Context()))
	if !answers(t, a, 10*time.Second) {
		t.Error("a does not reach the hub after the heal")
	}
}

func TestCutOfUnknownHostIsRefused(t *testing.T) {
	l := up(t)
	if err := l.Net.Cut(t.Context(), "a", "nowhere"); err == nil {
		t.Error("a cut from a host that does not exist succeeded")
	}
}

func TestHostKillTakesDescendants(t *testing.T) {
	l := up(t)
	a := l.Host("a")
	process, err := a.Start(lab.Spec{Name: "tree", Args: []string{"sh", "-c", family}})
	must(t, err)
	eventually(t, "the family is complete", func() bool { return len(pids(t, a)) >= 4 })
	must(t, a.Kill(t.Context()))
	if left := pids(t, a); len(left) != 0 {
		t.Errorf("processes %v outlived the kill", left)
	}
	<-process.Done()
	again, err := a.Start(lab.Spec{Name: "tree", Args: []string{"true"}})
	must(t, err)
	<-again.Done()
	must(t, again.Err())
}

func pids(t *testing.T, h *lab.Host) []int {
	t.Helper()
	all, err := h.PIDs()
	must(t, err)
	return all
}

func TestFreezeStopsGrandchildren(t *testing.T) {
	l := up(t)
	a := l.Host("a")
	file := filepath.Join(l.Dir, "ticks")
	_, err := a.Start(lab.Spec{Name: "ticker", Args: []string{"sh", "-c",
		"setsid sh -c 'while :; do echo >>" + file + "; sleep 0.01; done' & wait"}})
	must(t, err)
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, "the grandchild ticks", func() bool { return size() > 3 })
	must(t, a.Freeze(t.Context()))
	frozen := size()
	time.Sleep(200 * time.Millisecond) // the span that must stay silent
	if now := size(); now != frozen {
		t.Errorf("%d ticks while frozen", now-frozen)
	}
	must(t, a.Thaw(t.Context()))
	eventually(t, "it ticks again", func() bool { return size() > frozen })
	must(t, a.Freeze(t.Context()))
	must(t, a.Kill(t.Context()))
}

func TestWithoutNamespacesHostsShareLoopback(t *testing.T) {
	l, err := lab.Up(t.Context(), lab.Options{Loopback: true})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	if l.Net.Real() || !net.ParseIP(l.Net.Addr("a")).IsLoopback() || l.Net.Addr("a") == l.Net.Addr("b") {
		t.Errorf("addresses %s and %s", l.Net.Addr("a"), l.Net.Addr("b"))
	}
	listener := echo(t, l, "b")
	if !answers(t, dial(t, l, "a", listener.Addr()), 5*time.Second) {
		t.Error("a does not reach b")
	}
	ctx := t.Context()
	for _, err := range []error{
		l.Net.Cut(ctx, "a", "b"), l.Net.Heal(ctx, "a", "b"), l.Net.Isolate(ctx, "a"), l.Net.HealAll(ctx),
		l.Host("a").PowerOff(ctx),
	} {
		if !errors.Is(err, lab.ErrNoCut) {
			t.Errorf("a cut without namespaces says %v", err)
		}
	}
}

func TestPowerOffIsSilent(t *testing.T) {
	l := up(t)
	b, file := l.Host("b"), filepath.Join(l.Dir, "port")
	_, err := b.Start(lab.Spec{Name: "server", Args: []string{"python3", "-c", server, b.Addr, file}})
	must(t, err)
	var port int
	eventually(t, "the server listens", func() bool {
		text, _ := os.ReadFile(file)
		port, _ = strconv.Atoi(string(text))
		return port != 0
	})
	conn := dial(t, l, "a", &net.TCPAddr{IP: net.ParseIP(b.Addr), Port: port})
	if !answers(t, conn, 5*time.Second) {
		t.Fatal("the server does not answer")
	}
	must(t, b.PowerOff(t.Context()))
	if answers(t, conn, 300*time.Millisecond) {
		t.Error("a dead machine answers")
	}
}

// server echoes one connection on a free port, which it writes to a file.
const server = `import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
with open(sys.argv[2] + ".new", "w") as f:
    f.write(str(listener.getsockname()[1]))
os.rename(sys.argv[2] + ".new", sys.argv[2])
conn, _ = listener.accept()
while data := conn.recv(4096):
    conn.sendall(data)
`

func TestTwoLabsAtOnce(t *testing.T) {
	one, two := up(t), up(t)
	if one.Net.Addr("a") == two.Net.Addr("a") {
		t.Errorf("both labs use %s", one.Net.Addr("a"))
	}
}

func TestKilledLabLeavesNothing(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1")
	output, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	parts := strings.Split(strings.TrimSpace(line), ".")
	if len(parts) != 4 {
		t.Fatalf("the child says %q", line)
	}
	number, err := strconv.Atoi(parts[2])
	must(t, err)
	bridge := fmt.Sprintf("/sys/class/net/dflab%d", number)
	if _, err := os.Stat(bridge); err != nil {
		t.Fatal(err)
	}
	groups, err := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/duoflow-lab/%d", number))
	must(t, err)
	if len(groups) == 0 { // the only hierarchy is version 2
		groups = []string{fmt.Sprintf("/sys/fs/cgroup/duoflow-lab/%d", number)}
	}
	if _, err := os.Stat(groups[0]); err != nil {
		t.Fatal(err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait() // it says that it was killed
	eventually(t, "the watcher removed bridge, namespace and cgroups", func() bool {
		for _, path := range append(groups, bridge, fmt.Sprintf("/run/netns/dflab%d-a", number)) {
			if _, err := os.Stat(path); err == nil {
				return false
			}
		}
		return true
	})
}
