package audit_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/audit"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

const (
	job      = "scheduler"
	patience = time.Minute // a test that waits longer has failed
)

// server is shared by the tests of this binary; each has a database and a group of its own.
var server *pg.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, &server, pg.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}))
}

var benches atomic.Int64

// bench is an Airflow metastore with a fence, a fencer for hosts a and b, and an auditor.
type bench struct {
	t                      *testing.T
	group                  string
	admin                  *pgx.Conn
	adminDSN, fencer, read string // DSNs
	fences                 map[string]*fence.Fencer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	n := benches.Add(1)
	database := fmt.Sprintf("audited%d", n)
	run(t, connect(t, server.Superuser()), "CREATE DATABASE "+database)
	b := &bench{t: t, group: fmt.Sprintf("airflow%d", n), fences: map[string]*fence.Fencer{}}
	b.adminDSN = strings.Replace(server.Superuser(), "/postgres?", "/"+database+"?", 1)
	b.admin = connect(t, b.adminDSN)
	for _, file := range []string{"../airflow/testdata/airflow-3.3.sql", "testdata/log-3.3.sql"} {
		sql, err := os.ReadFile(file)
		must(t, err)
		run(t, b.admin, string(sql))
	}
	auditor, password := fmt.Sprintf("auditor%d", n), rand.Text()
	run(t, b.admin, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'; GRANT pg_read_all_data, pg_read_all_stats TO %s", auditor, password, auditor))
	b.read = server.DSN(auditor, password, database)
	setup := fence.Setup{Jobs: []string{job}, Group: b.group, Verifiers: map[string]string{}}
	for _, node := range []string{"a", "b"} {
		login := fmt.Sprintf("fencer_%s%d", node, n)
		verifier, err := fence.Verifier(password)
		must(t, err)
		setup.Fencers = append(setup.Fencers, login)
		setup.Verifiers[login] = verifier
		b.fencer = server.DSN(login, password, database)
		b.fences[node], err = fence.New(fence.Config{Job: job, Group: b.group, DSN: b.fencer})
		must(t, err)
	}
	must(t, fence.Init(t.Context(), b.adminDSN, setup))
	return b
}

func claim(epoch uint64, node string) fence.Claim {
	token := make([]byte, 16)
	rand.Read(token)
	return fence.Claim{Epoch: epoch, Node: node, Token: hex.EncodeToString(token)}
}

// take takes and drains, and starts a process tree and a scheduler as far as the database sees it.
func (b *bench) take(epoch uint64, node string) (fence.Claim, fence.Credentials) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	c := claim(epoch, node)
	credentials, err := b.fences[node].Take(ctx, c)
	must(b.t, err)
	must(b.t, b.fences[node].Drain(ctx, c))
	b.note(epoch, node, fence.Started)
	run(b.t, b.admin, "UPDATE job SET state = 'failed', end_date = clock_timestamp() WHERE state = 'running'")
	b.scheduler(node, "clock_timestamp()", "clock_timestamp()")
	return c, credentials
}

func (b *bench) note(epoch uint64, node string, moment fence.Moment) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.fences[node].Note(ctx, fence.Note{Epoch: epoch, Node: node, Moment: moment, Ago: func() time.Duration { return 0 }}))
}

// scheduler adds a running one, whose times are SQL.
func (b *bench) scheduler(host, start, beat string) {
	b.t.Helper()
	run(b.t, b.admin, fmt.Sprintf("INSERT INTO job (job_type, state, hostname, start_date, latest_heartbeat) VALUES ('SchedulerJob', 'running', '%s', %s, %s)", host, start, beat))
}

// lines adds lines to Airflow's log about try 1 of a task.
func (b *bench) lines(task string, events ...string) {
	b.t.Helper()
	for _, event := range events {
		run(b.t, b.admin, `INSERT INTO log (dttm, dag_id, run_id, task_id, map_index, try_number, event, extra)
			VALUES (clock_timestamp(), 'd', 'r', $1, -1, 1, $2, '{"host_name": "worker"}')`, task, event)
	}
}

// history is one in which nothing is wrong: a, b, a again.
func (b *bench) history() (current fence.Claim) {
	b.t.Helper()
	ctx := b.t.Context()
	first, _ := b.take(1, "a")
	b.note(1, "a", fence.Stopped)
	must(b.t, b.fences["a"].Release(ctx, first))
	b.take(2, "b")
	current, _ = b.take(4, "a")
	b.note(2, "b", fence.Stopped)
	run(b.t, b.admin, `INSERT INTO dag_run (dag_id, run_id, state, run_type, run_after, clear_number, span_status, created_at)
		VALUES ('d', 'r', 'running', 'manual', now(), 0, 'not_started', (SELECT at FROM duoflow.fence WHERE job = 'scheduler'))`)
	for n, task := range []string{"one", "two"} {
		run(b.t, b.admin, `INSERT INTO task_instance (id, dag_id, run_id, task_id, map_index, state, try_number, max_tries, pool, pool_slots, queued_by_job_id, span_status)
			VALUES (gen_random_uuid(), 'd', 'r', $1, -1, 'running', 1, 0, 'p', 1, $2, 'not_started')`, task, n+2)
		b.lines(task, "running")
	}
	b.lines("sensor", "running", "up_for_reschedule", "running", "success")
	return current
}

// judge reads as the auditor.
func (b *bench) judge() audit.Report { b.t.Helper(); return b.judgeAs(b.read) }

func (b *bench) judgeAs(dsn string) audit.Report {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	e, err := audit.Read(ctx, audit.Config{DSN: dsn, Job: job, Group: b.group, Airflow: true})
	must(b.t, err)
	return audit.Judge(e, skew)
}

func TestACleanDatabaseFindsNothing(t *testing.T) {
	b := newBench(t)
	if empty := b.judge(); len(empty.Findings)+len(empty.Epochs)+len(empty.Unseen) != 0 {
		t.Errorf("before the first take: %+v", empty)
	}
	b.history()
	report := b.judge()
	if len(report.Findings)+len(report.Unseen)+len(report.Remarks) != 0 {
		t.Errorf("findings %+v, remarks %v, unseen %+v", report.Findings, report.Remarks, report.Unseen)
	}
	var got []string
	for _, e := range report.Epochs {
		got = append(got, fmt.Sprintf("%d %s started %v stopped %v released %v by %d rows %d tries %d", e.Epoch, e.Node,
			e.Started.After(e.Taken), e.Stopped.After(e.Started), !e.Released.IsZero(), e.By, len(e.Schedulers), e.Tries))
	}
	want := []string{
		"1 a started true stopped true released true by 2 rows 1 tries 0", "2 b started true stopped true released false by 4 rows 1 tries 1",
		"4 a started true stopped false released false by 0 rows 1 tries 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("ledger\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSeededProblemsAreFound seeds one at a time on a real server.
func TestSeededProblemsAreFound(t *testing.T) {
	for _, test := range []struct {
		name string
		seed func(b *bench)
		kind audit.Kind
		want string
	}{
		{"epochs out of order", func(b *bench) {
			run(t, b.admin, "INSERT INTO duoflow.event (job, epoch, node, kind) VALUES ('scheduler', 3, 'b', 'take'), ('scheduler', 4, 'a', 'release')")
			run(t, b.admin, "UPDATE duoflow.fence SET epoch = 3, node = 'b' WHERE job = 'scheduler'")
			run(t, b.admin, "CREATE ROLE "+b.role(3))
			b.disarm(4)
		}, audit.LedgerOrder, "epoch 3 (b) was taken after epoch 4 (a)"},
		{"a row that differs", func(b *bench) { run(t, b.admin, "UPDATE duoflow.fence SET node = 'b' WHERE job = 'scheduler'") }, audit.RowDiffers,
			"the fence row is at epoch 4 of b, the newest take is epoch 4 of a"},
		{"an old role in the group", func(b *bench) { run(t, b.admin, fmt.Sprintf("GRANT %s TO %s", b.group, b.role(2))) }, audit.RoleArmed, "is a member of"},
		{"an old role in the group through another", func(b *bench) {
			run(t, b.admin, fmt.Sprintf("CREATE ROLE via_%s; GRANT %s TO via_%s; GRANT via_%s TO %s", b.group, b.group, b.group, b.group, b.role(2)))
		}, audit.RoleArmed, "is a member of"},
		{"an old role that may log in", func(b *bench) { run(t, b.admin, "ALTER ROLE "+b.role(1)+" LOGIN") }, audit.RoleArmed, "may log in"},
		{"a prepared transaction", func(b *bench) {
			run(t, b.admin, "SET ROLE "+b.role(2)+"; BEGIN; SELECT 1; PREPARE TRANSACTION '"+b.group+"'; RESET ROLE")
			t.Cleanup(func() { _, _ = b.admin.Exec(context.Background(), "ROLLBACK PREPARED '"+b.group+"'") })
		}, audit.OldSession, "is prepared by epoch 2"},
		{"a scheduler that goes on", func(b *bench) {
			run(t, b.admin, "UPDATE duoflow.event SET at = at - interval '1 min' WHERE epoch < 4")
			run(t, b.admin, "UPDATE job SET start_date = start_date - interval '1 min', latest_heartbeat = latest_heartbeat - interval '1 min' WHERE id < 3")
			run(t, b.admin, "UPDATE job SET state = 'running', latest_heartbeat = now() + interval '5 s' WHERE id = 2")
		}, audit.Overlap, "scheduler row 2 (b, running) began before epoch 4 was taken"},
		{"a scheduler of somebody else's", func(b *bench) { b.scheduler("c", "now()", "now() + interval '1 min'"); b.beat(3, "1 min") }, audit.Overlap, "scheduler rows 3 (a) and 4 (c)"},
		{"two trees on one host", func(b *bench) {
			run(t, b.admin, "INSERT INTO duoflow.event (job, epoch, node, kind) VALUES ('scheduler', 1, 'a', 'stop')")
		}, audit.Overlap, "the process tree of epoch 1 on a was empty only after that of epoch 4"},
		{"a tree that nobody took", func(b *bench) { b.note(3, "b", fence.Started) }, audit.LedgerOrder, "epoch 3 had a process tree on b, and was not taken"},
		{"a try that ran twice", func(b *bench) { b.lines("one", "running") }, audit.TryTwice, "try 1 of task one, run r, DAG d began at"},
		{"a try that ran again after it had waited", func(b *bench) { b.lines("sensor", "running") }, audit.TryTwice, "try 1 of task sensor, run r, DAG d began at"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.history()
			test.seed(b)
			report := b.judge()
			if got := report.Findings; len(got) != 1 || got[0].Kind != test.kind || !strings.Contains(got[0].Detail, test.want) {
				t.Errorf("findings %+v\nwant one %q with %q", got, test.kind, test.want)
			}
			if len(report.Unseen) > 0 {
				t.Errorf("unseen %+v", report.Unseen)
			}
		})
	}
}

func (b *bench) role(epoch uint64) string {
	return fmt.Sprintf("%q", fence.RoleName(b.group, job, epoch))
}

// disarm does what a take does to an older role, and ends no session.
func (b *bench) disarm(epoch uint64) {
	b.t.Helper()
	run(b.t, b.admin, "SET ROLE duoflow")
	run(b.t, b.admin, "SELECT duoflow.disarm($1, $2)", b.group, fence.RoleName(b.group, job, epoch))
	run(b.t, b.admin, "RESET ROLE")
}

// beat moves a scheduler's heartbeat into the future.
func (b *bench) beat(row int, by string) {
	b.t.Helper()
	run(b.t, b.admin, fmt.Sprintf("UPDATE job SET latest_heartbeat = now() + interval '%s' WHERE id = %d", by, row))
}

// TestAnOldSessionIsFound: one of the role before, which only a superuser can bring back; of the current epoch's nothing is said.
func TestAnOldSessionIsFound(t *testing.T) {
	b := newBench(t)
	b.take(1, "a")
	_, credentials := b.take(2, "b")
	connect(t, credentials.DSN())
	if got := b.judge().Findings; len(got) != 0 {
		t.Errorf("a session of the current epoch: %+v", got)
	}
	run(t, b.admin, "UPDATE duoflow.fence SET epoch = 3 WHERE job = 'scheduler'")
	run(t, b.admin, "INSERT INTO duoflow.event (job, epoch, node, kind) VALUES ('scheduler', 3, 'b', 'take')")
	run(t, b.admin, "CREATE ROLE "+b.role(3))
	b.disarm(2)
	got := b.judge().Findings
	if len(got) != 1 || got[0].Kind != audit.OldSession || !strings.Contains(got[0].Detail, "is of epoch 2 (idle, since 20") {
		t.Errorf("findings %+v", got)
	}
}

// TestAFencerSeesAllButAirflow: its login inherits nothing, and to Airflow's tables it has no rights.
func TestAFencerSeesAllButAirflow(t *testing.T) {
	b := newBench(t)
	b.history()
	run(t, b.admin, "ALTER ROLE "+b.role(1)+" LOGIN")
	run(t, b.admin, "REVOKE ALL ON job, log, task_instance FROM "+b.group) // whose rights duoflow has too on Postgres <= 15
	report := b.judgeAs(b.fencer)
	if len(report.Findings) != 1 || len(report.Epochs) != 3 || report.Complete() {
		t.Errorf("%+v", report)
	}
	var unseen []string
	for _, u := range report.Unseen {
		unseen = append(unseen, u.What+": "+u.Why)
	}
	if all := strings.Join(unseen, "\n"); len(unseen) != 3 || !strings.Contains(all, "this login may not read table public.log") {
		t.Errorf("unseen %s", all)
	}
}

func TestColumnsAreProbed(t *testing.T) {
	b := newBench(t)
	b.history()
	run(t, b.admin, "ALTER TABLE job RENAME latest_heartbeat TO beat; ALTER TABLE log ALTER try_number TYPE bigint")
	report := b.judge()
	all := fmt.Sprint(report.Unseen)
	if len(report.Unseen) != 2 || !strings.Contains(all, "no column job.latest_heartbeat") || !strings.Contains(all, "log.try_number is bigint, not integer") || report.Complete() {
		t.Errorf("unseen %s", all)
	}
	run(t, b.admin, "DROP TABLE task_instance CASCADE")
	if report = b.judge(); !report.Complete() || len(report.Unseen) != 1 || !report.Unseen[0].Absent {
		t.Errorf("without Airflow: %+v", report.Unseen)
	}
}

func TestWhatNothingCanBeSaidWithout(t *testing.T) {
	b := newBench(t)
	b.take(1, "a")
	run(t, b.admin, "CREATE ROLE nobody_"+b.group+" LOGIN PASSWORD 'x'")
	stranger, err := pgx.ParseConfig(b.read)
	must(t, err)
	for name, test := range map[string]struct {
		config audit.Config
		want   string
	}{
		"strange job":   {audit.Config{DSN: b.read, Job: "etl", Group: b.group}, `job "etl" has no fence row`},
		"strange group": {audit.Config{DSN: b.read, Job: job, Group: "nobody"}, `there is no role "nobody"`},
		"no ledger":     {audit.Config{DSN: server.Superuser(), Job: job, Group: b.group}, "there is no ledger in this database"},
		"no rights":     {audit.Config{DSN: server.DSN("nobody_"+b.group, "x", stranger.Database), Job: job, Group: b.group}, "may not read schema duoflow"},
		"no DSN":        {audit.Config{DSN: "postgres://u:secret@h:port/d", Job: job, Group: b.group}, "unusable connection string"},
	} {
		_, err := audit.Read(t.Context(), test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: err = %v, want %q", name, err, test.want)
		}
	}
	other := fmt.Sprintf("other_%s", b.group)
	run(t, b.admin, "CREATE ROLE "+other)
	e, err := audit.Read(t.Context(), audit.Config{DSN: b.read, Job: job, Group: other})
	must(t, err)
	if report := audit.Judge(e, skew); report.Complete() || !strings.Contains(fmt.Sprint(report.Unseen), "is "+other+" not the job's group?") {
		t.Errorf("another group of the server: %+v", report.Unseen)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may have ended it
	})
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := conn.Exec(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
