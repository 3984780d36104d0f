package takeover

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/pg"
)

// tablesSQL are those columns of Airflow's, Celery's and the lab's tables that the notes look at.
const tablesSQL = `
CREATE TABLE job (id int PRIMARY KEY, job_type text, start_date timestamptz DEFAULT clock_timestamp());
CREATE TABLE dag_run (run_id text PRIMARY KEY, state text);
CREATE TABLE task_instance (run_id text, task_id text, state text, queued_by_job_id int, external_executor_id text);
CREATE TABLE celery_taskmeta (task_id text);
CREATE SCHEMA demo;
CREATE TABLE demo.demo_log (run_id text, task_id text, map_index int DEFAULT -1, at timestamptz DEFAULT clock_timestamp());
INSERT INTO job VALUES (1, 'SchedulerJob'), (2, 'SchedulerJob');
INSERT INTO dag_run VALUES ('k-1', 'running'), ('k-2', 'failed'), ('other', 'success')`

// noted is a world that has a server and the notes, and no Airflow.
func noted(t *testing.T) *World {
	t.Helper()
	server, err := pg.Start(t.Context(), pg.Options{Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	pool, err := pgxpool.New(t.Context(), server.Superuser())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := &World{Pool: pool}
	w.exec(t, tablesSQL)
	if err := w.note(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *World) exec(t *testing.T, sql string) time.Time {
	t.Helper()
	var now time.Time
	if _, err := w.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if err := w.Pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	return now
}

// TestNotes goes through the fates of a dead scheduler's tasks, without Airflow and on a real server.
func TestNotes(t *testing.T) {
	w := noted(t)
	w.exec(t, `INSERT INTO task_instance (run_id, task_id) SELECT 'k-1', x FROM unnest(ARRAY['over', 'ends', 'adopted', 'reset', 'stuck', 'twice']) x`)
	w.exec(t, `UPDATE task_instance SET state = 'queued', queued_by_job_id = 1, external_executor_id = 'm-' || task_id`)
	w.exec(t, `INSERT INTO demo.demo_log (run_id, task_id) VALUES ('k-1', 'over'), ('k-1', 'twice')`)
	w.exec(t, `UPDATE task_instance SET state = 'success' WHERE task_id = 'over'`)
	w.exec(t, `UPDATE task_instance SET state = 'running' WHERE task_id IN ('ends', 'twice')`)
	w.exec(t, `INSERT INTO celery_taskmeta VALUES ('m-ends')`)
	fault := w.exec(t, `SELECT 1`)

	tasks := func() map[string]Task {
		t.Helper()
		found, err := w.Unfinished(t.Context(), 1, fault, fault)
		if err != nil {
			t.Fatal(err)
		}
		byID := map[string]Task{}
		for _, task := range found {
			byID[task.ID] = task
		}
		return byID
	}
	before := tasks()
	if len(before) != 5 || before["ends"].Sent != true || before["twice"].Sent != true || before["stuck"].Sent || !before["ends"].Gone.IsZero() {
		t.Errorf("at the fault: %+v", before)
	}
	w.exec(t, `UPDATE task_instance SET state = 'success' WHERE task_id = 'ends'`)
	w.exec(t, `UPDATE task_instance SET queued_by_job_id = 2 WHERE task_id = 'adopted'`)
	w.exec(t, `UPDATE task_instance SET state = NULL, queued_by_job_id = NULL WHERE task_id = 'reset'`)
	w.exec(t, `UPDATE task_instance SET external_executor_id = NULL WHERE task_id = 'stuck'`) // is no adoption
	w.exec(t, `UPDATE task_instance SET state = 'queued', queued_by_job_id = 2 WHERE task_id = 'reset'`)
	w.exec(t, `INSERT INTO demo.demo_log (run_id, task_id) VALUES ('k-1', 'twice')`)
	after := tasks()
	for id, want := range map[string][2]bool{"ends": {true, false}, "adopted": {true, false}, "reset": {true, true}, "stuck": {}, "twice": {}} {
		if got := after[id]; got.Gone.IsZero() == want[0] || got.Again.IsZero() == want[1] || got.Gone.After(time.Now()) {
			t.Errorf("%s: %+v, want gone %v, queued again %v", id, got, want[0], want[1])
		}
	}
	queued, row, err := w.FirstQueued(t.Context(), 1, fault)
	if err != nil || !queued.Equal(after["reset"].Again) || row.IsZero() {
		t.Errorf("first queued at %s by the scheduler of %s: %v", queued, row, err)
	}
	count, err := w.Count(t.Context(), "k-", 3)
	if want := (Count{Tasks: 6, Twice: 1, Never: 4, Failed: 1, Open: 1}); err != nil || count != want {
		t.Errorf("counted %+v, %v; want %+v", count, err, want)
	}
}

// TestCommitOrder: what epochs' roles write is noted, and what others write is not.
func TestCommitOrder(t *testing.T) {
	w := noted(t)
	for _, role := range []string{"df_airflow_scheduler_e1", "df_airflow_scheduler_e2"} {
		w.exec(t, "CREATE ROLE "+role+" SUPERUSER")
	}
	for _, role := range []string{"df_airflow_scheduler_e1", "df_airflow_scheduler_e2", "df_airflow_scheduler_e1"} {
		w.exec(t, "SET SESSION AUTHORIZATION "+role+"; UPDATE job SET start_date = now(); RESET SESSION AUTHORIZATION")
	}
	w.exec(t, `UPDATE job SET start_date = now()`)
	order, err := w.CommitOrder(t.Context())
	if err != nil || order.Rows != 3 || order.Epochs != 2 || order.Stale != 1 {
		t.Errorf("commit order %+v, %v", order, err)
	}
}
