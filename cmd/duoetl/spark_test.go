//go:build spark

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// sparkEngine is Spark as scripts/setup has installed it. Its Java compiles less, which makes a start half as dear.
func sparkEngine() string {
	cache := filepath.Join(shared.home, "..", "..", ".cache", "spark")
	return fmt.Sprintf(`{kind: spark, threads: 2, spark: {home: %s, jars: %s, python: /usr/bin/python3.11, memory: 512MiB,
  settings: ["spark.driver.defaultJavaOptions=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"]}}`, filepath.Join(cache, "home"), filepath.Join(cache, "jars"))
}

// withEngine changes the engine of a pipeline that is configured.
func (s *stage) withEngine(pipeline, engine string) {
	s.t.Helper()
	name := filepath.Join(s.dir, pipeline+".yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "engine:")
	if err := os.WriteFile(name, []byte(before+"engine: "+engine+"\n"), 0o600); err != nil {
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

// TestSparkMakesTheSameTables runs the pipeline with both engines, and compares them by the command that does so. With Spark first Java
// is killed while it reads, which duoetl mends; then duoetl itself is, alone: Spark ends too, and the next epoch goes on. Failovers of
// nodes are tried in scripts/lab.
func TestSparkMakesTheSameTables(t *testing.T) {
	s := theStage(t)
	duck, java := fresh("by_duck"), fresh("by_spark")
	s.configure(duck)
	s.withEngine(duck, strings.Replace(sparkEngine(), "kind: spark", "kind: duckdb", 1))
	s.finish(duck, 1, "run")
	s.configure(java)
	s.withEngine(java, sparkEngine())
	s.killedWhileSparkReads(java)
	s.takeover(java)
	report := s.finish(java, 2, "resume")
	if got, want := s.tables(java), s.tables(duck); report.Done != 2 || got != want {
		t.Errorf("%+v; tables hash to %s, DuckDB's to %s", report, got, want)
	}
	if left := s.works(java); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	out, err := s.command(duck, 1, "diff-engines", "--chunk", "2018", "-o", "json").Output()
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
	if text, err := s.command(java, 2, "doctor").CombinedOutput(); err != nil || !strings.Contains(string(text), "spark 4.1.4, java ") {
		t.Errorf("doctor: %v\n%s", err, text)
	}
}

// killedWhileSparkReads ends Java, and then duoetl as the kernel does that has no memory left, and wants Spark to see it.
func (s *stage) killedWhileSparkReads(pipeline string) {
	s.t.Helper()
	read := s.holdRead()
	r := s.begin(s.command(pipeline, 1, "run"))
	s.await(r, "Spark to read", func() bool { return read() > 0 && s.java(pipeline) != 0 })
	first := s.java(pipeline)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.await(r, "another Java", func() bool { return s.java(pipeline) != 0 && s.java(pipeline) != first })
	read = s.holdRead()
	s.await(r, "the other Spark to read", func() bool { return read() > 0 })
	if err := r.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-r.ended
	began := time.Now()
	s.until("Spark to end", func() bool { return len(s.works(pipeline)) == 0 })
	s.t.Logf("Spark is gone %v after duoetl", time.Since(began).Round(time.Millisecond))
	s.endSessions(pipeline)
	s.nothingLoaded(pipeline)
}

// holdRead lets the next read of tiles, which is Spark's, wait for a minute.
func (s *stage) holdRead() (hits func() int) {
	return s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: ".parquet", Times: 1, Delay: time.Minute})
}

// java is the process of a pipeline's Spark; 0 if there is none.
func (s *stage) java(pipeline string) int {
	s.t.Helper()
	for _, pid := range s.works(pipeline) {
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // it may be gone
		if string(name) == "java\n" {
			n, err := strconv.Atoi(pid)
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

func (s *stage) nothingLoaded(pipeline string) {
	s.t.Helper()
	if rows := ask[int](s, fmt.Sprintf("SELECT (SELECT count(*) FROM %[1]s.day) + (SELECT count(*) FROM %[1]s.month) + (SELECT count(*) FROM %[1]s.cell_month)", pipeline)); rows != 0 {
		s.t.Errorf("%d rows are in the tables", rows)
	}
}

// TestSparkIsNotThere is a run whose Spark is missing: it says so at once, and has loaded nothing; what it has made is of use to the
// next run, whose Spark is none.
func TestSparkIsNotThere(t *testing.T) {
	s := theStage(t)
	pipeline := fresh("no_spark")
	s.configure(pipeline)
	s.withEngine(pipeline, fmt.Sprintf("{kind: spark, spark: {home: %s, python: /usr/bin/python3.11}}", t.TempDir()))
	out, err := s.command(pipeline, 1, "run").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != etl.ExitFailed || !strings.Contains(string(out), "there is no Spark in") || !strings.Contains(string(out), "(engine.spark.home)") {
		t.Errorf("%v\n%s", err, out)
	}
	s.nothingLoaded(pipeline)
	s.withEngine(pipeline, "{kind: duckdb}")
	report := s.finish(pipeline, 1, "resume")
	if want, _ := s.calm(); report.Done != 2 || s.tables(pipeline) != want {
		t.Errorf("%+v; tables hash to %s, undisturbed to %s", report, s.tables(pipeline), want)
	}
}

// await waits for a program that starts a Spark, which takes more than a minute on a busy machine.
func (s *stage) await(r *started, what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-r.ended:
			s.t.Fatalf("the program ended before %s: %v\n%s", what, err, r.out.String())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited five minutes for %s", what)
		}
	}
}
