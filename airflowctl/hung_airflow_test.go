//go:build airflow

package airflowctl_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl"
)

const (
	// hungAfter is what package control judges by.
	hungAfter = 15 * time.Second
	// foundWithin is that, one beat, one look, and a busy machine.
	foundWithin = hungAfter + 6*time.Second
)

// anOutageIsNotItsEnd stops every process of the database for longer than a scheduler may be idle: all connections
// stay, and nothing answers.
func (r *scheduler) anOutageIsNotItsEnd(t *testing.T) {
	eventually(t, "its progress is seen", func() bool { return len(r.seen.idles(r.epoch)) > 0 })
	thaw := freeze(t, r.stack.Store().PID())
	time.Sleep(3 * time.Second) // a look that had its answer already may still be told
	before := len(r.seen.idles(r.epoch))
	for end := time.Now().Add(hungAfter); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if told := len(r.seen.idles(r.epoch)); told != before {
			t.Fatalf("progress is judged during the outage: %v", r.seen.idles(r.epoch)[before:])
		}
	}
	thaw()
	eventually(t, "its progress is seen again", func() bool { return len(r.seen.idles(r.epoch)) >= before+4 })
	idles := r.seen.idles(r.epoch)
	if longest := slices.Max(idles); longest > hungAfter/2 {
		t.Errorf("idle for %s in a job that was not hung: %v", longest, idles)
	}
	if r.seen.ended() != "" {
		t.Errorf("it ended: %s", r.seen.ended())
	}
}

// freeze stops a server and its children, and returns what lets them go on.
func freeze(t *testing.T, pid int) func() {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	must(t, err)
	pids := []int{pid}
	for _, field := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(field)
		must(t, err)
		must(t, syscall.Kill(child, syscall.SIGSTOP))
		pids = append(pids, child)
	}
	thaw := func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// aLockIsFound holds the row that the scheduler writes its heartbeat to. Meanwhile the standby is made anew, because
// the schema changes.
func (r *scheduler) aLockIsFound(t *testing.T) {
	eventually(t, "the active host has a standby", func() bool { return r.Status().Warm })
	old := lives(t, r.Job, false)
	revision := r.swapRevision(t, "0123456789ab")
	conn, err := pgx.Connect(t.Context(), r.stack.Store().Admin())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `BEGIN; SELECT id FROM job WHERE job_type = 'SchedulerJob' ORDER BY id DESC LIMIT 1 FOR UPDATE`)
	must(t, err)
	r.awaitHung(t)
	eventually(t, "the standby is made anew", func() bool {
		now := lives(t, r.Job, false)
		return len(now) == 1 && now[0] != old[0] && r.Status().Warm
	})
	r.swapRevision(t, revision)
	dump := r.stopHung(t)
	for _, part := range []string{"state S (sleeping)", "heartbeat", "sqlalchemy", "standby.py"} {
		if !strings.Contains(dump, part) {
			t.Errorf("the dump lacks %q:\n%s", part, dump)
		}
	}
	if last := strings.Join(r.Status().LastLines[r.epoch], "\n"); !strings.Contains(last, "in do_execute") {
		t.Errorf("the last lines do not show the call it hangs in:\n%s", last)
	}
}

func (r *scheduler) swapRevision(t *testing.T, revision string) (before string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.stack.Store().Admin())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	must(t, conn.QueryRow(t.Context(), `SELECT version_num FROM alembic_version`).Scan(&before))
	_, err = conn.Exec(t.Context(), `UPDATE alembic_version SET version_num = $1`, revision)
	must(t, err)
	return before
}

// aStopIsFound stops the scheduler's process.
func (r *scheduler) aStopIsFound(t *testing.T) {
	r.next(t, r.Job, "a")
	pids := lives(t, r.Job, true)
	if len(pids) != 1 {
		t.Fatalf("lives: %v", pids)
	}
	eventually(t, "its progress is seen", func() bool { return len(r.seen.idles(r.epoch)) > 0 })
	must(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	r.awaitHung(t)
	dump := r.stopHung(t)
	for _, part := range []string{"state T (stopped)", "do_signal_stop", "it is stopped, so it cannot print"} {
		if !strings.Contains(dump, part) {
			t.Errorf("the dump lacks %q:\n%s", part, dump)
		}
	}
}

func (r *scheduler) awaitHung(t *testing.T) {
	t.Helper()
	began := time.Now()
	eventually(t, "it is found", func() bool {
		idles := r.seen.idles(r.epoch)
		return len(idles) > 0 && idles[len(idles)-1] > hungAfter
	})
	took := time.Since(began)
	t.Logf("found after %s", took)
	if took > foundWithin {
		t.Errorf("found after %s, want %s", took, foundWithin)
	}
}

// stopHung stops it as a hung one is, and returns what of that is in the job's output.
func (r *scheduler) stopHung(t *testing.T) string {
	t.Helper()
	began := time.Now()
	must(t, r.Stop(t.Context(), r.epoch, 0))
	t.Logf("stopped in %s", time.Since(began))
	if left := lives(t, r.Job, true); len(left) != 0 {
		t.Errorf("still alive: %v", left)
	}
	output, err := os.ReadFile(filepath.Join(r.Root(), "output", jobName+".log"))
	must(t, err)
	begin := strings.LastIndex(string(output), "duoflow: killed without grace")
	if begin < 0 {
		t.Fatalf("no dump in the output:\n%s", output)
	}
	last := r.Status().LastLines[r.epoch]
	if len(last) == 0 {
		t.Error("no last lines")
	}
	t.Logf("last lines:\n%s", strings.Join(last, "\n"))
	return string(output[begin:])
}

// localTasksRunAgain: the tasks of a LocalExecutor are processes of the scheduler's tree.
func (r *scheduler) localTasksRunAgain(t *testing.T) {
	const seconds = 4
	local := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Python: r.stack.Python(), FenceDSN: r.dsn["a"], Observer: &events{},
		Env: append(r.stack.SchedulerEnv(), "AIRFLOW__CORE__EXECUTOR=LocalExecutor", "AIRFLOW__CORE__PARALLELISM=2",
			fmt.Sprintf("DUOFLOW_DEMO_SECONDS=%d", seconds)),
	})
	r.next(t, local, "a")
	must(t, r.stack.Trigger(t.Context(), "local"))
	eventually(t, "both tasks run", func() bool { return len(r.workers(t)) == 2 })
	first := r.workers(t)
	for _, pid := range first {
		if !alive(pid) {
			t.Errorf("task %s is over too early", pid)
		}
	}
	must(t, local.Stop(t.Context(), r.epoch, 0))
	for _, pid := range first {
		if alive(pid) {
			t.Errorf("task %s outlived its scheduler", pid)
		}
	}
	r.next(t, local, "a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	state, err := r.stack.AwaitRun(ctx, "local")
	if err != nil || state != "success" {
		t.Errorf("the run ended as %q: %v", state, err)
	}
	if again := r.workers(t); len(again) != 4 {
		t.Errorf("processes of the tasks: %v, want each begun twice", again)
	}
	if tries := r.tries(t); tries != "2" {
		t.Errorf("the last try is %s, want 2: the killed one counts", tries)
	}
	states, err := r.stack.TaskStates(t.Context(), "local")
	if err != nil || states["success"] != 2 {
		t.Errorf("task states %v (%v)", states, err)
	}
	must(t, local.Stop(t.Context(), r.epoch, time.Second))
}

// workers are the processes that the tasks of run "local" were begun in.
func (r *scheduler) workers(t *testing.T) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.stack.Store().Admin())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), `SELECT pid::text FROM demo.demo_log WHERE run_id = 'local' ORDER BY id`)
	must(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return pids
}

func (r *scheduler) tries(t *testing.T) (last string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.stack.Store().Admin())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	must(t, conn.QueryRow(t.Context(), `SELECT max(try_number)::text FROM demo.demo_log WHERE run_id = 'local'`).Scan(&last))
	return last
}
