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
	"strings"
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

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
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

const years = `{from: 2017, to: 2018}`

// fence is the table that duoflowd keeps; stop_at holds a program in its n-th write to the ledger.
const stageSQL = `CREATE SCHEMA duoflow;
CREATE TABLE duoflow.fence (job text PRIMARY KEY, epoch bigint NOT NULL DEFAULT 0, node text NOT NULL DEFAULT '', token text NOT NULL DEFAULT '', at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.stop_at (pipeline text PRIMARY KEY, n int NOT NULL, writes int NOT NULL DEFAULT 0);
CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE hit boolean;
BEGIN
  UPDATE public.stop_at SET writes = writes + 1 WHERE pipeline = NEW.pipeline RETURNING writes = n INTO hit;
  IF hit THEN PERFORM pg_sleep(120); END IF;
  RETURN NULL;
END $$`

func newStage(t testing.TB, scale float64) *stage {
	t.Helper()
	s := &stage{t: t, faults: &sandbox.Faults{}, dir: t.TempDir(), lake: t.TempDir()}
	var err error
	if s.server, err = pg.Start(t.Context(), pg.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if s.conn, err = pgx.Connect(t.Context(), s.server.Superuser()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(context.Background()) })
	s.exec(stageSQL)
	s.cloud, err = sandbox.New(sandbox.Config{
		Dir: s.lake, S3Buckets: []string{"lake"}, GCSBuckets: []string{"staging"}, Faults: s.faults, AccessKey: "key", SecretKey: "very-secret-key",
		Tables: sandbox.Synthetic(synth.BigQuery2, 2017, 2018, scale),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.cloud.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.cloud.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return s
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

// configure makes a pipeline of its own, with a job at epoch 1, and its tables.
func (s *stage) configure(pipeline string) (config string) {
	s.t.Helper()
	ends := s.cloud.Endpoints()
	config = filepath.Join(s.dir, pipeline+".yaml")
	text := fmt.Sprintf(`
pipeline: %[1]s
source: {kind: bigquery, project: payer, table: "bigquery-public-data.%[2]s.lightning_%%d", endpoint: %[3]q, window: %[4]s, synthetic: true}
stages:
  gcs: {bucket: staging, prefix: %[1]s, endpoint: %[5]q}
  s3: {bucket: lake, prefix: %[1]s, endpoint: %[6]q, access_key_env: STAGE_KEY, secret_key_env: STAGE_SECRET, part_size: 5MiB}
  work: %[7]s
load: {dsn_env: STAGE_DSN, schema: %[1]s_views}
`, pipeline, sandbox.Dataset, ends.BigQuery, years, ends.GCS, ends.S3, filepath.Join(s.dir, pipeline))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.exec("INSERT INTO duoflow.fence (job, epoch, node) VALUES ($1, 1, 'a')", pipeline)
	c := s.command(pipeline, 1, "init")
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("init: %v\n%s", err, out)
	}
	s.exec("CREATE OR REPLACE TRIGGER stop AFTER INSERT OR UPDATE ON duoflow.etl_chunk FOR EACH ROW EXECUTE FUNCTION public.stop()")
	return config
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

// held tells whether the program sits in the write to the ledger that stop_at names.
func (s *stage) held() bool {
	return ask[int](s, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") > 0
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
