package main

import (
	"bytes"
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
)

// BenchmarkPipeline runs duoetl, as a process, over two years of real size. BigQuery, the stores and the generator of the
// tiles are in the other process, on the same processors; what they take is part of extract and copy.
func BenchmarkPipeline(b *testing.B) {
	var whole stage
	stop, err := whole.start(1)
	b.Cleanup(func() {
		if err := stop(); err != nil {
			b.Error(err)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	s := whole.with(b)
	for i := 0; b.Loop(); i++ {
		pipeline := "bench_" + string(rune('a'+i))
		s.configure(pipeline)
		c := s.command(pipeline, 1, "run", "-o", "json")
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil {
			b.Fatalf("%v\n%s", err, errs.String())
		}
		var report etl.Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			b.Fatal(err)
		}
		took, rows := map[string]time.Duration{}, int64(0)
		for _, chunk := range report.Chunks {
			rows += chunk.Rows
			for _, step := range chunk.Steps {
				took[step.Step] += step.Took
			}
		}
		for _, step := range etl.Steps() {
			b.ReportMetric(took[step].Seconds(), step+"-s")
		}
		b.ReportMetric(float64(rows)/1e6, "Mrows")
		b.ReportMetric(c.ProcessState.UserTime().Seconds()+c.ProcessState.SystemTime().Seconds(), "cpu-s")
		if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
			b.ReportMetric(float64(usage.Maxrss)/1024, "peak-MiB")
		}
	}
}
