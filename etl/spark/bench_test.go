//go:build spark

package spark_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// cpu is what this process, or its children that have ended, had of the processors, in seconds.
func cpu(b *testing.B, who int) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// work is chunks to add up, here and in S3.
type work struct {
	chunks []tile.Chunk
	files  [][]string
	urls   [][]string
	rows   int64
	hashes []string // of the first engine's results
}

// pipeline is years one after the other, as the pipeline has them.
func (w *lake) pipeline(years int) (out work) {
	w.t.Helper()
	for year := 2020 - years + 1; year <= 2020; year++ {
		chunk := tile.Chunk(fmt.Sprint(year))
		file, table := w.canonical(chunk, 1)
		in := w.put(file, string(chunk))
		out.chunks, out.files, out.urls = append(out.chunks, chunk), append(out.files, []string{in.file}), append(out.urls, []string{in.url})
		out.rows += int64(table.Len())
	}
	return out
}

// heap is one chunk that is as large as so many years.
func (w *lake) heap(years int) work {
	w.t.Helper()
	file, table := w.canonical("2018", 1)
	out := work{chunks: []tile.Chunk{"2018"}, files: [][]string{nil}, urls: [][]string{nil}, rows: int64(years) * int64(table.Len())}
	for n := range years {
		link := filepath.Join(w.t.TempDir(), fmt.Sprintf("part-%d.parquet", n))
		if err := os.Link(file, link); err != nil {
			w.t.Fatal(err)
		}
		in := w.put(link, "heap")
		out.files[0], out.urls[0] = append(out.files[0], in.file), append(out.urls[0], in.url)
	}
	return out
}

// BenchmarkEngines measures both engines over 1, 5 and 34 years of real size, year by year and as one chunk: the time by the
// clock of all chunks, of Spark also of its start; the processors' time, of Spark with that of the S3 server, which is in this
// process. DuckDB reads files that are here. Both must come to the same bytes.
func BenchmarkEngines(b *testing.B) {
	w := newLake(b)
	for _, years := range []int{1, 5, 34} {
		for kind, lay := range map[string]func(int) work{"years": w.pipeline, "chunk": w.heap} {
			all := lay(years)
			b.Run(fmt.Sprintf("duckdb/%s-%d", kind, years), func(b *testing.B) {
				e, err := aggregate.Open(aggregate.Config{Memory: 1 << 30})
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					before := cpu(b, syscall.RUSAGE_SELF)
					all.run(b, e, all.files)
					b.ReportMetric(cpu(b, syscall.RUSAGE_SELF)-before, "cpu-s")
				}
			})
			b.Run(fmt.Sprintf("spark/%s-%d", kind, years), func(b *testing.B) {
				c := w.config()
				c.Memory, c.Settings = 2<<30, nil
				for b.Loop() {
					e := w.engine(c)
					own, others := cpu(b, syscall.RUSAGE_SELF), cpu(b, syscall.RUSAGE_CHILDREN)
					began := time.Now()
					if _, err := e.Aggregate(b.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{w.small().url}}); err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(time.Since(began).Seconds(), "start-s")
					all.run(b, e, all.urls)
					e.Close()
					b.ReportMetric(cpu(b, syscall.RUSAGE_SELF)-own+cpu(b, syscall.RUSAGE_CHILDREN)-others, "cpu-s")
				}
			})
		}
	}
}

// small is a chunk of a few rows, with which Spark starts and loads what it needs.
func (w *lake) small() input {
	w.t.Helper()
	file, _ := w.canonical("2018", 0.0001)
	return w.put(file, "small")
}

// run adds all chunks up. The second engine's results must be the first one's.
func (w *work) run(b *testing.B, e aggregate.Engine, inputs [][]string) {
	b.Helper()
	began, slowest := time.Now(), time.Duration(0)
	for i, chunk := range w.chunks {
		one := time.Now()
		r, err := e.Aggregate(b.Context(), aggregate.Job{Chunk: chunk, Inputs: inputs[i], Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(one))
		if len(w.hashes) <= i {
			w.hashes = append(w.hashes, r.Hash())
		} else if w.hashes[i] != r.Hash() {
			b.Errorf("%s: other sums than the first engine's", chunk)
		}
	}
	took := time.Since(began).Seconds()
	b.ReportMetric(took, "work-s")
	b.ReportMetric(slowest.Seconds(), "slowest-s")
	b.ReportMetric(float64(w.rows)/1e6, "Mrows")
	b.ReportMetric(float64(w.rows)/1e6/took, "Mrows/s")
}
