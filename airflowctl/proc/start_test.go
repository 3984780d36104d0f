package proc

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	cases := []struct {
		script string
		want   ExitStatus
		text   string
	}{
		{"exit 0", ExitStatus{}, "exit 0"},
		{"exit 7", ExitStatus{Code: 7}, "exit 7"},
		{"kill -KILL $$", ExitStatus{Code: -1, Signal: "SIGKILL"}, "SIGKILL"},
		{"kill -TERM $$", ExitStatus{Code: -1, Signal: "SIGTERM"}, "SIGTERM"},
		{"kill -SEGV $$", ExitStatus{Code: -1, Signal: "SIGSEGV"}, "SIGSEGV"},
	}
	inEveryMode(t, func(w *world) {
		for _, c := range cases {
			life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", c.script}})
			if life.PID() <= 1 {
				w.Errorf("%s: pid %d", c.script, life.PID())
			}
			if err := life.Empty(w.context()); err != nil {
				w.Fatal(err)
			}
			if got := life.Exit(); got != c.want || got.String() != c.text {
				w.Errorf("%s: %+v, %s", c.script, got, got)
			}
		}
	})
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		spec Spec
		want error
	}{
		{"missing", Spec{Args: []string{"/nowhere/at/all"}}, fs.ErrNotExist},
		{"not in PATH", Spec{Args: []string{"nowhere-at-all"}}, fs.ErrNotExist},
		{"not executable", Spec{Args: []string{text}}, fs.ErrPermission},
		{"no such dir", Spec{Args: []string{"/bin/true"}, Dir: "/nowhere"}, fs.ErrNotExist},
	}
	inEveryMode(t, func(w *world) {
		before := openFiles(w.T)
		for _, c := range cases {
			c.spec.Label, c.spec.Control, c.spec.Output = "one", true, io.Discard
			if _, err := w.forest.Start(c.spec); !errors.Is(err, c.want) {
				w.Errorf("%s: %v", c.name, err)
			}
		}
		w.nothingLeft()
		if after := openFiles(w.T); after > before {
			w.Errorf("%d files open, before %d", after, before)
		}
		if err := w.start(Spec{Label: "one", Args: []string{"true"}}).Empty(w.context()); err != nil {
			w.Error(err)
		}
	})
}

func TestSpecIsChecked(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	id := uint32(1)
	for name, spec := range map[string]Spec{
		"no label":         {Args: []string{"true"}},
		"label with slash": {Label: "../x", Args: []string{"true"}},
		"label with dot":   {Label: "cgroup.kill", Args: []string{"true"}},
		"no command":       {Label: "one"},
		"empty command":    {Label: "one", Args: []string{""}},
		"uid alone":        {Label: "one", Args: []string{"true"}, UID: &id},
		"user and uid":     {Label: "one", Args: []string{"true"}, User: "nobody", UID: &id, GID: &id},
		"unknown user":     {Label: "one", Args: []string{"true"}, User: "nobody-of-this-name"},
	} {
		if _, err := w.forest.Start(spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w.nothingLeft()
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{}, {Name: "a/b"}, {Name: ".."}, {Name: strings.Repeat("x", 65)}, {Name: "a", ForceMode: "magic"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v: accepted", cfg)
		}
	}
	if f, err := New(Config{Name: "proc-test-best"}); err != nil || f.Mode() != ModeCgroup {
		t.Errorf("best mode here: %v", err)
	}
	t.Setenv(initEnv, "1")
	if _, err := New(Config{Name: "a"}); !errors.Is(err, ErrNoInit) {
		t.Errorf("New in an init that was not caught: %v", err)
	}
}

func TestControlPipe(t *testing.T) {
	inEveryMode(t, func(w *world) {
		spec := roleSpec("one", "echo", w.mark)
		spec.Control = true
		life := w.start(spec)
		for _, line := range []string{"go 12", "", "ü"} {
			if err := life.Send(line); err != nil {
				w.Fatal(err)
			}
			if got := w.line(life); got != "got "+line {
				w.Errorf("sent %q, heard %q", line, got)
			}
		}
		if err := life.Send("a\nb"); err == nil {
			w.Error("two lines sent as one")
		}
		// It ignores SIGTERM; what makes it end is the end of its fd 3.
		if err := life.Stop(w.context(), testPatience); err != nil {
			w.Fatal(err)
		}
		if got := w.line(life); got != "end" {
			w.Errorf("last line %q", got)
		}
		if _, open := <-life.Lines(); open {
			w.Error("lines after the last")
		}
		if got := life.Exit(); got.Code != 7 {
			w.Error(describe(life))
		}
		if err := life.Send("late"); !errors.Is(err, ErrNoControl) {
			w.Errorf("send after stop: %v", err)
		}
	})
}

func (w *world) line(life *Life) string {
	w.Helper()
	select {
	case line := <-life.Lines():
		return line
	case <-time.After(testPatience):
		w.Fatal("no line comes")
		return ""
	}
}

func TestNoControlPipe(t *testing.T) {
	inEveryMode(t, func(w *world) {
		out := &sink{}
		script := "for fd in 3 4 5 6; do if [ -e /proc/self/fd/$fd ]; then echo $fd; fi; done; echo end"
		life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", script}, Output: out})
		if _, open := <-life.Lines(); open {
			w.Error("a line without a pipe")
		}
		if err := life.Send("x"); !errors.Is(err, ErrNoControl) {
			w.Errorf("send without a pipe: %v", err)
		}
		if err := life.Empty(w.context()); err != nil {
			w.Fatal(err)
		}
		if out.text() != "end\n" {
			w.Errorf("the child has more files than it should: %q", out.text())
		}
	})
}

func TestSendDoesNotWaitForADeafChild(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	spec := roleSpec("one", "deaf", w.mark)
	spec.Control = true
	life := w.start(spec)
	begin := time.Now()
	var err error
	for err == nil && time.Since(begin) < testPatience {
		err = life.Send(strings.Repeat("x", 8<<10))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("send to a full pipe: %v", err)
	}
	if err := life.Kill(w.context()); err != nil {
		t.Fatal(err)
	}
}

// Nobody reads Lines: the child blocks, but its life can end and no goroutine stays.
func TestUnreadLinesHoldUpNothing(t *testing.T) {
	inEveryMode(t, func(w *world) {
		life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", "yes >&4"}, Control: true})
		w.eventually("lines are waiting", func() bool { return len(life.lines) == linesAhead })
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
		n := 0
		for range life.Lines() {
			n++
		}
		if n < linesAhead {
			w.Errorf("%d lines", n)
		}
	})
}

func TestOutputComesInLines(t *testing.T) {
	inEveryMode(t, func(w *world) {
		out := &sink{}
		script := `printf 'a'; printf 'b\n\nc' ; echo err >&2; head -c 70000 /dev/zero | tr '\0' x; echo; printf last`
		life := w.start(Spec{
			Label: "one", Args: []string{"/bin/sh", "-c", script}, Output: out,
			Env: []string{"PATH=" + os.Getenv("PATH")},
		})
		if err := life.Empty(w.context()); err != nil {
			w.Fatal(err)
		}
		long := strings.Repeat("x", 70000)
		want := []string{"ab\n", "\n", "cerr\n", long[:maxLine] + "\n", long[maxLine:] + "\n", "last\n"}
		if !slices.Equal(out.writes, want) {
			w.Errorf("got %.200q", out.writes)
		}
	})
}

// slowOutput takes its time for every line.
type slowOutput struct {
	sink
	begun chan struct{}
}

func (s *slowOutput) Write(p []byte) (int, error) {
	close(s.begun)
	time.Sleep(drainGrace / 2)
	return s.sink.Write(p)
}

func TestKillWaitsForTheLastLine(t *testing.T) {
	inEveryMode(t, func(w *world) {
		out := &slowOutput{begun: make(chan struct{})}
		life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", "echo last; sleep 1000"}, Output: out})
		<-out.begun
		if err := life.Kill(w.context()); err != nil {
			w.Fatal(err)
		}
		if got := out.text(); got != "last\n" {
			w.Errorf("got %q", got)
		}
	})
}

// Lines that are read only after the tree has gone are still delivered, as far as they fit.
func TestLinesAfterTheEnd(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	var lines strings.Builder
	for i := range 2 * linesAhead {
		lines.WriteString(strconv.Itoa(i) + "\n")
	}
	text := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(text, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	life := newLife(Spec{Label: "one", Control: true}, w.forest.log, &wiring{lines: file})
	close(life.gone)
	life.pumpLines()
	for i := range linesAhead {
		if got := <-life.Lines(); got != strconv.Itoa(i) {
			t.Errorf("line %d is %q", i, got)
		}
	}
}

// fullDisk is an Output that takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatFailsDoesNotStopTheJob(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	script := "i=0; while [ $i -lt 20000 ]; do echo a line of some length; i=$((i+1)); done; exit 5"
	life := w.start(Spec{Label: "one", Args: []string{"/bin/sh", "-c", script}, Output: fullDisk{}})
	if err := life.Empty(w.context()); err != nil {
		t.Fatal(err)
	}
	if got := life.Exit(); got.Code != 5 {
		t.Error(describe(life))
	}
}

func TestUserEnvironmentAndDir(t *testing.T) {
	ids := []uint32{12345, 12346}
	script := "id -u; id -g; id -G; pwd; cat /proc/self/environ | tr '\\0' ' '"
	before, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	// A group of the daemon's that no job of another user may keep.
	if err := syscall.Setgroups([]int{4242}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setgroups(before); err != nil {
			t.Error(err)
		}
	}()
	own, err := exec.Command("/bin/sh", "-c", "id -u; id -g; id -G").Output()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		spec Spec
		want string
	}{
		{Spec{}, string(own)},
		{Spec{User: "nobody"}, "65534\n65534\n65534\n"},
		{Spec{UID: &ids[0], GID: &ids[1]}, "12345\n12346\n12346\n"},
	}
	inEveryMode(t, func(w *world) {
		for _, c := range cases {
			out := &sink{}
			c.spec.Label, c.spec.Output, c.spec.Dir = "one", out, "/usr"
			c.spec.Args, c.spec.Env = []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin", "X=1"}
			if err := w.start(c.spec).Empty(w.context()); err != nil {
				w.Fatal(err)
			}
			lines := strings.SplitN(out.text(), "/usr\n", 2)
			if len(lines) != 2 || lines[0] != c.want {
				w.Errorf("%+v: got %q, want %q", c.spec, out.text(), c.want)
				continue
			}
			// The shell adds PWD and friends, nothing else may be there.
			for _, entry := range strings.Fields(lines[1]) {
				name, _, _ := strings.Cut(entry, "=")
				if !slices.Contains([]string{"PATH", "X", "PWD", "OLDPWD", "SHLVL", "_"}, name) {
					w.Errorf("environment has %q", entry)
				}
			}
		}
	})
}

func TestEmptyEnvironmentIsEmpty(t *testing.T) {
	inEveryMode(t, func(w *world) {
		out := &sink{}
		life := w.start(Spec{Label: "one", Args: []string{"/usr/bin/env"}, Output: out})
		if err := life.Empty(w.context()); err != nil {
			w.Fatal(err)
		}
		if out.text() != "" {
			w.Errorf("environment: %q", out.text())
		}
	})
}

func TestManyLivesLeaveNothing(t *testing.T) {
	inEveryMode(t, func(w *world) {
		files := 0
		for i := range 20 {
			spec := roleSpec("life", []string{"leave", "deaf", "echo"}[i%3], w.mark)
			spec.Control, spec.Output = true, io.Discard
			life := w.start(spec)
			if err := life.Kill(w.context()); err != nil {
				w.Fatal(err)
			}
			if i == 0 {
				files = openFiles(w.T) // after the runtime has opened what it keeps
			}
		}
		w.nothingLeft()
		w.eventually("no more files open", func() bool { return openFiles(w.T) <= files })
		if n := zombies(w.T); n > 0 {
			w.Errorf("%d zombies", n)
		}
	})
}

func TestManyLivesAtOnce(t *testing.T) {
	inEveryMode(t, func(w *world) {
		results := make(chan error)
		labels := []string{"a", "b", "c", "d", "e", "f"}
		for _, label := range labels {
			go func() {
				life, err := w.forest.Start(roleSpec(label, "leave", w.mark))
				if err == nil {
					<-life.Done()
					err = life.Kill(w.context())
				}
				results <- err
			}()
		}
		for range labels {
			if err := <-results; err != nil {
				w.Error(err)
			}
		}
		w.nothingLeft()
	})
}

// In a PID namespace the orphans are the init's to reap, and /proc shows the namespace only.
func TestNamespaceHasItsOwnProcAndReaper(t *testing.T) {
	w := newWorld(t, ModePIDNS)
	out := &sink{}
	script := `(sleep 0.01 & sleep 0.01 & exit 0); sleep 0.2; echo /proc/[0-9]*; tr '\0' ' ' < /proc/1/cmdline; kill -TERM 1; sleep 0.1; echo alive`
	life := w.start(Spec{
		Label: "one", Args: []string{"/bin/sh", "-c", script}, Output: out,
		Env: []string{"PATH=" + os.Getenv("PATH")},
	})
	if err := life.Empty(w.context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(out.text(), "\n", 2)
	if len(strings.Fields(lines[0])) != 2 {
		t.Errorf("processes in the namespace: %s; want 1 and the shell", lines[0])
	}
	if want := initName + " " + initFlag + " pidns " + w.mark + " one alive\n"; lines[1] != want {
		t.Errorf("got %q, want %q", lines[1], want)
	}
}

// A daemon that is not root and owns no cgroup must find a way of its own.
func TestDaemonWithoutPrivileges(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	dir, err := os.MkdirTemp("", "proc-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "daemon")
	if err := os.WriteFile(exe, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, mode := range []Mode{"", ModeGroup} {
		d := w.startDaemon(exe, mode, nobody)
		w.grownUnder(d)
		if d.mode == ModeCgroup || (mode != "" && d.mode != mode) {
			t.Errorf("mode %s", d.mode)
		}
		t.Logf("mode as nobody: %s", d.mode)
		if _, err := io.WriteString(d.in, "kill\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := d.out.ReadString('\n'); err != nil || line != "done kill <nil>\n" {
			t.Errorf("daemon says %q: %v", line, err)
		}
		if err := d.cmd.Wait(); err != nil {
			t.Error(err)
		}
		w.nothingLeft()
	}
}

func TestThreadsComeBack(t *testing.T) {
	w := newWorld(t, ModeCgroup)
	var threads int
	for i := range 30 {
		life := w.start(Spec{Label: "one", Args: []string{"true"}})
		if err := life.Kill(w.context()); err != nil {
			t.Fatal(err)
		}
		if i == 9 {
			self, _ := readProcess(os.Getpid())
			threads = self.threads
		}
	}
	self, ok := readProcess(os.Getpid())
	if !ok || self.threads > threads+runtime.GOMAXPROCS(0)+2 {
		t.Errorf("%d threads, %d before", self.threads, threads)
	}
}

// TestStartedIsTold: a child that becomes another user takes from us that we may be dumped; who is told of the start can undo it.
func TestStartedIsTold(t *testing.T) {
	set := func() {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(set)
	w := newWorld(t, ModeCgroup)
	w.forest.told = set
	w.start(Spec{Label: "one", Args: []string{"true"}, User: "nobody"})
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != 1 {
		t.Errorf("after a start it is %d, %v", got, err)
	}
}
