package etl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/scripts/pg"
)

// server is the Postgres of all tests but those that fill its disk; each world has a database of its own there.
var (
	server    *pg.Server
	databases atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	own, err := pg.Start(context.Background(), pg.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server = own
	code := m.Run()
	if err := errors.Join(stopServer(own), goleak.Find(sandboxtest.Leftovers()...)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func stopServer(s *pg.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.Stop(ctx)
}

// world is everything that a pipeline talks to: servers for real, and an environment.
type world struct {
	t      *testing.T
	cloud  *sandbox.Sandbox
	faults *sandbox.Faults
	dsn    string // of the database, as its administrator
	env    map[string]string
}

const (
	stagingBucket = "staging"
	lakeBucket    = "lake"
)

func newWorld(t *testing.T, tables []sandbox.Table) *world {
	t.Helper()
	return newWorldOn(t, server, tables)
}

func newWorldOn(t *testing.T, server *pg.Server, tables []sandbox.Table) *world {
	t.Helper()
	w := &world{t: t, faults: &sandbox.Faults{}, dsn: server.Superuser()}
	name := fmt.Sprintf("world%d", databases.Add(1))
	w.exec("CREATE DATABASE " + name)
	w.dsn = strings.Replace(w.dsn, "/postgres?", "/"+name+"?", 1)
	w.cloud = sandboxtest.Start(t, sandbox.Config{
		S3Buckets: []string{lakeBucket}, GCSBuckets: []string{stagingBucket}, Tables: tables, Faults: w.faults, ShardRows: 20_000,
	})
	http.DefaultClient.CloseIdleConnections() // of the sandbox's own look whether it answers
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ends := w.cloud.Endpoints()
	w.env = map[string]string{"TEST_KEY": ends.AccessKey, "TEST_SECRET": ends.SecretKey, "TEST_DSN": w.dsn}
	return w
}

// exec runs statements as the database's administrator.
func (w *world) exec(sql string) {
	w.t.Helper()
	if err := w.tryExec(sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

func (w *world) tryExec(sql string) error {
	conn, err := pgx.Connect(w.t.Context(), w.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(w.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// config is the text of a configuration; source and more are YAML lines of their own.
func (w *world) config(source, more string) string {
	ends := w.cloud.Endpoints()
	return fmt.Sprintf(`
pipeline: lightning
%s
stages:
  gcs: {bucket: %s, endpoint: %q}
  s3: {bucket: %s, prefix: duoflow, endpoint: %q, region: %s, access_key_env: TEST_KEY, secret_key_env: TEST_SECRET, part_size: 5MiB}
  work: %s
load: {dsn_env: TEST_DSN}
%s`, source, stagingBucket, ends.GCS, lakeBucket, ends.S3, ends.Region, w.t.TempDir(), more)
}

func (w *world) parse(source, more string) etl.Config {
	w.t.Helper()
	c, err := etl.ParseConfig([]byte(w.config(source, more)), os.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// open opens a pipeline whose tables are made.
func (w *world) open(c etl.Config) *etl.Pipeline {
	w.t.Helper()
	p, err := etl.Open(w.t.Context(), c, etl.Options{
		Env: func(name string) string { return w.env[name] }, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	if err := p.Init(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// seed puts generated files into Google Cloud Storage, as NCEI names them.
func (w *world) seed(format synth.Format, scale float64, years ...int) {
	w.t.Helper()
	for _, year := range years {
		f := synth.File{Spec: synth.Spec{Year: year, Scale: scale}, Format: format}
		var text bytes.Buffer
		if _, err := f.Write(w.t.Context(), &text); err != nil {
			w.t.Fatal(err)
		}
		w.put(f.Name(), text.Bytes())
	}
}

func (w *world) put(name string, content []byte) {
	w.t.Helper()
	if err := w.cloud.Put(w.t.Context(), sandbox.Object{Bucket: stagingBucket, Name: name, Content: content}); err != nil {
		w.t.Fatal(err)
	}
}

// query reads one value.
func query[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var out T
	if err := conn.QueryRow(w.t.Context(), sql, args...).Scan(&out); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func expect(t *testing.T, year int, scale float64) synth.Expected {
	t.Helper()
	out, err := synth.Expect(synth.Spec{Year: year, Scale: scale})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
