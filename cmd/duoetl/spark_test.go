//go:build spark

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// configureSpark is configure with Spark, as scripts/setup has installed it, for an engine.
func (s *stage) configureSpark(pipeline, kind string) {
	s.t.Helper()
	s.configure(pipeline)
	cache := filepath.Join(shared.home, "..", "..", ".cache", "spark")
	name := filepath.Join(s.dir, pipeline+".yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	text = fmt.Appendf(text, "engine: {kind: %s, threads: 2, spark: {home: %s, jars: %s, python: /usr/bin/python3, memory: 512MiB}}\n",
		kind, filepath.Join(cache, "home"), filepath.Join(cache, "jars"))
	if err := os.WriteFile(name, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// works are the processes that a pipeline has in its folder for work.
func (s *stage) works(pipeline string) (pids []string) {
	s.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, link := range all {
		at, _ := os.Readlink(link) // it may be gone
		if strings.HasPrefix(at, filepath.Join(s.dir, pipeline)+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

// TestSparkMakesTheSameTables runs the pipeline with both engines, and compares them by the command that does so.
func TestSparkMakesTheSameTables(t *testing.T) {
	s := theStage(t)
	s.configureSpark("by_duck", "duckdb")
	s.finish("by_duck", 1, "run")
	s.configureSpark("by_spark", "spark")
	report := s.finish("by_spark", 1, "run")
	if got, want := s.tables("by_spark"), s.tables("by_duck"); report.Done != 2 || got != want {
		t.Errorf("%+v; tables hash to %s, DuckDB's to %s", report, got, want)
	}
	if left := s.works("by_spark"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	out, err := s.command("by_duck", 1, "diff-engines", "--chunk", "2018", "-o", "json").Output()
	if err != nil {
		t.Fatalf("diff-engines: %v\n%s", err, out)
	}
	var runs []etl.EngineRun
	if err := json.Unmarshal(out, &runs); err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if r.Hash != runs[0].Hash || r.Difference != "" || r.Rows == 0 {
			t.Errorf("%+v", r)
		}
	}
	if len(runs) != 2+2*3 {
		t.Errorf("%d results", len(runs))
	}
	if text, err := s.command("by_spark", 1, "doctor").CombinedOutput(); err != nil || !strings.Contains(string(text), "spark 4.1.4, java ") {
		t.Errorf("doctor: %v\n%s", err, text)
	}
}

// TestFailoverWhileSparkWorks ends duoetl while Spark reads, as a host's death does, and lets it freeze, as a hung host does. The
// next epoch's tables are those of an undisturbed run, and no Spark of the old one is left.
func TestFailoverWhileSparkWorks(t *testing.T) {
	s := theStage(t)
	s.configure("calm_spark")
	s.finish("calm_spark", 1, "run")
	want := s.tables("calm_spark")
	for _, one := range []struct {
		pipeline string
		signal   syscall.Signal
	}{{"killed_spark", syscall.SIGKILL}, {"frozen_spark", syscall.SIGSTOP}} {
		s.configureSpark(one.pipeline, "spark")
		hits := s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: 3 * time.Second})
		c := s.command(one.pipeline, 1, "run")
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		s.until("Spark to read", func() bool { return hits() > 0 })
		if err := c.Process.Signal(one.signal); err != nil {
			t.Fatal(err)
		}
		s.endSessions(one.pipeline)
		s.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = $1", one.pipeline)
		_ = c.Process.Signal(syscall.SIGCONT) // the killed one does not mind
		err := c.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || one.signal == syscall.SIGSTOP && exit.ExitCode() != etl.ExitFenced {
			t.Errorf("%s: %v\n%s", one.pipeline, err, out.String())
		}
		began := time.Now()
		s.until("Spark to end", func() bool { return len(s.works(one.pipeline)) == 0 })
		t.Logf("%s: Spark is gone %v after duoetl", one.pipeline, time.Since(began).Round(time.Millisecond))
		if r := s.finish(one.pipeline, 2, "resume"); r.Done+r.Unchanged != 2 {
			t.Errorf("%s: %+v", one.pipeline, r)
		}
		if got := s.tables(one.pipeline); got != want {
			t.Errorf("%s: tables hash to %s, undisturbed to %s", one.pipeline, got, want)
		}
	}
}
