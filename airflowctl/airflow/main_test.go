package airflow_test

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

const (
	job      = "scheduler"
	patience = 2 * time.Minute // a test that waits longer has failed
)

//go:embed testdata/airflow-3.3.sql
var airflowSchema string

// server is shared by the tests of this binary; each has a database and a group of its own.
var server *pg.Server

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, &server, pg.Options{})) }

var benches atomic.Int64

// bench is a metastore with Airflow's tables, and a fencer of it.
type bench struct {
	t      *testing.T
	group  string
	admin  *pgx.Conn
	fencer *fence.Fencer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	number := benches.Add(1)
	database := fmt.Sprintf("meta%d", number)
	run(t, connect(t, server.Superuser()), "CREATE DATABASE "+database)
	dsn := strings.Replace(server.Superuser(), "/postgres?", "/"+database+"?", 1)
	b := &bench{t: t, group: fmt.Sprintf("airflow%d", number), admin: connect(t, dsn)}
	run(t, b.admin, airflowSchema)
	b.fencer = newFencer(t, dsn, b.group, func(login, password string) string {
		return server.DSN(login, password, database)
	})
	return b
}

// newFencer prepares a metastore for one fencer, whose login is named after the group.
func newFencer(t *testing.T, admin, group string, dsn func(login, password string) string) *fence.Fencer {
	t.Helper()
	login, password := "fencer_"+group, rand.Text()
	verifier, err := fence.Verifier(password)
	must(t, err)
	must(t, fence.Init(t.Context(), admin, fence.Setup{
		Jobs: []string{job}, Group: group, Fencers: []string{login}, Mirror: true,
		Verifiers: map[string]string{login: verifier},
	}))
	fencer, err := fence.New(fence.Config{Job: job, DSN: dsn(login, password), Group: group})
	must(t, err)
	return fencer
}

// take fences as a node does before it adopts.
func take(t *testing.T, fencer *fence.Fencer, epoch uint64) (fence.Claim, fence.Credentials) {
	t.Helper()
	token := make([]byte, 16)
	rand.Read(token)
	claim := fence.Claim{Epoch: epoch, Node: "a", Token: hex.EncodeToString(token)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	credentials, err := fencer.Take(ctx, claim)
	must(t, err)
	must(t, fencer.Drain(ctx, claim))
	return claim, credentials
}

// store takes an epoch and opens the metastore as its role.
func (b *bench) store(epoch uint64) (*airflow.Metastore, fence.Claim) {
	b.t.Helper()
	claim, credentials := take(b.t, b.fencer, epoch)
	return open(b.t, credentials, airflow.Config{}), claim
}

func open(t *testing.T, credentials fence.Credentials, config airflow.Config) *airflow.Metastore {
	t.Helper()
	store, err := airflow.Open(t.Context(), credentials, config)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = store.Close(ctx) // the server may have ended the session
	})
	return store
}

// task makes a run in runState with one task in state, queued by a scheduler whose row is in jobState.
func (b *bench) task(name, state, jobState, runState, executorID string) (id string) {
	b.t.Helper()
	run(b.t, b.admin, `INSERT INTO dag_run (dag_id, run_id, state, run_type, run_after, clear_number, span_status)
		VALUES ('d', $1, $2, 'manual', now(), 0, 'not_started')`, name, runState)
	return text(b.t, b.admin, `
		WITH j AS (INSERT INTO job (job_type, state, latest_heartbeat) VALUES ('SchedulerJob', $3, now()) RETURNING id)
		INSERT INTO task_instance (id, dag_id, run_id, task_id, map_index, state, try_number, max_tries, pool, pool_slots,
		  queued_by_job_id, queued_dttm, external_executor_id, span_status)
		SELECT gen_random_uuid(), 'd', $1, 't', -1, $2, 1, 0, 'p', 1, j.id, now(), nullif($4, ''), 'not_started' FROM j
		RETURNING id::text`, name, state, jobState, executorID)
}

// see describes the task of a run: state, try, what it was queued with, and whether its id is the old one.
func (b *bench) see(run, oldID string) string {
	b.t.Helper()
	return text(b.t, b.admin, `
		SELECT concat_ws(' ', state, 'try', try_number, CASE WHEN queued_by_job_id IS NOT NULL THEN 'job' END,
		  CASE WHEN external_executor_id IS NOT NULL THEN 'message' END, CASE WHEN queued_dttm IS NOT NULL THEN 'since' END,
		  CASE WHEN id::text = $2 THEN 'same id' ELSE 'new id' END)
		FROM task_instance WHERE run_id = $1`, run, oldID)
}

const message = "0f8fad5b-d9cb-469f-a165-70867728950e" // an id that Celery's executor assigned beforehand

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close(context.Background())) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	must(t, err)
}

func text(t *testing.T, conn *pgx.Conn, sql string, args ...any) (answer string) {
	t.Helper()
	must(t, conn.QueryRow(t.Context(), sql, args...).Scan(&answer))
	return answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
