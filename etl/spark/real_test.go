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
)

// TestLocalOverS3 compares the engines to the byte, and looks where secrets might show.
func TestLocalOverS3(t *testing.T) {
	w := newLake(t)
	inputs := w.inputs("2018", 0.005)
	want := w.duck(inputs[0], "2018")
	c := w.config()
	e := w.engine(c)
	noted := 0
	for _, parts := range []int{1, 2, 8} {
		for _, in := range inputs {
			got, err := e.Partitioned(parts).Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{in.url}, Note: func(string) { noted++ }})
			if err != nil {
				t.Fatal(err)
			}
			if d := aggregate.Difference(want, got); d != "" {
				t.Errorf("%s in %d parts: %s", in.url, parts, d)
			}
		}
	}
	if noted == 0 {
		t.Error("nothing was said of the progress")
	}
	noSecrets(t, c.Dir)

	_, err := e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url + "x"}})
	if !errors.Is(err, spark.ErrQuery) || !strings.Contains(err.Error(), "2018") {
		t.Errorf("no such object: %v", err)
	}
	_, err = e.Aggregate(t.Context(), aggregate.Job{Chunk: "2017", Inputs: []string{inputs[0].url}})
	if !errors.Is(err, aggregate.ErrDiffers) {
		t.Errorf("another year: %v", err)
	}
	_, err = e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{w.damaged(inputs[0]).url}})
	if !errors.Is(err, spark.ErrQuery) {
		t.Errorf("a damaged object: %v", err)
	}
	if got, err := e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url}}); err != nil || aggregate.Difference(want, got) != "" {
		t.Errorf("after errors: %v", err)
	}
	e.Close()
	if left := processes(t, c.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
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

// TestDriverKilledAndCancelled kills Spark twice in the same chunk's place: once and it recovers, and by the context for good.
func TestDriverKilledAndCancelled(t *testing.T) {
	w := newLake(t)
	in := w.inputs("2018", 0.002)[0]
	want := w.duck(in, "2018")
	c := w.config()
	e := w.engine(c)

	hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: 20 * time.Second})
	done := w.begin(t.Context(), e, in.url)
	until(t, "Spark to read", func() bool { return hits() > 0 })
	for pid, line := range processes(t, c.Dir) {
		if strings.Contains(line, "SparkSubmit") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := <-done; got.err != nil || aggregate.Difference(want, got.result) != "" {
		t.Errorf("killed once: %v", got.err)
	}

	w.faults.Clear()
	hits = w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Delay: 20 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	done = w.begin(ctx, e, in.url)
	until(t, "Spark to read", func() bool { return hits() > 0 })
	began := time.Now()
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) {
		t.Errorf("cancelled: %v", got.err)
	}
	t.Logf("cancelled in %v", time.Since(began))
	if left := processes(t, c.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
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
	c.Settings = []string{"spark.task.maxFailures=8"}
	e := w.engine(c)
	_, err := e.Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{inputs[0].url}})
	if !errors.Is(err, spark.ErrStalled) || !strings.Contains(err.Error(), "worker") {
		t.Errorf("no worker: %v", err)
	}

	first := cl.worker()
	c.Wait = 2 * time.Minute
	e = w.engine(c)
	for _, parts := range []int{1, 8} {
		for _, in := range inputs {
			got, err := e.Partitioned(parts).Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{in.url}})
			if err != nil {
				t.Fatal(err)
			}
			if d := aggregate.Difference(want, got); d != "" {
				t.Errorf("%s in %d parts: %s", in.url, parts, d)
			}
		}
	}
	noSecrets(t, c.Dir)

	hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: 30 * time.Second})
	done := w.begin(t.Context(), e, inputs[0].url)
	until(t, "an executor to read", func() bool { return hits() > 0 })
	first.kill() // with its executor
	cl.worker()
	if got := <-done; got.err != nil || aggregate.Difference(want, got.result) != "" {
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
