package airflowctl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
)

// TestAnOldLifeIsNotRevived is invariant I9 at its worst: the old process is still alive on the host that takes over
// again. With a service file shared between lives it came back with the new role, five times of five.
func TestAnOldLifeIsNotRevived(t *testing.T) {
	m := newMetastore(t)
	here := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", loop}, Env: os.Environ(),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	there := newJob(t, airflowctl.Config{
		Node: "b", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(),
		FenceDSN: m.dsn["b"], Observer: &events{},
	})
	takeOver(t, here, claim(1, "a"))
	eventually(t, "the first life writes", func() bool { return m.count(t, `SELECT count(*) FROM work`) > 0 })
	takeOver(t, there, claim(2, "b"))
	// Nobody stopped the first life, and this host takes over again.
	takeOver(t, here, claim(3, "a"))
	eventually(t, "the third life writes", func() bool { return m.count(t, `SELECT count(*) FROM work WHERE epoch = 3`) > 5 })
	if late := m.count(t, `SELECT count(*) FROM work WHERE epoch < 3 AND id > (SELECT min(id) FROM work WHERE epoch = 3)`); late != 0 {
		t.Errorf("the first life wrote %d rows after the third began", late)
	}
	if pids := m.count(t, `SELECT count(DISTINCT pid) FROM work`); pids != 2 {
		t.Errorf("%d processes wrote, want one for each epoch of this host", pids)
	}
}

// TestServiceFileBelongsToOneLife: each life has a path of its own, readable by nobody else, gone when it is over.
func TestServiceFileBelongsToOneLife(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", `echo "$PGSERVICEFILE"; exec sleep 60`},
		Env: append(os.Environ(), "PGUSER=postgres", "PGPASSWORD=x"), FenceDSN: m.dsn["a"], Observer: &events{},
	})
	takeOver(t, j, claim(1, "a"))
	files := serviceFiles(t, j)
	if len(files) != 1 {
		t.Fatalf("service files: %v", files)
	}
	info, err := os.Stat(files[0])
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	eventually(t, "it has said so", func() bool {
		text, err := os.ReadFile(filepath.Join(j.Root(), "output", jobName+".log"))
		return err == nil && strings.Contains(string(text), files[0])
	})
	must(t, j.Stop(t.Context(), 1, time.Second))
	if left := serviceFiles(t, j); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	takeOver(t, j, claim(2, "a"))
	if next := serviceFiles(t, j); len(next) != 1 || next[0] == files[0] {
		t.Errorf("second life has %v, the first had %v", next, files)
	}
	if last := strings.Join(j.Status().LastLines[1], "\n"); !strings.Contains(last, files[0]) {
		t.Errorf("last lines of the first life: %q", last)
	}
}

func serviceFiles(t *testing.T, j *airflowctl.Job) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(j.Root(), "lives", "*", "service"))
	must(t, err)
	return files
}

// TestStopEmptiesTheTree: nothing of a life survives Stop, and a life that ends by itself is reported.
func TestStopEmptiesTheTree(t *testing.T) {
	m := newMetastore(t)
	seen := &events{}
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: seen,
		Command: []string{"sh", "-c", `trap "" TERM; setsid sh -c 'trap "" TERM; while :; do sleep 0.1; done' & echo $! > grandchild; wait`},
	})
	takeOver(t, j, claim(1, "a"))
	file := filepath.Join(j.Root(), "grandchild")
	eventually(t, "the grandchild runs", func() bool { _, err := os.ReadFile(file); return err == nil })
	must(t, j.Stop(t.Context(), 1, 50*time.Millisecond))
	pid, err := os.ReadFile(file)
	must(t, err)
	if alive(strings.TrimSpace(string(pid))) {
		t.Errorf("grandchild %s lives on", pid)
	}
	eventually(t, "the end is reported", func() bool { return strings.HasPrefix(seen.ended(), "1: SIGKILL") })
}

// orphans is a process that leaves children behind, in sessions of their own, with every pipe of it in their hands.
const orphans = `#!/bin/sh
setsid sh -c 'trap "" TERM HUP; while :; do sleep 0.05; done' & echo $! > "$ORPHAN"
echo "warm $$ 0.1" >&4
read line <&3
echo "job 1" >&4
echo "no such module"
exec sleep 600
`

// TestNoChildOutlivesTheMainProcess: when the main process of a life is killed, its children are killed before its end
// is told, and with its last words. A forked child of a scheduler (LocalExecutor) has the pipe of the shim's lines too.
func TestNoChildOutlivesTheMainProcess(t *testing.T) {
	m := newMetastore(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "python")
	must(t, os.WriteFile(program, []byte(orphans), 0o755))
	for epoch, kind := range []airflowctl.Kind{1: airflowctl.Airflow, 2: airflowctl.Command} {
		if kind == "" {
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			orphan := filepath.Join(dir, string(kind))
			seen := &events{alive: func() bool {
				pid, err := os.ReadFile(orphan)
				return err != nil || alive(strings.TrimSpace(string(pid)))
			}}
			j := newJob(t, airflowctl.Config{
				Node: "a", Kind: kind, Python: program, FenceDSN: m.dsn["a"], Observer: seen, Env: append(os.Environ(), "ORPHAN="+orphan),
				Command: []string{"sh", "-c", `exec 3</dev/null 4>/dev/null; . "$0"`, program},
			})
			takeWithoutAirflow(t, j, claim(uint64(epoch), "a"))
			var main string
			eventually(t, "the main process sleeps", func() bool {
				main = findProcess(t, orphan, "sleep\x00600\x00")
				return main != "" && seen.alive()
			})
			pid, err := strconv.Atoi(main)
			must(t, err)
			began := time.Now()
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			eventually(t, "its end is told", func() bool { return seen.ended() != "" })
			t.Logf("told after %s", time.Since(began))
			if seen.alive() || seen.late {
				t.Error("a child of it lived when its end was told")
			}
			if want := strconv.Itoa(epoch) + ": SIGKILL: no such module"; seen.ended() != want {
				t.Errorf("told %q, want %q", seen.ended(), want)
			}
			must(t, j.Stop(t.Context(), uint64(epoch), 0))
		})
	}
}

// findProcess finds a process by its command line and by a value in its environment; "" when there is none.
func findProcess(t *testing.T, value, line string) string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range dirs {
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || string(command) != line {
			continue // it has ended meanwhile
		}
		if environ, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil && strings.Contains(string(environ), value) {
			return filepath.Base(dir)
		}
	}
	return ""
}

// alive reports whether a process runs; a zombie that nobody has reaped yet does not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestSupersededIsSaid: a host whose claim is too old is told so, and does not start anything.
func TestSupersededIsSaid(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	other := newJob(t, airflowctl.Config{
		Node: "b", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(),
		FenceDSN: m.dsn["b"], Observer: &events{},
	})
	must(t, j.Take(t.Context(), claim(1, "a")))
	must(t, other.Take(t.Context(), claim(2, "b")))
	if err := j.Drain(t.Context(), claim(1, "a")); !errors.Is(err, airflowctl.ErrSuperseded) {
		t.Errorf("drain of an old claim: %v", err)
	}
	if err := j.Take(t.Context(), claim(1, "a")); !errors.Is(err, airflowctl.ErrSuperseded) {
		t.Errorf("take of an old claim: %v", err)
	}
	must(t, j.Stop(t.Context(), 1, time.Second))
}

// TestACommandThatCannotStartIsRefused: trying again under the same epoch would not help.
func TestACommandThatCannotStartIsRefused(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"/no/such/program"}, Env: os.Environ(),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	must(t, j.Take(t.Context(), claim(1, "a")))
	must(t, j.Drain(t.Context(), claim(1, "a")))
	if err := j.Start(t.Context(), claim(1, "a")); !errors.Is(err, airflowctl.ErrRefused) {
		t.Errorf("start of a missing program: %v", err)
	}
	must(t, j.Stop(t.Context(), 1, time.Second))
}

// TestRightsTakenAway: a fence that can never be taken is said to be so, or the job would wait here for ever.
func TestRightsTakenAway(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	m.exec(t, `ALTER ROLE duoflow NOCREATEROLE`)
	if err := j.Take(t.Context(), claim(1, "a")); !errors.Is(err, airflowctl.ErrRefused) {
		t.Errorf("take without the right to make roles: %v", err)
	}
}

// TestFenceLostBeforeAdoption: a server that lost the fence knows the epoch's role no more, and never will again.
func TestFenceLostBeforeAdoption(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Python: "/no/such/python", Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
	})
	must(t, j.Take(t.Context(), claim(1, "a")))
	must(t, j.Drain(t.Context(), claim(1, "a")))
	m.exec(t, `DO $$ DECLARE r name; BEGIN
		FOR r IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'df\_%\_e1' LOOP EXECUTE format('DROP ROLE %I', r); END LOOP;
	END $$`)
	if err := j.Adopt(t.Context(), claim(1, "a")); !errors.Is(err, airflowctl.ErrRefused) {
		t.Errorf("adoption with a role that is gone: %v", err)
	}
}

// TestNothingStartsAfterGivingUp: a start whose takeover was given up makes no process.
func TestNothingStartsAfterGivingUp(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", loop}, Env: os.Environ(),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	must(t, j.Take(t.Context(), claim(1, "a")))
	must(t, j.Drain(t.Context(), claim(1, "a")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Start(ctx, claim(1, "a")); err == nil {
		t.Error("started")
	}
	if files := serviceFiles(t, j); len(files) != 0 {
		t.Errorf("a life has begun: %v", files)
	}
}

// TestDoctorLooksForCelerysTables, but only where the scheduler needs them.
func TestDoctorLooksForCelerysTables(t *testing.T) {
	m := newMetastore(t)
	for executor, want := range map[string]string{"CeleryExecutor": "celery_taskmeta is missing, celery_tasksetmeta is missing", "LocalExecutor": ""} {
		j := newJob(t, airflowctl.Config{
			Node: "a", Kind: airflowctl.Airflow, Python: "python3", FenceDSN: m.dsn["a"], Observer: &events{},
			Env: append(os.Environ(), "AIRFLOW__CORE__EXECUTOR="+executor),
		})
		report, err := j.Doctor(t.Context())
		must(t, err)
		got := ""
		for _, finding := range report.Findings {
			if strings.HasPrefix(finding.Name, "Celery") && !finding.OK {
				got = finding.Detail
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", executor, got, want)
		}
	}
}
