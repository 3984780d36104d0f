package proc

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// testPatience bounds every wait; only a failing test takes that long.
const testPatience = 15 * time.Second

var allModes = []Mode{ModeCgroup, ModePIDNS, ModeGroup}

// world is a Forest and the means to see its processes from outside.
type world struct {
	*testing.T
	forest *Forest
	mark   string
}

// inEveryMode runs the test in each mode, and checks that it leaves no goroutine behind.
func inEveryMode(t *testing.T, test func(w *world)) {
	t.Helper()
	for _, mode := range allModes {
		t.Run(string(mode), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			test(newWorld(t, mode))
		})
	}
}

func newWorld(t *testing.T, mode Mode) *world {
	t.Helper()
	mark := "t" + strings.ToLower(rand.Text()[:12])
	forest, err := New(Config{Name: mark, ForceMode: mode})
	if err != nil {
		t.Fatal(err)
	}
	if forest.Mode() != mode {
		t.Fatalf("mode %s, want %s", forest.Mode(), mode)
	}
	w := &world{T: t, forest: forest, mark: mark}
	t.Cleanup(w.cleanUp)
	return w
}

// cleanUp leaves nothing on the machine, even after a failed test.
func (w *world) cleanUp() {
	for _, pid := range w.marked() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			w.Error(err)
		}
	}
	w.eventually("no process left", func() bool { return len(w.marked()) == 0 })
	w.eventually("no cgroup left", func() bool { return len(w.cgroups()) == 0 })
}

func (w *world) start(spec Spec) *Life {
	w.Helper()
	life, err := w.forest.Start(spec)
	if err != nil {
		w.Fatal(err)
	}
	return life
}

// startTree starts playTree and waits until it has grown.
func (w *world) startTree(label string) *Life {
	w.Helper()
	life := w.start(treeSpec(label, w.mark))
	w.grown(life.PID())
	return life
}

func (w *world) grown(main int) {
	w.Helper()
	w.eventually("tree has grown", func() bool {
		p, ok := readProcess(main)
		return ok && p.state == 'T' && len(w.marked()) == treeSize
	})
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	w.Cleanup(cancel)
	return ctx
}

// marked lists the living processes with our mark in their environment, wherever they hide.
func (w *world) marked() []int {
	list, err := readProcesses()
	if err != nil {
		w.Fatal(err)
	}
	var pids []int
	for _, p := range list {
		// Empty for zombies. A process that goes away while we read is gone.
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "environ"))
		if err == nil && bytes.Contains(env, []byte(markEnv+"="+w.mark)) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// cgroups lists what is left of this world's cgroups anywhere.
func (w *world) cgroups() []string {
	h, err := readHierarchy()
	if err != nil {
		w.Fatal(err)
	}
	dirs, err := (&Forest{name: w.mark}).leftovers(h)
	if err != nil {
		w.Fatal(err)
	}
	return dirs
}

func (w *world) nothingLeft() {
	w.Helper()
	if pids := w.marked(); len(pids) > 0 {
		w.Errorf("processes left: %v", pids)
	}
	if dirs := w.cgroups(); len(dirs) > 0 {
		w.Errorf("cgroups left: %v", dirs)
	}
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	eventually(w.T, what, ok)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testPatience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func waitDone(t *testing.T, life *Life) ExitStatus {
	t.Helper()
	select {
	case <-life.Done():
	case <-time.After(testPatience):
		t.Fatalf("life %s does not end", life.Label())
	}
	return life.Exit()
}

// sink is an Output that can be read at any time.
type sink struct {
	mu     sync.Mutex
	writes []string
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func zombies(t *testing.T) int {
	t.Helper()
	list, err := readProcesses()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range list {
		if p.zombie() && p.parent == os.Getpid() {
			n++
		}
	}
	return n
}

// dieWithThread calls f on an OS thread that ends when f returns.
func dieWithThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
		f()
	}()
	<-done
}

func describe(life *Life) string {
	return fmt.Sprintf("life %s pid %d: %v", life.Label(), life.PID(), life.Exit())
}
