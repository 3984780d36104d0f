//go:build spark

package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

// sparkEngine is Spark as scripts/setup has installed it. With a quick compiler: each Spark here adds up three small chunks at most.
func sparkEngine(t *testing.T) map[string]any {
	t.Helper()
	engine, err := lab.SparkEngine()
	must(t, err)
	engine["spark"].(map[string]any)["settings"] = []string{"spark.driver.defaultJavaOptions=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
	return engine
}

// TestSparkFailsOver: the active host dies while Spark adds up, and, the next time, stands still and wakes up. The run before them is
// DuckDB's, and nobody disturbs it: the tables have to be the same.
func TestSparkFailsOver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	s := newETLStage(ctx, t)
	s.Options.Engine = sparkEngine(t)
	s.run(t, "killed", s.killedWithSpark)
	s.run(t, "frozen", s.frozenWithSpark)
	rows, err := commitorder.Read(ctx, s.conn, "public.entry")
	must(t, err)
	if verdict := commitorder.Examine(rows); !verdict.Sound() || verdict.Epochs < 3 {
		t.Errorf("order of the ledger's commits: %+v", verdict)
	}
}

// sparkReads begins a pipeline of its own, has its first chunk published, and waits until Spark reads the middle one. It gets no answer
// for that long.
func (s *etlStage) sparkReads(name string, delay int64) {
	s.t.Helper()
	s.next(name)
	p := point{step: "ingest", state: "started"}
	reached := s.hold(p)
	must(s.t, s.Configure())
	s.await("the first chunk is published, and the next one waits", func() bool {
		return reached() && number(s.ctx, s.t, s.conn, `SELECT count(*) FROM duoflow.etl_chunk WHERE (pipeline, step, state) = ($1, 'publish', 'done')`, name) == 1
	})
	must(s.t, s.AddFault(s.ctx, lab.SandboxFault{Server: "s3", Call: "GetObject", Name: ".parquet", Times: 1, Delay: delay}))
	s.release(p)
	s.await("Spark reads", func() bool {
		hits, err := s.FaultHits(s.ctx)
		return err == nil && hits[0] > 0
	})
	if running := s.programs(s.c.Nodes[s.active.Node]); running["java"] == nil || running["python3.11"] == nil || len(running["duoetl"]) != 1 {
		s.t.Fatalf("processes %v have no Spark", running)
	}
}

// killedWithSpark loses the host with its Spark.
func (s *etlStage) killedWithSpark() {
	s.sparkReads("spark_killed", lab.Hold)
	old := s.active
	must(s.t, s.c.Nodes[old.Node].Kill(s.ctx))
	if left, err := s.c.Nodes[old.Node].PIDs(); err != nil || len(left) > 0 {
		s.t.Errorf("processes %v are left, %v", left, err)
	}
	s.goneOn(old, "killed")
	s.standby(old.Node)
}

// frozenWithSpark stops all of the host, and when the other one is done wakes duoetl and its Spark, to which the answer has come
// meanwhile, and not the daemon that would end them. They have to end by themselves; then the daemon wakes up too.
func (s *etlStage) frozenWithSpark() {
	const delay = 20 * time.Second
	s.sparkReads("spark_frozen", delay.Milliseconds())
	held, old := time.Now(), s.active
	node := s.c.Nodes[old.Node]
	all, err := node.PIDs()
	must(s.t, err)
	for _, pid := range all {
		must(s.t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	s.goneOn(old, "frozen")
	time.Sleep(time.Until(held.Add(delay + time.Second))) // the answer waits for the frozen Spark
	written, stored := s.written(old), s.stored()
	running := s.programs(node)
	etl := running["duoetl"][0]
	for _, name := range []string{"python3.11", "java", "duoetl"} {
		for _, pid := range running[name] {
			must(s.t, syscall.Kill(pid, syscall.SIGCONT))
		}
	}
	var code int
	s.await("duoetl has ended", func() (ended bool) {
		code, ended = zombie(etl) // whoever would reap it stands still
		return ended
	})
	s.await("Spark has ended", func() bool {
		running := s.programs(node)
		return running["java"] == nil && running["python3.11"] == nil
	})
	if code != exitFenced || s.written(old) != written || s.stored() != stored {
		s.t.Errorf("exit code %d, want %d; the epoch's last write is number %d, was %d; what is in S3 has changed: %v",
			code, exitFenced, s.written(old), written, s.stored() != stored)
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) { // it may be reaped meanwhile
			must(s.t, err)
		}
	}
	s.standby(old.Node)
	s.check("woken")
}

// goneOn wants the next epoch to finish the run from where it stood: nothing done again, each chunk loaded once.
func (s *etlStage) goneOn(old lab.Active, when string) {
	s.t.Helper()
	s.moved(old)
	s.finished(s.active.Epoch)
	s.check(when)
	s.redone(point{name: when}, old)
	loads := s.strings(`SELECT chunk || ' ' || count(*) FROM public.entry WHERE (pipeline, step, state) = ($1, 'load', 'done') GROUP BY chunk ORDER BY chunk`, s.Options.Name)
	if want := []string{"2016 1", "2017 1", "2018 1"}; !slices.Equal(loads, want) {
		s.t.Errorf("%s: chunks were loaded %q, want %q", when, loads, want)
	}
	middles := s.strings(`SELECT DISTINCT epoch::text FROM public.entry WHERE (pipeline, chunk, step, state) = ($1, $2, 'aggregate', 'done')`, s.Options.Name, middle)
	if want := []string{fmt.Sprint(s.active.Epoch)}; !slices.Equal(middles, want) {
		s.t.Errorf("%s: %s was added up in epochs %q, want %q", when, middle, middles, want)
	}
}

// programs are the processes of a node that have not ended, by name.
func (s *etlStage) programs(node *lab.Node) map[string][]int {
	s.t.Helper()
	pids, err := node.PIDs()
	must(s.t, err)
	all := map[string][]int{}
	for _, pid := range pids {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if _, ended := zombie(pid); err == nil && !ended {
			all[strings.TrimSpace(string(name))] = append(all[strings.TrimSpace(string(name))], pid)
		}
	}
	return all
}

// stored is a hash of all that the pipeline has in S3.
func (s *etlStage) stored() string {
	s.t.Helper()
	var all bytes.Buffer
	must(s.t, filepath.WalkDir(s.LakeDir(), func(path string, file fs.DirEntry, err error) error {
		if err != nil || !file.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %x\n", path, sha256.Sum256(text))
		return err
	}))
	return fmt.Sprintf("%x", sha256.Sum256(all.Bytes()))
}
