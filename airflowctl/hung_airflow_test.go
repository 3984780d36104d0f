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
	"github.com/duoflow/duoflow/airflowctl/fence"
)

const (
	// hungAfter is what package control judges by.
	hungAfter = 15 * time.Second
	// foundWithin is that and a busy machine. Looks are 2 s apart, but the row's beat is that old already when it hangs.
	foundWithin = hungAfter + 2*time.Second
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
	r.awaitHung(t, r.databaseTime(t))
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
	since := r.databaseTime(t)
	must(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	r.awaitHung(t, since)
	dump := r.stopHung(t)
	for _, part := range []string{"state T (stopped)", "do_signal_stop", "it is stopped, so it cannot print"} {
		if !strings.Contains(dump, part) {
			t.Errorf("the dump lacks %q:\n%s", part, dump)
		}
	}
}

// busy is a plugin as somebody may well write it: it is called by the scheduler, and does not end.
const busy = `
import os, sys
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

@hookimpl
def on_dag_run_running(dag_run, msg):
    if os.path.exists(__file__ + ".flag"):
        open(__file__ + ".entered", "w").close()
        while True:
            pass

class Busy(AirflowPlugin):
    name = "busy"
    listeners = [sys.modules[__name__]]
`

// aBusyLoopIsFound lets a plugin keep the scheduler busy for ever.
func (r *scheduler) aBusyLoopIsFound(t *testing.T) {
	r.next(t, r.Job, "a")
	eventually(t, "its progress is seen", func() bool { return len(r.seen.idles(r.epoch)) > 0 })
	must(t, os.WriteFile(r.plugin+".flag", nil, 0o644))
	must(t, r.stack.Trigger(t.Context(), "busy"))
	eventually(t, "it is in the loop", func() bool { _, err := os.Stat(r.plugin + ".entered"); return err == nil })
	r.awaitHung(t, r.databaseTime(t))
	must(t, os.Remove(r.plugin+".flag"))
	dump := r.stopHung(t)
	for _, part := range []string{"state R (running)", "in on_dag_run_running", "busy.py", "standby.py"} {
		if !strings.Contains(dump, part) {
			t.Errorf("the dump lacks %q:\n%s", part, dump)
		}
	}
}

// withoutResultTables: the doctor says so beforehand, and what comes of it is told.
func (r *scheduler) withoutResultTables(t *testing.T) {
	const name = "Celery's result tables"
	look := func() (found fence.Finding) {
		report, err := r.Doctor(t.Context())
		must(t, err)
		for _, finding := range report.Findings {
			if finding.Name == name {
				found = finding
			}
		}
		return found
	}
	if got := look(); !got.OK {
		t.Errorf("%s: %+v", name, got)
	}
	r.renameResults(t, "celery_taskmeta", "gone_taskmeta")
	if got := look(); got.OK || !strings.Contains(got.Detail, "celery_taskmeta is missing") {
		t.Errorf("without them: %+v", got)
	}
	r.next(t, r.Job, "a")
	must(t, r.stack.Trigger(t.Context(), "unresulted"))
	eventually(t, "its end is told", func() bool { return strings.Contains(r.seen.ended(), fmt.Sprint(r.epoch, ": exit")) })
	t.Logf("told: %s", r.seen.ended())
	must(t, r.Stop(t.Context(), r.epoch, 0))
	r.renameResults(t, "gone_taskmeta", "celery_taskmeta")
}

func (r *scheduler) renameResults(t *testing.T, from, to string) {
	t.Helper()
	r.admin(t, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to)
		return err
	})
}

// awaitHung waits until it is found that the scheduler, which hangs since a moment, hangs. Both times are the database's.
func (r *scheduler) awaitHung(t *testing.T, since time.Time) {
	t.Helper()
	eventually(t, "it is found", func() bool {
		idles := r.seen.idles(r.epoch)
		return len(idles) > 0 && idles[len(idles)-1] > hungAfter
	})
	took := r.databaseTime(t).Sub(since)
	t.Logf("found after %s", took)
	if took > foundWithin {
		t.Errorf("found after %s, want %s", took, foundWithin)
	}
	if took < hungAfter/2 {
		t.Errorf("found after %s: it hung before", took)
	}
}

func (r *scheduler) databaseTime(t *testing.T) (now time.Time) {
	t.Helper()
	r.admin(t, func(conn *pgx.Conn) error { return conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now) })
	return now
}

// admin does something in the metastore as its superuser.
func (r *scheduler) admin(t *testing.T, work func(*pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.stack.Store().Admin())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	must(t, work(conn))
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

// localTasksRunAgain: the tasks of a LocalExecutor are processes of the scheduler's tree. When its main process is killed
// alone, Airflow lets them go on; we do not.
func (r *scheduler) localTasksRunAgain(t *testing.T) {
	const seconds = 12 // longer than a slow machine needs to begin the second task after the first
	seen := &events{}
	local := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Python: r.stack.Python(), FenceDSN: r.dsn["a"], Observer: seen,
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
	began := time.Now()
	must(t, syscall.Kill(mainProcess(t, local), syscall.SIGKILL))
	eventually(t, "its end is told", func() bool { return seen.ended() != "" })
	if took := time.Since(began); took > time.Second {
		t.Errorf("its end was told after %s", took)
	}
	for _, pid := range first {
		if alive(pid) {
			t.Errorf("task %s outlived its scheduler", pid)
		}
	}
	must(t, local.Stop(t.Context(), r.epoch, 0))
	r.next(t, local, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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

// mainProcess is the scheduler itself: the one process of its life whose parent is not of the life.
func mainProcess(t *testing.T, j *airflowctl.Job) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	ours := func(pid string) bool {
		environ, err := os.ReadFile("/proc/" + pid + "/environ")
		return err == nil && strings.Contains(string(environ), "PGSERVICEFILE="+j.Root())
	}
	for _, file := range files {
		pid := filepath.Base(filepath.Dir(file))
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || !ours(pid) {
			continue // it has ended meanwhile
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if !ours(strings.Fields(rest)[1]) {
			number, err := strconv.Atoi(pid)
			must(t, err)
			return number
		}
	}
	t.Fatal("no main process")
	return 0
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
