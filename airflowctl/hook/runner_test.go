package hook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/hook"
)

// desk is a job's hooks, each of which appends a line to a file.
type desk struct {
	t    *testing.T
	file string
	cfg  hook.Config
}

func newDesk(t *testing.T, script string) *desk {
	t.Helper()
	dir := t.TempDir()
	d := &desk{t: t, file: filepath.Join(dir, "seen"), cfg: hook.Config{
		Job: "scheduler", Node: "a", Dir: filepath.Join(dir, "hooks"), UID: -1, GID: -1, Timeout: 5 * time.Second,
		Commands: map[hook.Name][]string{}, Env: []string{"PATH=" + os.Getenv("PATH"), "SEEN=" + filepath.Join(dir, "seen")},
	}}
	if script == "" {
		script = `echo "$DUOFLOW_HOOK $DUOFLOW_EVENT $DUOFLOW_JOB $DUOFLOW_NODE $DUOFLOW_EPOCH $DUOFLOW_CERTAIN" >> "$SEEN"`
	}
	for _, name := range hook.Names() {
		d.cfg.Commands[name] = []string{"/bin/sh", "-c", script}
	}
	return d
}

// run starts a runner, and returns it with what ends it.
func (d *desk) run() (*hook.Runner, func()) {
	d.t.Helper()
	r, err := hook.New(d.cfg)
	must(d.t, err)
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		d.t.Helper()
		cancel()
		must(d.t, <-ended)
	}
}

func (d *desk) seen() string {
	text, _ := os.ReadFile(d.file) // absent: nothing was seen
	return string(text)
}

func (d *desk) await(want string) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); d.seen() != want; {
		if time.Now().After(deadline) {
			d.t.Fatalf("seen\n%s\nwant\n%s", d.seen(), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (d *desk) shelved() int {
	files, err := os.ReadDir(d.cfg.Dir)
	must(d.t, err)
	return len(files)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTold: what is told is run in order, with what happened in its environment, and nothing of it is left.
func TestTold(t *testing.T) {
	d := newDesk(t, "")
	r, end := d.run()
	r.Expect(hook.OnFence, 7)
	r.Tell(hook.OnFence, 7)
	r.Tell(hook.PostStart, 7)
	r.Tell(hook.PostStop, 7)
	r.Tell(hook.PostStop, 7)
	d.await("on_fence scheduler/7/on_fence scheduler a 7 yes\npost_start scheduler/7/post_start scheduler a 7 yes\n" +
		"post_stop scheduler/7/post_stop scheduler a 7 yes\n")
	for deadline := time.Now().Add(10 * time.Second); r.Waiting() > 0 || d.shelved() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, %d are written down", r.Waiting(), d.shelved())
		}
		time.Sleep(time.Millisecond)
	}
	end()
}

// TestToldByTheNextDaemon: what a daemon that ended has left is told by the next one, with the same event, first and in order.
func TestToldByTheNextDaemon(t *testing.T) {
	d := newDesk(t, `case $DUOFLOW_HOOK in on_fence) sleep 1000;; esac`)
	r, end := d.run()
	r.Tell(hook.OnFence, 3)
	r.Expect(hook.PostStart, 3)
	r.Expect(hook.PostStop, 3)
	r.Forget(hook.PostStop, 3)
	for d.shelved() != 2 {
		time.Sleep(time.Millisecond)
	}
	end()

	again := newDesk(t, "")
	again.cfg.Dir = d.cfg.Dir
	second, end := again.run()
	second.Tell(hook.PostStart, 4)
	again.await("on_fence scheduler/3/on_fence scheduler a 3 yes\npost_start scheduler/3/post_start scheduler a 3 no\n" +
		"post_start scheduler/4/post_start scheduler a 4 yes\n")
	end()
}

// TestToldAgain: a command that fails is run again, and what comes after it waits.
func TestToldAgain(t *testing.T) {
	d := newDesk(t, `echo "$DUOFLOW_EVENT" >> "$SEEN"; test "$(wc -l < "$SEEN")" -gt 1`)
	r, end := d.run()
	r.Tell(hook.PostStart, 1)
	r.Tell(hook.PostStop, 1)
	d.await("scheduler/1/post_start\nscheduler/1/post_start\nscheduler/1/post_stop\n")
	end()
}

// TestNobodyWaitsForTheDisk: to say what happens takes no longer when nothing can be written, or a command hangs.
func TestNobodyWaitsForTheDisk(t *testing.T) {
	d := newDesk(t, "sleep 1000")
	r, end := d.run()
	must(t, os.RemoveAll(d.cfg.Dir))
	began := time.Now()
	for epoch := range uint64(1000) {
		r.Expect(hook.OnFence, epoch)
		r.Tell(hook.OnFence, epoch)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1000 events took %s", took)
	}
	end()
}

func TestAsk(t *testing.T) {
	for name, test := range map[string]struct {
		script  string
		timeout time.Duration
		want    string
	}{
		"yes":       {script: "exit 0"},
		"no":        {script: "echo not today; exit 3", want: "hook says no: pre_start: exit status 3: not today"},
		"too late":  {script: "sleep 1000", timeout: 50 * time.Millisecond, want: "hook says no: pre_start is not done after"},
		"leaves":    {script: "sleep 1000 & exit 0"},
		"very long": {script: "yes | head -c 1000000; exit 1", want: "exit status 1: y"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, test.script)
			d.cfg.Timeout = test.timeout
			r, err := hook.New(d.cfg)
			must(t, err)
			err = r.Ask(t.Context(), hook.PreStart, 1)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !errors.Is(err, hook.ErrVeto) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

// TestAskKillsAll: of a command that took too long nothing is left.
func TestAskKillsAll(t *testing.T) {
	d := newDesk(t, `sleep 1000 & echo $! > "$SEEN"; sleep 1000`)
	d.cfg.Timeout = 200 * time.Millisecond
	r, err := hook.New(d.cfg)
	must(t, err)
	if err := r.Ask(t.Context(), hook.PreStart, 1); err == nil {
		t.Fatal("it had the time")
	}
	pid := strings.TrimSpace(d.seen())
	for deadline := time.Now().Add(10 * time.Second); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestNothingConfigured: a job without hooks makes no folder and is in nobody's way.
func TestNothingConfigured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hooks")
	r, err := hook.New(hook.Config{Job: "scheduler", Node: "a", Dir: dir})
	must(t, err)
	r.Expect(hook.OnFence, 1)
	r.Tell(hook.OnFence, 1)
	r.Forget(hook.OnFence, 1)
	must(t, r.Ask(t.Context(), hook.PreStart, 1))
	if _, err := os.Stat(dir); err == nil || r.Waiting() != 0 {
		t.Errorf("%v, %d wait", err, r.Waiting())
	}
}

// TestTornFile: what a daemon had not finished writing is no event, and nothing of it is left.
func TestTornFile(t *testing.T) {
	d := newDesk(t, "")
	must(t, os.MkdirAll(d.cfg.Dir, 0o700))
	must(t, os.WriteFile(filepath.Join(d.cfg.Dir, "00000000000000000001.json"), []byte(`{"hook":"post_st`), 0o600))
	must(t, os.WriteFile(filepath.Join(d.cfg.Dir, "00000000000000000002.json.new"), []byte(`{}`), 0o600))
	r, err := hook.New(d.cfg)
	must(t, err)
	if r.Waiting() != 0 || d.shelved() != 0 {
		t.Errorf("%d wait, %d files", r.Waiting(), d.shelved())
	}
}

func TestCheck(t *testing.T) {
	for want, commands := range map[string]map[hook.Name][]string{
		`hook "pre_lunch": want one of`:         {"pre_lunch": {"/bin/true"}},
		`hook pre_start: ["true"]: want a prog`: {hook.PreStart: {"true"}},
		`hook post_stop: []: want a program`:    {hook.PostStop: {}},
	} {
		if err := hook.Check(commands, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := hook.Check(nil, -1); err == nil {
		t.Error("a negative timeout")
	}
	if err := hook.Check(map[hook.Name][]string{hook.OnFence: {"/bin/true", "x"}}, time.Second); err != nil {
		t.Error(err)
	}
}
