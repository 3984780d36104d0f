package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperEnv makes the test binary one gossip node: "name listen seed seed...". A node that is to be killed or frozen
// has to be a process of its own.
const helperEnv = "DUOFLOW_GOSSIP_TEST_NODE"

var testKey = bytes.Repeat([]byte{7}, 32)

func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(helperEnv)); len(args) > 0 {
		os.Exit(runHelper(args))
	}
	code := m.Run()
	// A probe of memberlist that is under way when Run returns lives for up to two probe intervals more.
	deadline := time.Now().Add(5 * time.Second)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runHelper(args []string) int {
	g, err := New(Config{Node: args[0], Listen: args[1], Seeds: args[2:], Keys: [][]byte{testKey}, Meta: Meta{Version: "helper"}})
	if err == nil {
		err = g.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startHelper runs one node as a process that dies with the test.
func startHelper(t *testing.T, name, listen string, seeds ...string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join(append([]string{name, listen}, seeds...), " "))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead by now: that is what most tests are about
		_ = cmd.Wait()
	})
	return cmd.Process
}

// freeAddr returns a loopback address whose port was free for UDP and TCP a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func config(name, listen string, seeds ...string) Config {
	return Config{
		Node: name, Listen: listen, Seeds: seeds, Keys: [][]byte{testKey},
		Meta: Meta{Version: "v0", Role: "scheduler", Peer: name + ":7400"},
	}
}

// start runs a node in this process; stop ends it and waits until Run has returned nil.
func start(t *testing.T, cfg Config) (g *Gossip, stop func()) {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("Run of %s: %v", cfg.Node, err)
		}
	}
	t.Cleanup(stop)
	return g, stop
}

// until polls g for 40 s.
func until(t *testing.T, g *Gossip, what string, ok func(map[string]Member) bool) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		members := map[string]Member{}
		for _, m := range g.Members() {
			members[m.Node] = m
		}
		if ok(members) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not reached: %s; members %+v", what, g.Members())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func stateIs(node string, states ...string) func(map[string]Member) bool {
	return func(members map[string]Member) bool {
		for _, s := range states {
			if members[node].State == s {
				return true
			}
		}
		return false
	}
}

func TestThreeNodesSeeEachOther(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "t"}
	addrs := []string{freeAddr(t), freeAddr(t), freeAddr(t)}
	var nodes []*Gossip
	for i, name := range names {
		cfg := config(name, addrs[i], addrs...)
		cfg.Cluster = "prod"
		g, _ := start(t, cfg)
		nodes = append(nodes, g)
	}
	for i, g := range nodes {
		until(t, g, "all alive with round trips", func(members map[string]Member) bool {
			for j, name := range names {
				m := members[name]
				if m.State != Alive || m.Addr != addrs[j] || m.Meta.Peer != name+":7400" {
					return false
				}
				if (m.RTT > 0) == (i == j) {
					return false
				}
			}
			return len(members) == len(names)
		})
		list := g.Members()
		if list[0].Node != "a" || list[1].Node != "b" || list[2].Node != "t" {
			t.Errorf("not sorted: %+v", list)
		}
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	addrA, addrB, addrX := freeAddr(t), freeAddr(t), freeAddr(t)
	a, _ := start(t, config("a", addrA, addrB, addrX))
	start(t, config("b", addrB, addrA))
	wrong := config("x", addrX, addrA, addrB)
	wrong.Keys = [][]byte{bytes.Repeat([]byte{8}, 32)}
	x, _ := start(t, wrong)
	until(t, a, "b seen", stateIs("b", Alive))
	// By the time a has pinged b thrice it has also tried x several times, and x has tried a.
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if n := len(x.Members()); n != 1 {
			t.Fatalf("the stranger sees %+v", x.Members())
		}
		if n := len(a.Members()); n != 2 {
			t.Fatalf("the stranger was let in: %+v", a.Members())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestOtherClusterIsRefused(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	one, two := config("a", addrA, addrB), config("b", addrB, addrA)
	one.Cluster, two.Cluster = "one", "two"
	a, _ := start(t, one)
	b, _ := start(t, two)
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if len(a.Members()) != 1 || len(b.Members()) != 1 {
			t.Fatalf("clusters mixed: %+v %+v", a.Members(), b.Members())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestSecondKeyDecrypts(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	next := bytes.Repeat([]byte{9}, 16)
	rolled := config("a", addrA)
	rolled.Keys = [][]byte{next, testKey}
	old := config("b", addrB, addrA)
	old.Keys = [][]byte{testKey, next}
	a, _ := start(t, rolled)
	b, _ := start(t, old)
	until(t, a, "b seen", stateIs("b", Alive))
	until(t, b, "a seen", stateIs("a", Alive))
}

func TestKilledNodeDiesAndRejoinsUnderItsName(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	a, _ := start(t, config("a", addrA, addrB))
	b := startHelper(t, "b", addrB)
	until(t, a, "b alive", stateIs("b", Alive))
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, a, "b suspect or dead", stateIs("b", Suspect, Dead))
	until(t, a, "b dead", stateIs("b", Dead))
	// It knows no seed: only a's rejoin loop can find it.
	startHelper(t, "b", addrB)
	until(t, a, "b back", stateIs("b", Alive))
}

func TestKilledNodeComesBackFromAnotherAddress(t *testing.T) {
	t.Parallel()
	addrA, addrB, addrB2 := freeAddr(t), freeAddr(t), freeAddr(t)
	a, _ := start(t, config("a", addrA, addrB))
	b := startHelper(t, "b", addrB, addrA)
	until(t, a, "b alive", stateIs("b", Alive))
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	startHelper(t, "b", addrB2, addrA)
	until(t, a, "b at its new address", func(members map[string]Member) bool {
		return members["b"].State == Alive && members["b"].Addr == addrB2
	})
}

func TestFrozenNodeIsSuspectThenAliveAgain(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	a, _ := start(t, config("a", addrA, addrB))
	b := startHelper(t, "b", addrB, addrA)
	until(t, a, "b measured", func(m map[string]Member) bool { return m["b"].RTT > 0 })
	if err := b.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, a, "b suspect or dead", stateIs("b", Suspect, Dead))
	if err := b.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, a, "b alive", stateIs("b", Alive))
}

func TestStoppedNodeHasLeft(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	a, _ := start(t, config("a", addrA, addrB))
	b, stop := start(t, config("b", addrB, addrA))
	until(t, a, "b alive", stateIs("b", Alive))
	until(t, b, "a alive", stateIs("a", Alive))
	began := time.Now()
	stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("stop took %v", took)
	}
	until(t, a, "b left", stateIs("b", Left))
}

func TestRunReportsATakenAddress(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g, err := New(config("a", ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "start gossip") {
		t.Errorf("Run on a taken address: %v", err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("second Run: %v", err)
	}
}

func TestSeedsMove(t *testing.T) {
	t.Parallel()
	addrA, addrB := freeAddr(t), freeAddr(t)
	cfg := config("a", addrA)
	var moved atomic.Bool
	asked := make(chan struct{}, 100)
	cfg.Moved = func() []string {
		select {
		case asked <- struct{}{}:
		default:
		}
		if moved.Load() {
			return []string{addrB}
		}
		return nil
	}
	a, _ := start(t, cfg)
	start(t, config("b", addrB)) // it knows nobody
	<-asked
	moved.Store(true)
	until(t, a, "b alive", stateIs("b", Alive))
}
