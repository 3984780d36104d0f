package airflow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

func TestProbeKnowsAirflow(t *testing.T) {
	b := newBench(t)
	store, _ := b.store(1)
	schema, err := store.Probe(t.Context())
	must(t, err)
	if want := (airflow.Schema{Revision: "d2f4e1b3c5a7", Airflow: "3.3"}); schema != want {
		t.Errorf("schema %+v, want %+v", schema, want)
	}
}

func TestProbeRefusesByName(t *testing.T) {
	for name, test := range map[string]struct{ change, want string }{
		"revision": {"UPDATE alembic_version SET version_num = 'fffffffffff1'", `revision "fffffffffff1": a revision not known`},
		"empty":    {"DELETE FROM alembic_version", "table alembic_version is empty"},
		"none":     {"DROP TABLE alembic_version", "no table alembic_version"},
		"column":   {"ALTER TABLE job RENAME latest_heartbeat TO beat", "no column job.latest_heartbeat"},
		"table":    {"DROP TABLE task_reschedule", "no column task_reschedule.ti_id"},
		"type":     {"ALTER TABLE task_instance ALTER queued_by_job_id TYPE bigint", "column task_instance.queued_by_job_id is bigint, not integer"},
		"key":      {"CREATE TABLE other (ti uuid REFERENCES task_instance (id))", "table other refers to task_instance.id in an unknown way"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			run(t, b.admin, test.change)
			store, _ := b.store(1)
			_, err := store.Probe(t.Context())
			var unknown *airflow.UnknownSchemaError
			if !errors.As(err, &unknown) || len(unknown.Problems) != 1 {
				t.Fatalf("err = %v, want an unknown schema with one problem", err)
			}
			for _, want := range []string{test.want, "d2f4e1b3c5a7 (Airflow 3.3)", "airflow db migrate"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestProbeTakesTheOperatorsWordForARevisionButNotForColumns(t *testing.T) {
	b := newBench(t)
	run(t, b.admin, "UPDATE alembic_version SET version_num = 'fffffffffff1'")
	_, credentials := take(t, b.fencer, 1)
	store := open(t, credentials, airflow.Config{AcceptRevisions: []string{"fffffffffff1"}})
	schema, err := store.Probe(t.Context())
	must(t, err)
	if schema != (airflow.Schema{Revision: "fffffffffff1"}) {
		t.Errorf("schema %+v", schema)
	}
	run(t, b.admin, "ALTER TABLE job DROP end_date")
	if _, err := store.Probe(t.Context()); err == nil || strings.Contains(err.Error(), "not known") {
		t.Errorf("err = %v, want only the missing column", err)
	}
}

func TestMirrorWritesBothRowsAndOnlyForItsEpoch(t *testing.T) {
	b := newBench(t)
	store, _ := b.store(1)
	rows := "SELECT string_agg(key || '=' || value, ' ' ORDER BY key) FROM public.duo_flow"
	for _, node := range []string{"a", "b"} {
		must(t, store.Mirror(t.Context(), node))
		got := text(t, b.admin, rows)
		beat, found := strings.CutSuffix(strings.TrimPrefix(got, "Last_heartbeat="), " scheduler="+node)
		at, err := time.Parse("2006-01-02T15:04:05.000000Z", beat)
		if !found || err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("rows %q (%v)", got, err)
		}
	}
	before := text(t, b.admin, rows)
	run(t, b.admin, "UPDATE duoflow.fence SET epoch = 2")
	if err := store.Mirror(t.Context(), "c"); !errors.Is(err, airflow.ErrNotHolder) {
		t.Errorf("err = %v, want ErrNotHolder", err)
	}
	if after := text(t, b.admin, rows); after != before {
		t.Errorf("rows changed from %q to %q", before, after)
	}
}

func TestProgressLooksAtOurSchedulerOnly(t *testing.T) {
	b := newBench(t)
	b.task("old", "queued", "running", "running", message)
	store, claim := b.store(1)
	if _, _, ok, err := store.Progress(t.Context()); ok || err != nil {
		t.Errorf("before the adoption: ok %v, err %v", ok, err)
	}
	_, err := store.Adopt(t.Context(), claim)
	must(t, err)
	run(t, b.admin, "UPDATE job SET state = 'running'") // a dead scheduler's last beat wrote it back
	if _, _, ok, err := store.Progress(t.Context()); ok || err != nil {
		t.Errorf("without our row: ok %v, err %v", ok, err)
	}
	ours := text(t, b.admin, `INSERT INTO job (job_type, state, latest_heartbeat)
		VALUES ('SchedulerJob', 'running', now() - interval '7 s') RETURNING id::text`)
	run(t, b.admin, "INSERT INTO job (job_type, state, latest_heartbeat) VALUES ('TriggererJob', 'running', now())")
	beat, id, ok, err := store.Progress(t.Context())
	if !ok || err != nil || beat < 7*time.Second || beat > 30*time.Second {
		t.Errorf("beat %s, ok %v, err %v; want about 7 s", beat, ok, err)
	}
	if text(t, b.admin, "SELECT $1::bigint::text", id) != ours {
		t.Errorf("job %d, want %s", id, ours)
	}

	run(t, b.admin, "INSERT INTO job (job_type, state, latest_heartbeat) VALUES ('SchedulerJob', 'running', now())")
	must(t, store.SetJob(t.Context(), id))
	if _, got, _, err := store.Progress(t.Context()); got != id || err != nil {
		t.Errorf("job %d, err %v; want the one that was told, %d", got, err, id)
	}
}

func TestFirstQueued(t *testing.T) {
	b := newBench(t)
	store, _ := b.store(1)
	b.task("r", "scheduled", "running", "running", "")
	if _, seen, err := store.FirstQueued(t.Context(), 1); seen || err != nil {
		t.Errorf("seen %v, err %v before anything is queued", seen, err)
	}
	run(t, b.admin, "UPDATE task_instance SET state = 'queued'")
	at, seen, err := store.FirstQueued(t.Context(), 1)
	if !seen || err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("at %s, seen %v, err %v", at, seen, err)
	}
	if _, seen, err := store.FirstQueued(t.Context(), 2); seen || err != nil {
		t.Errorf("another job's: seen %v, err %v", seen, err)
	}
}

func TestTheConnectionComesBack(t *testing.T) {
	b := newBench(t)
	store, claim := b.store(1)
	run(t, b.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'df\\_%' AND datname = current_database()")
	eventually(t, "the store works again", func() bool {
		_, err := store.Adopt(t.Context(), claim)
		return err == nil
	})
}

func TestOpenRefusesALoginThatIsNoEpochRole(t *testing.T) {
	_, err := airflow.Open(t.Context(), fence.Credentials{Role: "airflow_owner", Password: "secret"}, airflow.Config{})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("err = %v", err)
	}
}
