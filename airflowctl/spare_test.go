package airflowctl_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
)

// stand stands in for a Python with Airflow: it speaks the shim's lines, notes when it was started, and dies at once
// while there is a file called broken.
const stand = `#!/bin/sh
cd "$(dirname "$0")"
echo $(date +%s%N) $$ >> starts
test -e broken && exit 7
sleep 0.2
echo "warm $$ 0.2" >&4
read line <&3 || exit 0
echo "job 1" >&4
exec sleep 600
`

// standIn is a job with that program, and the folder the program is in.
type standIn struct {
	*airflowctl.Job
	t   *testing.T
	dir string
	log *logged
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newStandIn makes such a job; it does not run yet.
func newStandIn(t *testing.T, dsn string) *standIn {
	t.Helper()
	s := &standIn{t: t, dir: filepath.Join(t.TempDir(), "bin"), log: &logged{}}
	for name, text := range map[string]string{"python": stand, "home/airflow.cfg": "[core]\n"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(s.dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o755))
	}
	s.Job = makeJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Warm: true, Python: filepath.Join(s.dir, "python"), FenceDSN: dsn,
		Env:      []string{"PATH=" + os.Getenv("PATH"), "AIRFLOW_HOME=" + filepath.Join(s.dir, "home")},
		Observer: &events{}, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	return s
}

// nowhere is a metastore that never answers.
const nowhere = "postgres://fencer@127.0.0.1:1/x"

type started struct {
	at  time.Time
	pid int
}

// starts are those of the program so far.
func (s *standIn) starts() []started {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "starts"))
	if err != nil {
		return nil
	}
	var out []started
	for line := range strings.Lines(string(text)) {
		at, pid, complete := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		nanos, err := strconv.ParseInt(at, 10, 64)
		if err != nil || !complete || !strings.HasSuffix(line, "\n") {
			continue // just being written
		}
		number, err := strconv.Atoi(pid)
		must(s.t, err)
		out = append(out, started{time.Unix(0, nanos), number})
	}
	return out
}

func (s *standIn) awaitWarm(count int) int {
	s.t.Helper()
	var pid int
	eventually(s.t, "standby "+strconv.Itoa(count)+" is warm and alone", func() bool {
		all := s.starts()
		if len(all) != count || !s.Status().Warm {
			return false
		}
		for _, one := range all[:count-1] {
			if alive(strconv.Itoa(one.pid)) {
				return false
			}
		}
		pid = all[count-1].pid
		return true
	})
	return pid
}

func (s *standIn) write(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644))
}

// TestAStandbyThatDiesIsMadeAgain: at once the first time, after doubling pauses when it keeps dying.
func TestAStandbyThatDiesIsMadeAgain(t *testing.T) {
	s := newStandIn(t, nowhere)
	const retry, most = 100 * time.Millisecond, 400 * time.Millisecond
	s.Hurry(time.Hour, 0, retry, most)
	run(t, s.Job)
	first := s.awaitWarm(1)
	s.write("broken", "")
	must(t, syscall.Kill(first, syscall.SIGKILL))
	eventually(t, "it was made again and again", func() bool { return len(s.starts()) >= 6 })
	all := s.starts()
	for i, least := range []time.Duration{2 * retry, 4 * retry, most, most} {
		if gap := all[i+2].at.Sub(all[i+1].at); gap < least-20*time.Millisecond {
			t.Errorf("pause %d was %s, want %s", i+1, gap, least)
		}
	}
	must(t, os.Remove(filepath.Join(s.dir, "broken")))
	eventually(t, "there is one again", func() bool { return s.Status().Warm })
	left, err := os.ReadDir(filepath.Join(s.Root(), "lives"))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("directories of lives left: %v", left)
	}
	if !strings.Contains(s.log.String(), `reason="exit 7`) {
		t.Errorf("the log does not say how it ended:\n%s", s.log)
	}
}

// TestAStandbyIsMadeAnew when what it was made from changes, and there is one all the time.
func TestAStandbyIsMadeAnew(t *testing.T) {
	s := newStandIn(t, nowhere)
	s.Hurry(30*time.Millisecond, 0, 50*time.Millisecond, 100*time.Millisecond)
	run(t, s.Job)
	s.awaitWarm(1)
	s.write("home/airflow.cfg", "[core]\nparallelism = 3\n")
	eventually(t, "a second one is made", func() bool {
		if !s.Status().Warm {
			t.Fatal("there is no warm standby")
		}
		return len(s.starts()) == 2
	})
	if old := s.starts()[0].pid; !alive(strconv.Itoa(old)) {
		t.Error("the first was ended before the second was warm")
	}
	eventually(t, "the second has taken its place", func() bool {
		if !s.Status().Warm {
			t.Fatal("there is no warm standby")
		}
		return !alive(strconv.Itoa(s.starts()[0].pid))
	})
	second := s.awaitWarm(2)
	if !strings.Contains(s.log.String(), "changed: "+filepath.Join(s.dir, "home", "airflow.cfg")) {
		t.Errorf("the log does not say what has changed:\n%s", s.log)
	}
	// One that cannot be made leaves the old one where it is.
	s.write("broken", "")
	must(t, os.Mkdir(filepath.Join(s.dir, "home", "plugins"), 0o755))
	s.write("home/plugins/mine.py", "x = 1")
	eventually(t, "new ones die", func() bool { return len(s.starts()) >= 5 })
	if !s.Status().Warm || !alive(strconv.Itoa(second)) {
		t.Error("the standby that worked is gone")
	}
}

// TestNoStandbyIsMadeDuringATakeover, and the active host has one too, after a while.
func TestNoStandbyIsMadeDuringATakeover(t *testing.T) {
	m := newMetastore(t)
	s := newStandIn(t, m.dsn["a"])
	const look, calm = 20 * time.Millisecond, time.Second
	s.Hurry(look, calm, 50*time.Millisecond, 100*time.Millisecond)
	run(t, s.Job)
	first := s.awaitWarm(1)
	must(t, s.Take(t.Context(), claim(1, "a")))
	s.write("home/airflow.cfg", "[core]\nparallelism = 3\n")
	must(t, s.Drain(t.Context(), claim(1, "a")))
	for end := time.Now().Add(20 * look); time.Now().Before(end); time.Sleep(look) {
		if n := len(s.starts()); n != 1 {
			t.Fatalf("%d started while the takeover was under way", n)
		}
	}
	must(t, s.Start(t.Context(), claim(1, "a")))
	began := time.Now()
	if !alive(strconv.Itoa(first)) || s.Status().Warm {
		t.Errorf("the standby that was ready was not used")
	}
	eventually(t, "the active host has a standby", func() bool { return s.Status().Warm })
	all := s.starts()
	if wait := all[1].at.Sub(began); wait < calm-50*time.Millisecond {
		t.Errorf("the next was made %s after the takeover, want %s", wait, calm)
	}
	if len(all) != 2 || !alive(strconv.Itoa(first)) {
		t.Errorf("started %v; the active life must go on", all)
	}
	// And it is what a local restart uses.
	must(t, s.Stop(t.Context(), 1, 0))
	takeWithoutAirflow(t, s.Job, claim(2, "a"))
	if !alive(strconv.Itoa(all[1].pid)) || alive(strconv.Itoa(first)) {
		t.Errorf("epoch 2 is not the standby")
	}
}

// TestATakeoverWithoutAStandbyBeginsOne as soon as it is known of, not only when the fence and the drain are through.
func TestATakeoverWithoutAStandbyBeginsOne(t *testing.T) {
	m := newMetastore(t)
	s := newStandIn(t, m.dsn["a"])
	s.Hurry(time.Hour, time.Hour, 50*time.Millisecond, 100*time.Millisecond)
	run(t, s.Job)
	s.awaitWarm(1)
	takeWithoutAirflow(t, s.Job, claim(1, "a"))
	if len(s.starts()) != 1 || s.Status().Warm {
		t.Fatalf("there is a standby beside a life that has just begun: %v", s.starts())
	}
	must(t, s.Take(t.Context(), claim(2, "a")))
	eventually(t, "one is ready before the process is needed", func() bool { return s.Status().Warm })
	must(t, s.Drain(t.Context(), claim(2, "a")))
	must(t, s.Start(t.Context(), claim(2, "a")))
	if all := s.starts(); len(all) != 2 {
		t.Errorf("started %v, want two", all)
	}
}

// TestAStandbyHasTheEnvironmentOfItsDaemon: the environment is configuration, so a change of it comes with a new daemon. No
// standby of the one before is left, and the new one's has what is configured now.
func TestAStandbyHasTheEnvironmentOfItsDaemon(t *testing.T) {
	root, program := t.TempDir(), newStandIn(t, nowhere)
	var before string
	for _, mark := range []string{"MARK=one", "MARK=two"} {
		t.Run(mark, func(t *testing.T) {
			j, err := airflowctl.New(airflowctl.Config{
				Name: jobName, Node: "a", Kind: airflowctl.Airflow, Warm: true, Python: filepath.Join(program.dir, "python"), Group: group,
				FenceDSN: nowhere, Root: root, Env: []string{"PATH=" + os.Getenv("PATH"), mark}, Observer: &events{},
			})
			must(t, err)
			run(t, j)
			eventually(t, "there is a standby", func() bool { return j.Status().Warm })
			all := program.starts()
			pid := strconv.Itoa(all[len(all)-1].pid)
			environ, err := os.ReadFile("/proc/" + pid + "/environ")
			must(t, err)
			if !strings.Contains("\x00"+string(environ), "\x00"+mark+"\x00") {
				t.Errorf("the environment of the standby lacks %s: %q", mark, environ)
			}
			if before != "" && alive(before) {
				t.Errorf("the standby of the daemon before is alive")
			}
			before = pid
		})
	}
}
