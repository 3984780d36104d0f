package etl_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/scripts/pg"
)

// world is everything that a pipeline talks to: servers for real, and an environment.
type world struct {
	t      *testing.T
	cloud  *sandbox.Sandbox
	faults *sandbox.Faults
	server *pg.Server
	env    map[string]string
	log    *bytes.Buffer
}

const (
	stagingBucket = "staging"
	lakeBucket    = "lake"
)

func newWorld(t *testing.T, tables []sandbox.Table) *world {
	t.Helper()
	w := &world{t: t, faults: &sandbox.Faults{}, log: &bytes.Buffer{}}
	var err error
	w.server, err = pg.Start(t.Context(), pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	w.cloud, err = sandbox.New(sandbox.Config{
		Dir: t.TempDir(), S3Buckets: []string{lakeBucket}, GCSBuckets: []string{stagingBucket}, Tables: tables, Faults: w.faults, ShardRows: 20_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.runCloud()
	ends := w.cloud.Endpoints()
	w.env = map[string]string{"TEST_KEY": ends.AccessKey, "TEST_SECRET": ends.SecretKey, "TEST_DSN": w.server.Superuser()}
	return w
}

func (w *world) runCloud() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.cloud.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		http.DefaultClient.CloseIdleConnections() // of the sandbox's own look whether it answers
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	select {
	case <-w.cloud.Ready():
	case err := <-ended:
		ended <- nil
		w.t.Fatal(err)
	}
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
	conn, err := pgx.Connect(w.t.Context(), w.server.Superuser())
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
