package aggregate_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// years are made of the generator, in real size; the files are removed with the benchmark.
func years(b *testing.B, from, to tile.Chunk) (files map[tile.Chunk]string, rows int64) {
	b.Helper()
	files = map[tile.Chunk]string{}
	for _, chunk := range tile.ChunksBetween(from, to) {
		var table tile.Table
		if _, err := synth.Generate(b.Context(), synth.Spec{Year: chunk.Year()}, func(r tile.Row) error { table.Append(r); return nil }); err != nil {
			b.Fatal(err)
		}
		table.Sort()
		f, err := os.CreateTemp(b.TempDir(), string(chunk))
		if err != nil {
			b.Fatal(err)
		}
		if err := columnar.Write(f, &table); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		files[chunk], rows = f.Name(), rows+int64(table.Len())
	}
	return files, rows
}

// processor is the time on processors, in seconds: what a busy machine does not spoil as it does the clock.
func processor(b *testing.B) float64 {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	return float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
}

// BenchmarkYears is what the pipeline does: one year after the other, all queries, results in memory.
func BenchmarkYears(b *testing.B) {
	files, rows := years(b, "2013", "2018")
	e, err := aggregate.Open(aggregate.Config{})
	if err != nil {
		b.Fatal(err)
	}
	cells, loops, before := 0, 0, 0.0
	for b.Loop() {
		if loops == 0 {
			before = processor(b)
		}
		loops++
		for chunk, file := range files {
			r, err := e.Aggregate(b.Context(), aggregate.Job{Chunk: chunk, Inputs: []string{file}})
			if err != nil {
				b.Fatal(err)
			}
			cells += r.Cell.Len()
		}
	}
	million := float64(rows) * float64(loops) / 1e6
	b.ReportMetric(million/b.Elapsed().Seconds(), "Mrows/s")
	b.ReportMetric((processor(b)-before)/million, "cpu-s/Mrow")
	b.ReportMetric(float64(cells)/float64(loops)/float64(len(files)), "cells/year")
}
