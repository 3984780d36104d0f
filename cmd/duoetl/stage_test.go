package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/scripts/pg"
)

// asProgram makes this test binary be duoetl itself, so that it can be killed.
const asProgram = "DUOETL_TEST_IS_THE_PROGRAM"

// diesWithin makes the program kill itself once a goroutine of it is within a function of that name.
const diesWithin = "DUOETL_TEST_DIES_WITHIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if name := os.Getenv(diesWithin); name != "" {
			go dieWithin(name)
		}
		main()
	}
	home, err := os.Getwd() // versitygw goes elsewhere
	if err != nil {
		panic(err)
	}
	shared.home = home
	code := m.Run()
	if shared.stop != nil {
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func dieWithin(name string) {
	stacks := make([]byte, 1<<20)
	for {
		if n := runtime.Stack(stacks, true); bytes.Contains(stacks[:n], []byte(name)) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// stage is a sandbox and a database beside which duoetl runs as a process of its own.
type stage struct {
	t      testing.TB
	cloud  *sandbox.Sandbox
	faults *sandbox.Faults
	server *pg.Server
	conn   *pgx.Conn
	dir    string
	lake   string // where the sandbox keeps what is in its stores
}

// shared is the one stage of all tests: versitygw runs once in a process. Each test has pipelines of its own on it.
var shared struct {
	once  sync.Once
	stage stage
	names atomic.Int64 // that were given out
	home  string       // where the tests were started
	stop  func() error
	err   error
}

// theStage is the shared one, for a test, with a connection of its own.
func theStage(t *testing.T) *stage {
	t.Helper()
	shared.once.Do(func() { shared.stop, shared.err = shared.stage.start(0.002) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.stage.with(t)
}

// fresh is a name for a pipeline that no other has, in tests that are run several times too.
func fresh(name string) string { return fmt.Sprintf("%s_%d", name, shared.names.Add(1)) }

// with is the stage for another test.
func (s *stage) with(t testing.TB) *stage {
	t.Helper()
	own := *s
	own.t, own.dir = t, t.TempDir()
	var err error
	if own.conn, err = pgx.Connect(t.Context(), s.server.Superuser()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.conn.Close(context.Background()) })
	return &own
}

const years = `{from: 2017, to: 2018}`

// fence is the table that duoflowd keeps; stop_at holds a program in its n-th write to the ledger, stop_copy in the 100th row of the
// COPY of cells.
const stageSQL = `CREATE SCHEMA duoflow;
CREATE TABLE duoflow.fence (job text PRIMARY KEY, epoch bigint NOT NULL DEFAULT 0, node text NOT NULL DEFAULT '', token text NOT NULL DEFAULT '', at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.stop_at (pipeline text PRIMARY KEY, n int NOT NULL, writes int NOT NULL DEFAULT 0);
CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE hit boolean;
BEGIN
  UPDATE public.stop_at SET writes = writes + 1 WHERE pipeline = NEW.pipeline RETURNING writes = n INTO hit;
  IF hit THEN PERFORM pg_sleep(120); END IF;
  RETURN NULL;
END $$;
CREATE TABLE public.stop_copy (pipeline text PRIMARY KEY);
CREATE FUNCTION public.hold_copy() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE row_number int := coalesce(nullif(current_setting('stage.copied', true), ''), '0')::int + 1;
BEGIN
  PERFORM set_config('stage.copied', row_number::text, false);
  IF row_number = 100 THEN PERFORM pg_sleep(120); END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION public.watch_copy() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made oid;
BEGIN
  SELECT c.objid INTO made FROM pg_event_trigger_ddl_commands() c WHERE c.object_identity LIKE 'pg_temp%etl_cell_month';
  IF made IS NOT NULL AND EXISTS (SELECT FROM public.stop_copy WHERE 'duoetl/' || pipeline = current_setting('application_name')) THEN
    EXECUTE format('CREATE TRIGGER hold BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.hold_copy()', made::regclass);
  END IF;
END $$;
CREATE EVENT TRIGGER watch_copy ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.watch_copy()`

// start brings up the servers, with generated tables of so much of the real size.
func (s *stage) start(scale float64) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var stops []func() error
	stop = func() error {
		cancel()
		var all []error
		for i := len(stops) - 1; i >= 0; i-- {
			all = append(all, stops[i]())
		}
		return errors.Join(all...)
	}
	if s.lake, err = os.MkdirTemp("", "duoetl-lake-"); err != nil {
		return stop, err
	}
	stops = append(stops, func() error { return os.RemoveAll(s.lake) })
	if s.server, err = pg.Start(ctx, pg.Options{}); err != nil {
		return stop, err
	}
	stops = append(stops, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return s.server.Stop(ctx)
	})
	conn, err := pgx.Connect(ctx, s.server.Superuser())
	if err != nil {
		return stop, err
	}
	defer conn.Close(ctx)
	if _, err = conn.Exec(ctx, stageSQL); err != nil {
		return stop, err
	}
	s.faults = &sandbox.Faults{}
	s.cloud, err = sandbox.New(sandbox.Config{
		Dir: s.lake, S3Buckets: []string{"lake"}, GCSBuckets: []string{"staging"}, Faults: s.faults, AccessKey: "key", SecretKey: "very-secret-key",
		Tables: sandbox.Synthetic(synth.BigQuery2, 2017, 2018, scale),
	})
	if err != nil {
		return stop, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.cloud.Run(ctx) }()
	stops = append(stops, func() error { return <-ended })
	select {
	case <-s.cloud.Ready():
		return stop, nil
	case err = <-ended:
		ended <- nil
		return stop, err
	}
}

func (s *stage) exec(sql string, args ...any) {
	s.t.Helper()
	var mode []any
	if len(args) == 0 {
		mode = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := s.conn.Exec(s.t.Context(), sql, append(mode, args...)...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](s *stage, sql string, args ...any) T {
	s.t.Helper()
	var out T
	if err := s.conn.QueryRow(s.t.Context(), sql, args...).Scan(&out); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// configure makes a pipeline of its own over BigQuery, with a job at epoch 1, and its tables. Its jobs are paid by a project of
// the same name with dashes, so that their calls can be told from others'.
func (s *stage) configure(pipeline string) {
	s.t.Helper()
	s.configureOver(pipeline, fmt.Sprintf(`{kind: bigquery, project: %s, table: "bigquery-public-data.%s.lightning_%%d", endpoint: %q, window: %s}`,
		strings.ReplaceAll(pipeline, "_", "-"), sandbox.Dataset, s.cloud.Endpoints().BigQuery, years))
}

// configureFiles is configure over files in Google Cloud Storage, below the pipeline's name.
func (s *stage) configureFiles(pipeline, objects, window string) {
	s.t.Helper()
	s.configureOver(pipeline, fmt.Sprintf(`{kind: gcs, objects: "%s/%s", window: %s}`, pipeline, objects, window))
}

func (s *stage) configureOver(pipeline, source string) {
	s.t.Helper()
	ends := s.cloud.Endpoints()
	text := fmt.Sprintf(`
pipeline: %[1]s
source: %[2]s
stages:
  gcs: {bucket: staging, prefix: %[1]s, endpoint: %[3]q}
  s3: {bucket: lake, prefix: %[1]s, endpoint: %[4]q, access_key_env: STAGE_KEY, secret_key_env: STAGE_SECRET, part_size: 5MiB}
  work: %[5]s
transfer: {tries: 3}
load: {dsn_env: STAGE_DSN, schema: %[1]s_views}
`, pipeline, source, ends.GCS, ends.S3, filepath.Join(s.dir, pipeline))
	if err := os.WriteFile(filepath.Join(s.dir, pipeline+".yaml"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.exec("INSERT INTO duoflow.fence (job, epoch, node) VALUES ($1, 1, 'a')", pipeline)
	c := s.command(pipeline, 1, "init")
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("init: %v\n%s", err, out)
	}
	s.exec("CREATE OR REPLACE TRIGGER stop AFTER INSERT OR UPDATE ON duoflow.etl_chunk FOR EACH ROW EXECUTE FUNCTION public.stop()")
}

// put stores an object in Google Cloud Storage, below the pipeline's name.
func (s *stage) put(pipeline, name string, content []byte) {
	s.t.Helper()
	if err := s.cloud.Put(s.t.Context(), sandbox.Object{Bucket: "staging", Name: pipeline + "/" + name, Content: content}); err != nil {
		s.t.Fatal(err)
	}
}

// command is duoetl as duoflowd starts it.
func (s *stage) command(pipeline string, epoch int, args ...string) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.CommandContext(s.t.Context(), self, append([]string{"--config", filepath.Join(s.dir, pipeline+".yaml")}, args...)...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), asProgram+"=1", "STAGE_KEY=key", "STAGE_SECRET=very-secret-key", "STAGE_DSN="+s.server.Superuser(),
		"DUOFLOW_JOB="+pipeline, "DUOFLOW_NODE=a", fmt.Sprintf("DUOFLOW_EPOCH=%d", epoch))
	return c
}

// finish runs duoetl to its end and reads its report.
func (s *stage) finish(pipeline string, epoch int, args ...string) etl.Report {
	s.t.Helper()
	c := s.command(pipeline, epoch, append(args, "-o", "json")...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		s.t.Fatalf("duoetl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	var report etl.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		s.t.Fatalf("report: %v\n%s", err, out.String())
	}
	return report
}

// tables is a hash of all rows of a pipeline's tables, in order.
func (s *stage) tables(pipeline string) string {
	s.t.Helper()
	return ask[string](s, fmt.Sprintf(`SELECT encode(sha256(convert_to(string_agg(line, E'\n' ORDER BY line), 'UTF8')), 'hex') FROM (
SELECT 'day ' || t::text AS line FROM %[1]s.day t UNION ALL SELECT 'month ' || t::text FROM %[1]s.month t UNION ALL SELECT 'cell ' || t::text FROM %[1]s.cell_month t) all_rows`, pipeline))
}

// until polls a condition.
func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited a minute for %s", what)
		}
	}
}

// held tells whether the program sits in the write to the ledger that stop_at names, or in a COPY that stop_copy does.
func (s *stage) held(pipeline string) bool {
	return ask[int](s, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name = $1", "duoetl/"+pipeline) > 0
}

// endSessions ends what the server still does for a program that is gone, as a take of the fence does.
func (s *stage) endSessions(pipeline string) {
	s.t.Helper()
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", "duoetl/"+pipeline)
	s.until("the sessions to end", func() bool {
		return ask[int](s, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", "duoetl/"+pipeline) == 0
	})
}

// manifests counts those of a pipeline that are in S3, as the files that the sandbox keeps.
func (s *stage) manifests(pipeline string) (n int) {
	s.t.Helper()
	err := filepath.WalkDir(s.lake, func(path string, file fs.DirEntry, err error) error {
		if err == nil && file.Type().IsRegular() && filepath.Base(path) == "_SUCCESS.json" && strings.Contains(path, "/lake/"+pipeline+"/") {
			n++
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file of the store
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
