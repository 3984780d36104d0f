package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// tablesSQL are those columns of Airflow's and Celery's tables that are looked at, and the lab's notes of what is written.
const tablesSQL = `
CREATE TABLE dag_run (id int GENERATED ALWAYS AS IDENTITY, dag_id text, run_id text, state text, logical_date timestamptz);
CREATE TABLE task_instance (id uuid DEFAULT gen_random_uuid(), dag_id text, run_id text, task_id text, map_index int DEFAULT -1,
  try_number int DEFAULT 1, state text, end_date timestamptz, external_executor_id text);
CREATE TABLE task_instance_history (task_instance_id uuid, dag_id text, run_id text, task_id text, map_index int, try_number int, state text,
  end_date timestamptz);
CREATE TABLE celery_taskmeta (id int GENERATED ALWAYS AS IDENTITY, task_id text, status text);
CREATE SCHEMA takeover;
CREATE TABLE takeover.writes (node text, epoch bigint, pid int, seq bigint);
CREATE ROLE df_airflow_scheduler_e3 SUPERUSER;
CREATE ROLE df_airflow_scheduler_e4 SUPERUSER;
INSERT INTO dag_run (dag_id, run_id, state, logical_date) VALUES
  ('tasks_chain', 'asked-1', 'running', NULL), ('tasks_clock', 'scheduled-1', 'success', '2026-11-30 12:00:00+00');
INSERT INTO task_instance (dag_id, run_id, task_id, external_executor_id) VALUES ('tasks_chain', 'asked-1', 'one', 'm1'), ('tasks_chain', 'asked-1', 'two', 'm2')`

// noted is a stage of which only the metastore and the folder are there.
func noted(t *testing.T) *stage {
	t.Helper()
	server, err := pg.Start(t.Context(), pg.Options{Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
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
	s := &stage{World: &takeover.World{Pool: pool}, folder: t.TempDir(), progress: io.Discard}
	s.exec(t, tablesSQL)
	s.exec(t, noteSQL)
	if err := commitorder.Watch(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return s
}

// exec returns the metastore's clock afterwards.
func (s *stage) exec(t *testing.T, sql string) time.Time {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	now, err := s.now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// as carries it out under a login.
func (s *stage) as(t *testing.T, login, sql string) time.Time {
	t.Helper()
	return s.exec(t, "SET SESSION AUTHORIZATION "+login+"; "+sql+"; RESET SESSION AUTHORIZATION")
}

// TestNotes: what happens to a task instance is noted with who did it, measured, and written down.
func TestNotes(t *testing.T) {
	s := noted(t)
	s.as(t, "df_airflow_scheduler_e3", `UPDATE task_instance SET state = 'queued'`)
	fault := s.exec(t, `SELECT 1`)
	back := s.exec(t, `UPDATE task_instance SET state = 'scheduled', id = gen_random_uuid() WHERE task_id = 'one'`)
	first, err := s.firstQueued(t.Context(), fault, 3)
	if err != nil || first != nil {
		t.Errorf("first queued at %v, %v; want none yet", first, err)
	}
	queued := s.as(t, "df_airflow_scheduler_e4", `UPDATE task_instance SET state = 'queued' WHERE task_id = 'one'`)
	if first, err = s.firstQueued(t.Context(), fault, 3); err != nil || first == nil || first.Before(back) || first.After(queued) {
		t.Fatalf("first queued at %v, %v; want between %s and %s", first, err, back, queued)
	}
	if later, err := s.firstQueued(t.Context(), fault, 4); err != nil || later != nil {
		t.Errorf("queued under a later epoch at %v, %v; want none", later, err)
	}
	s.exec(t, `UPDATE task_instance SET external_executor_id = 'other'`) // is no change of state
	if n, err := s.unfinished(t.Context()); err != nil || n != 2 {
		t.Errorf("%d tasks are not finished, %v; want 2", n, err)
	}
	s.exec(t, `INSERT INTO takeover.writes VALUES ('a', 3, 7, 1); INSERT INTO celery_taskmeta (task_id, status) VALUES ('m2', 'SUCCESS')`)
	s.exported(t)
}

// exported wants the tables in the folder as the judge reads them.
func (s *stage) exported(t *testing.T) {
	t.Helper()
	if err := s.export(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{journalName, trialsName, triggersName} {
		if err := os.WriteFile(filepath.Join(s.folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := appendJSON(filepath.Join(s.folder, runName), Run{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	e, err := readEvidence(s.folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Runs) != 2 || !e.Runs[1].Date.Equal(noon) || len(e.Instances) != 2 || len(e.Messages) != 1 || len(e.Commits) != 1 {
		t.Errorf("kept %+v", e)
	}
	if len(e.Notes) != 4 || e.Notes[2].Was != "queued" || e.Notes[2].State != "scheduled" || e.Notes[2].Before == e.Notes[2].ID ||
		e.Notes[3].Login != "df_airflow_scheduler_e4" || e.Notes[3].Name != "one" || e.Notes[3].Map != -1 {
		t.Errorf("noted %+v", e.Notes)
	}
}

// TestEntries: lines that come are waited for, those that were there are not counted.
func TestEntries(t *testing.T) {
	s := &stage{folder: t.TempDir()}
	path := filepath.Join(s.folder, journalName)
	entry := map[string]string{"what": "end"}
	if err := os.WriteFile(path, []byte(endEntry+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.awaitEntries(soon, endEntry, 1); err == nil {
		t.Error("the line that was there already counts")
	}
	done := make(chan error, 1)
	go func() { done <- s.awaitEntries(t.Context(), `{"what":"end"`, 2) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(5 * time.Millisecond):
			if err := appendJSON(path, entry); err != nil {
				t.Fatal(err)
			}
		}
	}
}
