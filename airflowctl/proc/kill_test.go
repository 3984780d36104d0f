package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestKillLeavesNothing(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.startTree("one")
		begin := time.Now()
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
		took := time.Since(begin)
		w.nothingLeft()
		w.Logf("%d processes killed in %v", treeSize, took)
		if took > 2*time.Second {
			w.Errorf("kill took %v", took)
		}
		if got := waitDone(w.T, life); got.Signal != "SIGKILL" || got.Code != -1 {
			w.Error(describe(life))
		}
		if err := life.Kill(w.context()); err != nil {
			w.Errorf("kill again: %v", err)
		}
		if err := life.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			w.Errorf("signal afterwards: %v", err)
		}
	})
}

func TestStopOfAStoppedMainTakesTheGrace(t *testing.T) {
	const grace = 300 * time.Millisecond
	inEveryMode(t, func(w *world) {
		life := w.startTree("one")
		begin := time.Now()
		if err := life.Stop(w.context(), grace); err != nil {
			w.Fatal(err)
		}
		w.nothingLeft()
		if took := time.Since(begin); took < grace || took > grace+2*time.Second {
			w.Errorf("stop took %v", took)
		}
	})
}

func TestStopEndsEarlyWithMain(t *testing.T) {
	inEveryMode(t, func(w *world) {
		out := &sink{}
		spec := roleSpec("one", "polite", w.mark)
		spec.Output = out
		life := w.start(spec)
		w.eventually("ready", func() bool { return strings.Contains(out.text(), "ready") })
		begin := time.Now()
		if err := life.Stop(w.context(), testPatience); err != nil {
			w.Fatal(err)
		}
		w.nothingLeft() // its child did not care about SIGTERM
		if took := time.Since(begin); took > testPatience/2 {
			w.Errorf("stop took %v", took)
		}
		if got := life.Exit(); got != (ExitStatus{}) {
			w.Error(describe(life))
		}
	})
}

// A program without a SIGTERM handler must end at SIGTERM; as process 1 of a namespace it would not.
func TestStopEndsAProgramWithoutHandler(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.start(Spec{Label: "one", Args: []string{"sleep", "1000"}})
		if err := life.Stop(w.context(), testPatience); err != nil {
			w.Fatal(err)
		}
		if got := life.Exit(); got.Signal != "SIGTERM" {
			w.Error(describe(life))
		}
	})
}

func TestCancelledStopStillKills(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.startTree("one")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err := life.Stop(ctx, time.Hour)
		if err == nil {
			w.nothingLeft()
		} else if !errors.Is(err, ErrNotEmpty) || !errors.Is(err, context.Canceled) {
			w.Errorf("unexpected error: %v", err)
		}
		if w.forest.Mode() == ModeGroup {
			// One pass of a walk may have missed someone: that is what its error says.
			err = life.Kill(w.context())
		} else {
			err = life.Empty(w.context())
		}
		if err != nil {
			w.Fatal(err)
		}
		w.nothingLeft()
	})
}

func TestTreeOutlivesMainUntilKill(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.start(roleSpec("one", "leave", w.mark))
		if got := waitDone(w.T, life); got.Code != 3 {
			w.Error(describe(life))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := life.Empty(ctx); !errors.Is(err, ErrNotEmpty) {
			w.Errorf("empty with a leaf alive: %v", err)
		}
		if n := len(w.marked()); n != 1 {
			w.Errorf("%d processes, want the leaf", n)
		}
		if _, err := w.forest.Start(treeSpec("one", w.mark)); !errors.Is(err, ErrExists) {
			w.Errorf("start of a label in use: %v", err)
		}
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
		w.nothingLeft()
	})
}

func TestEmptyByItself(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", "sleep 0.2 & exit 4"}})
		if err := life.Empty(w.context()); err != nil {
			w.Fatal(err)
		}
		if got := life.Exit(); got.Code != 4 {
			w.Error(describe(life))
		}
		again := w.start(Spec{Label: "one", Args: []string{"true"}})
		if err := again.Empty(w.context()); err != nil {
			w.Fatal(err)
		}
	})
}

func TestClearEndsOwnLives(t *testing.T) {
	inEveryMode(t, func(w *world) {
		first := w.startTree("one")
		second := w.start(roleSpec("two", "leave", w.mark))
		waitDone(w.T, second)
		if err := w.forest.Clear(w.context()); err != nil {
			w.Fatal(err)
		}
		w.nothingLeft()
		waitDone(w.T, first)
		if err := w.forest.Clear(w.context()); err != nil {
			w.Errorf("clear of nothing: %v", err)
		}
	})
}

// PDEATHSIG fires when the thread that started the child ends, and Go ends threads at will.
func TestLifeOutlivesTheThreadThatStartedIt(t *testing.T) {
	inEveryMode(t, func(w *world) {
		var life *Life
		dieWithThread(func() { life = w.start(roleSpec("one", "deaf", w.mark)) })
		dieWithThread(func() {})
		select {
		case <-life.Done():
			w.Fatal(describe(life))
		case <-time.After(100 * time.Millisecond):
		}
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
	})
}

// daemonProcess is another process that has a Forest of our name.
type daemonProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	main int
	mode Mode
}

// startDaemon runs playDaemon from the binary exe; mode "" lets it choose.
func (w *world) startDaemon(exe string, mode Mode, attr *syscall.SysProcAttr) *daemonProcess {
	w.Helper()
	d := &daemonProcess{cmd: exec.Command(exe)}
	d.cmd.Env = []string{
		roleEnv + "=daemon", nameEnv + "=" + w.forest.name, modeEnv + "=" + string(mode),
		"PATH=" + os.Getenv("PATH"), fastExit,
	}
	d.cmd.Env = append(d.cmd.Env, markEnv+"="+w.mark)
	d.cmd.SysProcAttr, d.cmd.Dir, d.cmd.Stderr = attr, "/", os.Stderr
	in, err := d.cmd.StdinPipe()
	if err != nil {
		w.Fatal(err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	d.in, d.out = in, bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	line, err := d.out.ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "started %d %s", &d.main, &d.mode); err != nil || scanErr != nil {
		w.Fatalf("daemon says %q: %v", line, errors.Join(err, scanErr))
	}
	return d
}

// grownUnder waits for the daemon's tree; the daemon bears the mark too.
func (w *world) grownUnder(d *daemonProcess) {
	w.Helper()
	w.eventually("tree has grown", func() bool {
		p, ok := readProcess(d.main)
		return ok && p.state == 'T' && len(w.marked()) == treeSize+1
	})
}

func (w *world) killDaemon(d *daemonProcess) {
	w.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		w.Fatal(err)
	}
	if err := d.cmd.Wait(); err == nil {
		w.Fatal("the daemon ended by itself")
	}
}

func TestMainDiesWithItsDaemonAndClearFindsTheRest(t *testing.T) {
	inEveryMode(t, func(w *world) {
		d := w.startDaemon("/proc/self/exe", w.forest.Mode(), nil)
		w.grownUnder(d)
		w.killDaemon(d)
		w.eventually("main died with the daemon", func() bool {
			p, ok := readProcess(d.main)
			return !ok || p.zombie()
		})
		if w.forest.Mode() == ModeCgroup {
			// Pdeathsig is not for grandchildren; that they are still here shows what Clear is for.
			if n := len(w.marked()); n != treeSize-1 {
				w.Errorf("%d processes left, want %d", n, treeSize-1)
			}
		}
		begin := time.Now()
		if err := w.forest.Clear(w.context()); err != nil {
			w.Fatal(err)
		}
		w.nothingLeft()
		w.Logf("cleared in %v", time.Since(begin))
	})
}

// The daemon that comes next may run in another mode.
func TestClearFindsTreesOfOtherModes(t *testing.T) {
	inEveryMode(t, func(w *world) {
		for _, mode := range allModes {
			d := w.startDaemon("/proc/self/exe", mode, nil)
			w.grownUnder(d)
			w.killDaemon(d)
			forest, err := New(Config{Name: w.mark, ForceMode: w.forest.Mode()})
			if err != nil {
				w.Fatal(err)
			}
			if err := forest.Clear(w.context()); err != nil {
				w.Fatal(err)
			}
			w.nothingLeft()
		}
	})
}

// While its daemon is frozen nothing ends by itself: Clear of a second daemon ends it.
func TestClearEndsTreesOfAFrozenDaemon(t *testing.T) {
	inEveryMode(t, func(w *world) {
		d := w.startDaemon("/proc/self/exe", w.forest.Mode(), nil)
		w.grownUnder(d)
		if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			w.Fatal(err)
		}
		if err := w.forest.Clear(w.context()); err != nil {
			w.Error(err)
		}
		if n := len(w.marked()); n != 1 {
			w.Errorf("%d processes, want only the daemon", n)
		}
		w.killDaemon(d)
	})
}

// An earlier daemon may have run elsewhere in the hierarchy.
func TestClearSearchesTheWholeHierarchy(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	elsewhere := filepath.Join(w.forest.base, w.mark+"-session")
	dir := filepath.Join(elsewhere, familyDir, w.mark, "old")
	if err := os.MkdirAll(filepath.Join(dir, "made-by-the-job"), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = treeSpec("", w.mark).Env
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.grown(cmd.Process.Pid)
	if err := w.forest.Clear(w.context()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the old main ended by itself")
	}
	w.nothingLeft()
	if err := os.Remove(elsewhere); err != nil {
		t.Errorf("the place is not empty: %v", err)
	}
}

// A daemon started by a life of its own name must not kill itself, and nothing is empty then.
func TestClearRefusesToKillItself(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	out := &sink{}
	spec := roleSpec("one", "clear", w.mark)
	spec.Env, spec.Output = append(spec.Env, nameEnv+"="+w.mark), out
	life := w.start(spec)
	if got := waitDone(t, life); got != (ExitStatus{}) {
		t.Error(describe(life))
	}
	if err := life.Empty(w.context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.text(), "this daemon itself runs in it") {
		t.Errorf("clear from inside says %q", out.text())
	}
}

// Somebody else may hold a pipe of the tree: that must not keep goroutines, or hold up a kill.
func TestForeignHolderOfAPipe(t *testing.T) {
	inEveryMode(t, func(w *world) {
		spec := roleSpec("one", "deaf", w.mark)
		spec.Output, spec.Control = io.Discard, true
		life := w.start(spec)
		for _, fd := range []string{"1", "4"} {
			file, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%s", life.PID(), fd), os.O_WRONLY, 0)
			if err != nil {
				w.Fatal(err)
			}
			defer file.Close()
		}
		begin := time.Now()
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
		if took := time.Since(begin); took > drainTimeout {
			w.Errorf("kill took %v", took)
		}
		select {
		case <-life.drained:
		case <-time.After(testPatience):
			w.Error("the pipes are still being read")
		}
	})
}

// What group mode cannot do: when the init is killed, those in other sessions are lost. They are
// never called empty.
func TestGroupModeSaysWhenItLostATree(t *testing.T) {
	w := newWorld(t, ModeGroup)
	life := w.startTree("one")
	if err := life.tree.(*initTree).init.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := waitDone(t, life); got.Signal != "SIGKILL" { // by its own Pdeathsig
		t.Error(describe(life))
	}
	if err := life.Kill(w.context()); !errors.Is(err, ErrLost) {
		t.Errorf("kill of a lost tree: %v", err)
	}
	if err := w.forest.Clear(w.context()); !errors.Is(err, ErrLost) {
		t.Errorf("clear with a lost tree: %v", err)
	}
	// Main's death is the kernel's to finish; the others stay.
	w.eventually("all but main survive", func() bool { return len(w.marked()) == treeSize-1 })
}

// A job of the daemon's own user can stop its init.
func TestStoppedInitHoldsUpNothing(t *testing.T) {
	for _, mode := range []Mode{ModePIDNS, ModeGroup} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, mode)
			life := w.startTree("one")
			if err := life.tree.(*initTree).init.process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if err := life.Kill(w.context()); err != nil {
				t.Fatal(err)
			}
			w.nothingLeft()
		})
	}
}

// The same in a PID namespace is a kill of the whole tree.
func TestNamespaceDiesWithItsInit(t *testing.T) {
	w := newWorld(t, ModePIDNS)
	life := w.startTree("one")
	if err := life.tree.(*initTree).init.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := life.Empty(w.context()); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
	if got := life.Exit(); got.Signal != "SIGKILL" {
		t.Error(describe(life))
	}
}
