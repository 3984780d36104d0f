//go:build spark

package spark_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/spark"
	"github.com/duoflow/duoflow/etl/tile"
)

// TestLocalOverS3 is one Spark that is asked for all there is: it compares the engines to the byte, looks where secrets might show,
// and goes through what goes wrong, until Spark itself is killed, comes back, and is cancelled.
func TestLocalOverS3(t *testing.T) {
	w := newLake(t)
	inputs := w.inputs("2018", 0.005)
	want := w.duck(inputs[0], "2018")
	c := w.config()
	e := w.engine(c)
	w.same(e, inputs, want)
	noSecrets(t, c.Dir)
	w.refused(e, inputs[0])
	if got, err := e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url}}); err != nil || aggregate.Difference(want, got) != "" {
		t.Errorf("after errors: %v", err)
	}
	w.killed(e, c.Dir, inputs[0], want)
	w.cancelled(e, inputs[0])
	if left := processes(t, c.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// same compares a Spark's results with DuckDB's, whatever the order of the rows and the number of parts.
func (w *lake) same(e *spark.Engine, inputs []input, want aggregate.Result) {
	w.t.Helper()
	for _, parts := range []int{1, 2, 8} {
		for _, in := range inputs {
			got, err := e.Partitioned(parts).Aggregate(w.t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{in.url}})
			if err != nil {
				w.t.Fatal(err)
			}
			if d := aggregate.Difference(want, got); d != "" {
				w.t.Errorf("%s in %d parts: %s", in.url, parts, d)
			}
		}
	}
}

// refused are questions that cannot be answered. Spark stays.
func (w *lake) refused(e *spark.Engine, in input) {
	w.t.Helper()
	for what, q := range map[string]struct {
		chunk tile.Chunk
		url   string
		want  error
		says  string
	}{
		"no such object":   {"2018", in.url + "x", spark.ErrQuery, "2018"},
		"another year":     {"2017", in.url, aggregate.ErrDiffers, ""},
		"a damaged object": {"2018", w.damaged(in).url, spark.ErrQuery, ""},
	} {
		_, err := e.Aggregate(w.t.Context(), aggregate.Job{Chunk: q.chunk, Inputs: []string{q.url}})
		if !errors.Is(err, q.want) || !strings.Contains(err.Error(), q.says) {
			w.t.Errorf("%s: %v", what, err)
		}
	}
}

// killed ends Java while it reads: Spark is started again, for the same chunk.
func (w *lake) killed(e *spark.Engine, dir string, in input, want aggregate.Result) {
	w.t.Helper()
	hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: time.Minute})
	chunk := w.begin(w.t.Context(), e, in.url)
	until(w.t, "Spark to read, and to say how far it is", func() bool { return hits() > 0 && chunk.counts() })
	for pid, line := range processes(w.t, dir) {
		if strings.Contains(line, "SparkSubmit") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if got := <-chunk.done; got.err != nil || aggregate.Difference(want, got.result) != "" {
		w.t.Errorf("killed once: %v", got.err)
	}
	w.faults.Clear()
}

// cancelled ends the context while Spark reads.
func (w *lake) cancelled(e *spark.Engine, in input) {
	w.t.Helper()
	hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Delay: time.Minute})
	ctx, cancel := context.WithCancel(w.t.Context())
	chunk := w.begin(ctx, e, in.url)
	until(w.t, "Spark to read", func() bool { return hits() > 0 })
	began := time.Now()
	cancel()
	if got := <-chunk.done; !errors.Is(got.err, context.Canceled) {
		w.t.Errorf("cancelled: %v", got.err)
	}
	w.t.Logf("cancelled in %v", time.Since(began))
	w.faults.Clear()
}

// noSecrets looks at command lines, at the files of the run, and at what Spark's own pages show to everybody.
func noSecrets(t *testing.T, dir string) {
	t.Helper()
	running := processes(t, dir)
	if len(running) < 2 {
		t.Fatalf("%d processes, want Spark and job.py", len(running))
	}
	for _, line := range running {
		if strings.Contains(line, secretKey) {
			t.Errorf("a command line shows the secret: %s", line)
		}
	}
	for _, name := range files(t, dir) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), secretKey) {
			t.Errorf("%s holds the secret", name)
		}
	}
	for _, page := range []string{"/environment/", "/api/v1/applications"} {
		text := w3(t, "http://127.0.0.1:"+uiPort(t, dir)+page)
		if strings.Contains(text, secretKey) || !strings.Contains(text, "duoetl") {
			t.Errorf("%s shows the secret, or nothing at all", page)
		}
	}
}

func w3(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWrongKeys also shows that an error holds no secret.
func TestWrongKeys(t *testing.T) {
	w := newLake(t)
	in := w.inputs("2018", 0.001)[0]
	c := w.config()
	c.S3.SecretKey = "another-secret"
	_, err := w.engine(c).Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{in.url}})
	if !errors.Is(err, spark.ErrQuery) || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "another-secret") {
		t.Errorf("%v", err)
	}
}

// TestCluster is a real master with workers that come, are killed, and come again.
func TestCluster(t *testing.T) {
	w := newLake(t)
	inputs := w.inputs("2018", 0.005)
	want := w.duck(inputs[0], "2018")
	cl := newCluster(t)
	c := w.config()
	c.Master, c.Secret, c.Wait = cl.master(), clusterSecret, 5*time.Second
	c.Settings = append(c.Settings, "spark.task.maxFailures=8")
	e := w.engine(c)
	_, err := e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url}})
	if !errors.Is(err, spark.ErrStalled) || !strings.Contains(err.Error(), "worker") {
		t.Errorf("no worker: %v", err)
	}

	first := cl.worker()
	c.Wait = stuck
	e = w.engine(c)
	w.same(e, inputs, want)
	noSecrets(t, c.Dir)

	hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: time.Minute})
	chunk := w.begin(t.Context(), e, inputs[0].url)
	until(t, "an executor to read, and the driver to say how far it is", func() bool { return hits() > 0 && chunk.counts() })
	first.kill() // with its executor
	cl.worker()
	if got := <-chunk.done; got.err != nil || aggregate.Difference(want, got.result) != "" {
		t.Errorf("worker killed: %v", got.err)
	}

	cl.kill()
	e.Close() // nobody hears that it goes
	if left := processes(t, c.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err = e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url}}); !errors.Is(err, spark.ErrMissing) {
		t.Errorf("without a master: %v", err)
	}
}
