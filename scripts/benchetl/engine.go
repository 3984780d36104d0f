package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/duoflow/duoflow/scripts/figures"
)

// Engines that add up in the pipeline.
const (
	kindDuckDB = "duckdb"
	kindSpark  = "spark"
)

// onSpark is the system that is duoetl with its other engine.
const onSpark = "duoetl on Spark"

// tables are what the pipeline fills.
var tables = []string{"day", "month", "cell_month"}

// engine is one of them, with the system that it makes of duoetl.
type engine struct{ kind, system string }

// engines are those that the pipeline is run with, ours first.
func (o *options) engines() []engine {
	all := []engine{{kindDuckDB, ours}}
	if o.engine == kindSpark {
		all = append(all, engine{kindSpark, onSpark})
	}
	return all
}

// config is the engine's part of duoetl's configuration. Spark is in this machine, with two threads, and all else as duoetl has it.
func (e engine) config() string {
	if e.kind == kindDuckDB {
		return ""
	}
	dir, err := filepath.Abs(sparkDir)
	if err != nil {
		dir = sparkDir
	}
	return fmt.Sprintf("engine: {kind: spark, threads: 2, spark: {home: %[1]s/home, jars: %[1]s/jars, python: /usr/bin/python3.11}}\n", dir)
}

const sparkDir = ".cache/spark"

// sparkVersion is in the name of a jar.
func sparkVersion() string {
	found, err := filepath.Glob(filepath.Join(sparkDir, "home", "jars", "spark-core_*.jar"))
	if err != nil || len(found) != 1 {
		return "unknown"
	}
	name := strings.TrimSuffix(filepath.Base(found[0]), ".jar")
	return "Spark " + name[strings.LastIndex(name, "-")+1:]
}

// sameTables wants two pipelines to have filled their tables with the same rows.
func (s *stage) sameTables(ctx context.Context, one, other string) error {
	for _, table := range tables {
		var have, want, differ int64
		err := s.conn.QueryRow(ctx, fmt.Sprintf(`SELECT (SELECT count(*) FROM %[1]s.%[3]s), (SELECT count(*) FROM %[2]s.%[3]s),
			(SELECT count(*) FROM (TABLE %[1]s.%[3]s EXCEPT ALL TABLE %[2]s.%[3]s) d)`, one, other, table)).Scan(&want, &have, &differ)
		if err != nil {
			return fmt.Errorf("compare tables: %w", err)
		}
		if have != want || differ > 0 || want == 0 {
			s.report.Broken = append(s.report.Broken, fmt.Sprintf("table %s: %d rows of %s, %d of %s, %d of those are not there", table, have, other, want, one, differ))
		}
	}
	s.say("the tables of %s and %s have the same rows", one, other)
	return nil
}

var markedSpark = figures.Block{
	Begin: "<!-- bench-etl-spark:begin; written by `make bench-etl ENGINE=spark` from scripts/benchetl/results/benchetl-spark.json -->\n",
	End:   "<!-- bench-etl-spark:end -->\n",
}

// sparkBlock is what the engine's design says of the whole pipeline.
func (r *Report) sparkBlock() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe whole pipeline, %s, %d years (%.1f M rows), each engine in turn; both come to the same rows in all tables.\n\n", workWhole, r.Years, float64(r.Rows)/1e6)
	b.WriteString("| engine | n | seconds p50 / max | rate at p50 | seconds of processors | memory of all its processes | seconds in aggregate | beside DuckDB |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|\n")
	duck := r.cell(partPipeline, workWhole, ours)
	for _, e := range (&options{engine: kindSpark}).engines() {
		c := r.cell(partPipeline, workWhole, e.system)
		if c.N == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d | %.1f / %.1f | %s | %.0f | %s | %.1f | %.2f |\n", e.system, c.N, c.P50, c.Max, c.rate(c.Rate), c.CPU, mebibytes(c.Tree),
			r.step("aggregate", e.system), c.P50/duck.P50)
	}
	fmt.Fprintf(&b, "\nMeasured on %s, %d processors, Linux %s, %s, %s as local[2], PostgreSQL %d with fsync, commit %s; load average before the runs %s.\n\n",
		r.Started.Format("2006-01-02"), r.CPUs, r.Kernel, r.Go, r.Versions[onSpark], r.Postgres, r.Commit, r.loads())
	return b.String()
}

// step is the median time that a step was at work in all chunks of a run.
func (r *Report) step(name, system string) float64 {
	var all []float64
	for _, run := range r.Runs {
		if run.System == system && run.Part == partPipeline {
			all = append(all, run.Steps[name])
		}
	}
	return median(all)
}

// wantSpark says what is missing before anything is measured.
func wantSpark() error {
	if _, err := os.Stat(filepath.Join(sparkDir, "home", "bin", "spark-submit")); err != nil {
		return fmt.Errorf("no Spark; run scripts/setup spark: %w", err)
	}
	return nil
}
