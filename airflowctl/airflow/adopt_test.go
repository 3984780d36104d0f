package airflow_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
)

func TestAdoptTakesQueuedTasksBackAndNothingElse(t *testing.T) {
	b := newBench(t)
	ids := map[string]string{}
	for run, task := range map[string][4]string{
		"killed":     {"queued", "running", "running", message},
		"planned":    {"queued", "success", "running", message}, // after a clean SIGTERM
		"failed":     {"queued", "failed", "running", message},
		"started":    {"running", "running", "running", message}, // Airflow adopts it: its worker lives
		"local":      {"queued", "running", "running", ""},       // Airflow resets it by itself
		"kubernetes": {"queued", "running", "running", "17"},     // Airflow looks for its pod
		"ended":      {"queued", "running", "failed", message},   // nobody would schedule it again
		"done":       {"success", "running", "running", message},
	} {
		ids[run] = b.task(run, task[0], task[1], task[2], task[3])
	}
	run(t, b.admin, "INSERT INTO job (job_type, state, latest_heartbeat) VALUES ('TriggererJob', 'running', now())")

	store, claim := b.store(1)
	adopted, err := store.Adopt(t.Context(), claim)
	must(t, err)
	if want := (airflow.Adopted{Jobs: 6, Requeued: 3}); adopted != want {
		t.Errorf("adopted %+v, want %+v", adopted, want)
	}
	for run, want := range map[string]string{
		"killed":     "scheduled try 1 new id",
		"planned":    "scheduled try 1 new id",
		"failed":     "scheduled try 1 new id",
		"started":    "running try 1 job message since same id",
		"local":      "queued try 1 job since same id",
		"kubernetes": "queued try 1 job message since same id",
		"ended":      "queued try 1 job message since same id",
		"done":       "success try 1 job message since same id",
	} {
		if got := b.see(run, ids[run]); got != want {
			t.Errorf("%s: %s, want %s", run, got, want)
		}
	}
	jobs := text(t, b.admin, `SELECT string_agg(format('%s %s %s %s', job_type, state, end_date IS NULL, n), ', ' ORDER BY 1, state)
		FROM (SELECT job_type, state, end_date, count(*) AS n FROM (SELECT job_type, state, end_date IS NULL OR NULL AS end_date FROM job) j GROUP BY 1, 2, 3) g`)
	if !strings.Contains(jobs, "TriggererJob running") || strings.Contains(jobs, "SchedulerJob running") {
		t.Errorf("jobs: %s; want the triggerer's row alone to stay running", jobs)
	}

	again, err := store.Adopt(t.Context(), claim)
	must(t, err)
	if again != (airflow.Adopted{}) {
		t.Errorf("the second time adopted %+v, want nothing", again)
	}
}

// TestAdoptLeavesQueuedTasksToAirflow2 looks at what is written; what comes of it on the real program is seen by
// TestClusterTakesAirflow2Over.
func TestAdoptLeavesQueuedTasksToAirflow2(t *testing.T) {
	b := newBench(t)
	run(t, b.admin, "UPDATE alembic_version SET version_num = '5f2621c13b39'")
	id := b.task("sent", "queued", "running", "running", message)
	store, claim := b.store(1)
	schema, err := store.Probe(t.Context())
	must(t, err)
	if want := (airflow.Schema{Revision: "5f2621c13b39", Airflow: "2.11"}); schema != want {
		t.Errorf("schema %+v, want %+v", schema, want)
	}
	adopted, err := store.Adopt(t.Context(), claim)
	must(t, err)
	if want := (airflow.Adopted{Jobs: 1}); adopted != want {
		t.Errorf("adopted %+v, want %+v", adopted, want)
	}
	if got, want := b.see("sent", id), "queued try 1 job message since same id"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestProbeKnowsTheColumnsOfAirflow2 takes away all of a task that line 2 does not have.
func TestProbeKnowsTheColumnsOfAirflow2(t *testing.T) {
	b := newBench(t)
	run(t, b.admin, "UPDATE alembic_version SET version_num = '5f2621c13b39'")
	run(t, b.admin, "ALTER TABLE task_instance DROP COLUMN id CASCADE")
	store, _ := b.store(1)
	_, err := store.Probe(t.Context())
	must(t, err)
	run(t, b.admin, "ALTER TABLE job DROP COLUMN latest_heartbeat")
	if _, err := store.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "no column job.latest_heartbeat") {
		t.Errorf("err = %v, want the column named", err)
	}
}

func TestAdoptGivesIDsLikeAirflows(t *testing.T) {
	b := newBench(t)
	b.task("r", "queued", "running", "running", message)
	store, claim := b.store(1)
	_, err := store.Adopt(t.Context(), claim)
	must(t, err)
	id := text(t, b.admin, "SELECT id::text FROM task_instance")
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("id %s is no UUID version 7", id)
	}
	age := text(t, b.admin, `SELECT (abs(extract(epoch FROM now()) * 1000 - ('x' || lpad(replace(left(id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint) < 60000)::text FROM task_instance`)
	if age != "true" {
		t.Errorf("id %s does not carry the time", id)
	}
}

func TestAdoptKeepsWhatRefersToATask(t *testing.T) {
	b := newBench(t)
	id := b.task("r", "queued", "running", "running", message)
	run(t, b.admin, `INSERT INTO task_reschedule (ti_id, start_date, end_date, duration, reschedule_date) VALUES ($1::uuid, now(), now(), 1, now())`, id)
	run(t, b.admin, `INSERT INTO task_instance_note (ti_id, content, created_at, updated_at) VALUES ($1::uuid, 'n', now(), now())`, id)
	store, claim := b.store(1)
	_, err := store.Adopt(t.Context(), claim)
	must(t, err)
	for _, table := range []string{"task_reschedule", "task_instance_note"} {
		if n := text(t, b.admin, "SELECT count(*)::text FROM "+table+" x JOIN task_instance ti ON ti.id = x.ti_id"); n != "1" {
			t.Errorf("%s: %s rows follow the task, want 1", table, n)
		}
	}
}

// A worker starts a task in the very moment of the adoption: its transaction holds the row.
func TestAdoptLeavesATaskThatAWorkerIsStarting(t *testing.T) {
	b := newBench(t)
	id := b.task("r", "queued", "running", "running", message)
	store, claim := b.store(1)
	worker, err := b.admin.Begin(t.Context())
	must(t, err)
	_, err = worker.Exec(t.Context(), "UPDATE task_instance SET state = 'running' WHERE run_id = 'r'")
	must(t, err)

	done := make(chan error, 1)
	var adopted airflow.Adopted
	go func() {
		var err error
		adopted, err = store.Adopt(t.Context(), claim)
		done <- err
	}()
	watcher := connect(t, b.admin.Config().ConnString())
	eventually(t, "the adoption waits for the row", func() bool {
		return text(t, watcher, "SELECT count(*)::text FROM pg_locks WHERE NOT granted") != "0"
	})
	must(t, worker.Commit(t.Context()))
	must(t, <-done)
	if adopted.Requeued != 0 {
		t.Errorf("adopted %+v, want nothing requeued", adopted)
	}
	if got := b.see("r", id); !strings.HasPrefix(got, "running") || !strings.HasSuffix(got, "same id") {
		t.Errorf("task is %s, want it running under the same id", got)
	}
}

func TestAdoptDoesNotHangOnAHeldRow(t *testing.T) {
	b := newBench(t)
	held := b.task("held", "queued", "running", "running", message)
	free := b.task("free", "queued", "running", "running", message)
	frozen, err := b.admin.Begin(t.Context())
	must(t, err)
	_, err = frozen.Exec(t.Context(), "SELECT 1 FROM task_instance WHERE run_id = 'held' FOR UPDATE")
	must(t, err)
	store, claim := b.store(1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	adopted, err := store.Adopt(ctx, claim)
	must(t, err)
	must(t, frozen.Rollback(t.Context()))
	if want := (airflow.Adopted{Jobs: 2, Requeued: 1, Skipped: 1}); adopted != want {
		t.Errorf("adopted %+v, want %+v", adopted, want)
	}
	if got := b.see("held", held); !strings.HasPrefix(got, "queued") {
		t.Errorf("held task is %s", got)
	}
	if got := b.see("free", free); !strings.HasPrefix(got, "scheduled") {
		t.Errorf("free task is %s", got)
	}
}

func TestAdoptRefusesAnotherClaim(t *testing.T) {
	b := newBench(t)
	id := b.task("r", "queued", "running", "running", message)
	store, claim := b.store(1)
	for name, other := range map[string]func(){
		"token": func() { claim.Token = strings.Repeat("0", 32) },
		"row":   func() { run(t, b.admin, "UPDATE duoflow.fence SET epoch = 2 WHERE job = $1", job) },
		"none":  func() { run(t, b.admin, "DELETE FROM duoflow.fence WHERE job = $1", job) },
	} {
		other()
		if adopted, err := store.Adopt(t.Context(), claim); !errors.Is(err, airflow.ErrNotHolder) || adopted != (airflow.Adopted{}) {
			t.Errorf("%s: adopted %+v, err %v; want ErrNotHolder", name, adopted, err)
		}
	}
	claim.Epoch = 2
	if _, err := store.Adopt(t.Context(), claim); err == nil {
		t.Error("a claim of another epoch than the role's was taken")
	}
	if got := b.see("r", id); got != "queued try 1 job message since same id" {
		t.Errorf("task is %s, want it untouched", got)
	}
}

// The whole package is fenced with the scheduler, because it has nothing but its role.
func TestAFencedEpochCanDoNothing(t *testing.T) {
	b := newBench(t)
	old, oldClaim := b.store(1)
	_, err := old.Adopt(t.Context(), oldClaim)
	must(t, err)
	id := b.task("r", "queued", "running", "running", message)
	b.store(2)
	if _, err := old.Adopt(t.Context(), oldClaim); err == nil {
		t.Error("a fenced epoch adopted")
	}
	if err := old.Mirror(t.Context(), "a"); err == nil {
		t.Error("a fenced epoch wrote the mirror")
	}
	if got := b.see("r", id); got != "queued try 1 job message since same id" {
		t.Errorf("task is %s, want it untouched", got)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		case <-time.After(2 * time.Millisecond):
		}
	}
}
