//go:build spark

package spark_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/spark"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// lake is an S3 server with tiles in it.
type lake struct {
	t      testing.TB
	faults *sandbox.Faults
	cloud  *sandbox.Sandbox
	store  *objects.Store
}

const secretKey = "very-secret-key"

func newLake(t testing.TB) *lake {
	t.Helper()
	w := &lake{t: t, faults: &sandbox.Faults{}}
	var err error
	w.cloud, err = sandbox.New(sandbox.Config{Dir: t.TempDir(), S3Buckets: []string{"lake"}, Faults: w.faults, AccessKey: "key", SecretKey: secretKey})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.cloud.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-w.cloud.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	ends := w.cloud.Endpoints()
	w.store, err = objects.OpenStore(t.Context(), objects.S3Config{Bucket: "lake", Prefix: "tiles", Region: ends.Region, Endpoint: ends.S3, AccessKey: ends.AccessKey, SecretKey: ends.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	return w
}

// input is a file, here and in S3.
type input struct{ file, url string }

// inputs are two files of a chunk: the canonical one, and one with its rows shuffled.
func (w *lake) inputs(chunk tile.Chunk, scale float64) []input {
	w.t.Helper()
	canonical, table := w.canonical(chunk, scale)
	return []input{w.put(canonical, string(chunk)), w.put(w.shuffled(table), string(chunk))}
}

// canonical is a file of a chunk, and what is in it.
func (w *lake) canonical(chunk tile.Chunk, scale float64) (string, *tile.Table) {
	w.t.Helper()
	var table tile.Table
	if _, err := synth.Generate(w.t.Context(), synth.Spec{Year: chunk.Year(), Scale: scale}, func(r tile.Row) error { table.Append(r); return nil }); err != nil {
		w.t.Fatal(err)
	}
	table.Sort()
	canonical := filepath.Join(w.t.TempDir(), "canonical.parquet")
	f, err := os.Create(canonical)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := columnar.Write(f, &table); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	return canonical, &table
}

func (w *lake) put(file, chunk string) input {
	w.t.Helper()
	key := fmt.Sprintf("ingest/%s/%s", chunk, filepath.Base(file))
	if _, err := w.store.PutFile(w.t.Context(), key, file); err != nil {
		w.t.Fatal(err)
	}
	return input{file, "s3a" + w.store.URL(key)[len("s3"):]}
}

// shuffled is a file with the rows of a table in any order, in row groups of any size.
func (w *lake) shuffled(table *tile.Table) string {
	w.t.Helper()
	type row struct {
		Day     int32 `parquet:"day,date"`
		Lat10   int32 `parquet:"lat10,int(16)"`
		Lon10   int32 `parquet:"lon10,int(16)"`
		Strikes int32 `parquet:"strikes,int(32)"`
	}
	random := rand.New(rand.NewPCG(1, 5))
	path := filepath.Join(w.t.TempDir(), "shuffled.parquet")
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	out := parquet.NewGenericWriter[row](f)
	for _, i := range random.Perm(table.Len()) {
		r := table.Row(i)
		if _, err := out.Write([]row{{int32(r.Day), int32(r.Lat10), int32(r.Lon10), r.Strikes}}); err != nil {
			w.t.Fatal(err)
		}
		if random.IntN(5000) == 0 {
			if err := out.Flush(); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := out.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// duck is what DuckDB makes of a file.
func (w *lake) duck(in input, chunk tile.Chunk) aggregate.Result {
	w.t.Helper()
	e, err := aggregate.Open(aggregate.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := e.Aggregate(w.t.Context(), aggregate.Job{Chunk: chunk, Inputs: []string{in.file}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// installed is what scripts/setup leaves.
func installed() (home, jars string) {
	_, file, _, _ := runtime.Caller(0)
	cache := filepath.Join(filepath.Dir(file), "..", "..", ".cache", "spark")
	return filepath.Join(cache, "home"), filepath.Join(cache, "jars")
}

// quickJava is for a Java that works a few seconds: it compiles less, and so starts with half the processors' time.
const quickJava = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

func (w *lake) config() spark.Config {
	home, jars := installed()
	ends := w.cloud.Endpoints()
	return spark.Config{
		Master: "local[2]", Home: home, Jars: jars, Python: "/usr/bin/python3.11", Dir: w.t.TempDir(), Memory: 512 << 20, Partitions: 2,
		Settings: []string{"spark.driver.defaultJavaOptions=" + quickJava, "spark.executor.defaultJavaOptions=" + quickJava},

		S3:     spark.S3{Endpoint: ends.S3, Region: ends.Region, AccessKey: ends.AccessKey, SecretKey: ends.SecretKey},
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func (w *lake) engine(c spark.Config) *spark.Engine {
	w.t.Helper()
	e, err := spark.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(e.Close)
	return e
}

// damaged is a file with one byte of its first page changed.
func (w *lake) damaged(in input) input {
	w.t.Helper()
	content, err := os.ReadFile(in.file)
	if err != nil {
		w.t.Fatal(err)
	}
	content[len(content)/3] ^= 1
	path := filepath.Join(w.t.TempDir(), "damaged.parquet")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.put(path, "2018")
}
