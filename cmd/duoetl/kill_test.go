package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// TestKilledAtEveryWrite kills duoetl in each of its writes to the ledger, which stand before, within and behind every step of
// both chunks, and lets the next epoch resume: the tables are those of an undisturbed run, and what was committed is not
// done again.
func TestKilledAtEveryWrite(t *testing.T) {
	s := newStage(t, 0.002)
	s.configure("calm")
	if r := s.finish("calm", 1, "run"); r.Done != 2 {
		t.Fatalf("undisturbed run: %+v", r)
	}
	want := s.tables("calm")
	kills := 0
	for n := 1; ; n++ {
		pipeline := fmt.Sprintf("kill_%d", n)
		s.configure(pipeline)
		s.exec("INSERT INTO public.stop_at VALUES ($1, $2)", pipeline, n)
		if !s.killHeld(pipeline) {
			break
		}
		kills++
		s.exec("DELETE FROM public.stop_at")
		done := s.done(pipeline)
		s.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = $1", pipeline)
		began := time.Now()
		report := s.finish(pipeline, 2, "resume")
		took := time.Since(began)
		if got := s.tables(pipeline); got != want {
			t.Errorf("killed in write %d: tables hash to %s, undisturbed to %s", n, got, want)
		}
		redone := 0
		for _, c := range report.Chunks {
			for _, step := range c.Steps {
				switch key := string(c.Chunk) + " " + step.Step; {
				case !done[key]:
				case step.Step == etl.StepAggregate: // its result lives in memory
					redone++
				default:
					t.Errorf("killed in write %d: %s was done and is done again", n, key)
				}
			}
		}
		if redone > 2 {
			t.Errorf("killed in write %d: %d chunks were added up again", n, redone)
		}
		t.Logf("killed in write %d, with %d steps done; resumed in %v", n, len(done), took.Round(time.Millisecond))
	}
	if kills < 2*2*len(etl.Steps()) {
		t.Errorf("%d kills, want at least two for each step of each chunk", kills)
	}
}

// killHeld runs duoetl until it is held in the write that stop_at names, and kills it there; false if it came to its end.
func (s *stage) killHeld(pipeline string) bool {
	s.t.Helper()
	c := s.command(pipeline, 1, "run")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	over, held := false, false
	s.until("the write, or the end", func() bool {
		select {
		case err := <-ended:
			if over = true; err != nil {
				s.t.Fatalf("run: %v\n%s", err, out.String())
			}
		default:
			held = s.held()
		}
		return over || held
	})
	if over {
		return false
	}
	if err := c.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-ended
	s.endSessions(pipeline)
	return true
}

// done are the steps that the ledger calls done.
func (s *stage) done(pipeline string) map[string]bool {
	s.t.Helper()
	out := map[string]bool{}
	for _, key := range ask[[]string](s, "SELECT coalesce(array_agg(chunk || ' ' || step), '{}') FROM duoflow.etl_chunk WHERE pipeline = $1 AND state = 'done'", pipeline) {
		out[key] = true
	}
	return out
}

// TestFrozenAndFenced freezes duoetl in writes to the ledger, lets another epoch take over, and wakes it up: it ends with
// code 4, and neither tables nor ledger nor manifests have changed.
func TestFrozenAndFenced(t *testing.T) {
	s := newStage(t, 0.002)
	for _, n := range []int{2, 5, 9, 12, 16, 21, 27} {
		pipeline := fmt.Sprintf("frozen_%d", n)
		s.configure(pipeline)
		s.exec("INSERT INTO public.stop_at VALUES ($1, $2)", pipeline, n)
		c := s.command(pipeline, 1, "run")
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		s.until("the write", s.held)
		if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s.endSessions(pipeline)
		s.exec("DELETE FROM public.stop_at")
		s.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = $1", pipeline)
		before, manifests := s.everything(pipeline), s.manifests(pipeline)
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != etl.ExitFenced {
			t.Errorf("frozen in write %d: %v, want exit code %d\n%s", n, err, etl.ExitFenced, out.String())
		}
		if after := s.everything(pipeline); after != before {
			t.Errorf("frozen in write %d: it has written after it was fenced:\n%s\n%s", n, before, after)
		}
		if now := s.manifests(pipeline); now != manifests {
			t.Errorf("frozen in write %d: %d manifests in S3, %d when it was fenced", n, now, manifests)
		}
		if r := s.finish(pipeline, 2, "resume"); r.Done+r.Unchanged != 2 || s.manifests(pipeline) != 2*3 {
			t.Errorf("frozen in write %d: the next epoch says %+v, with %d manifests", n, r, s.manifests(pipeline))
		}
	}
}

// everything is what a pipeline has in the database.
func (s *stage) everything(pipeline string) string {
	s.t.Helper()
	return ask[string](s, fmt.Sprintf(`SELECT coalesce((SELECT string_agg(k::text, E'\n' ORDER BY k::text) FROM duoflow.etl_chunk k WHERE pipeline = $1), '') ||
coalesce((SELECT string_agg(k::text, E'\n' ORDER BY k::text) FROM %[1]s.chunk k), '') || (SELECT count(*) FROM %[1]s.cell_month)::text`, pipeline), pipeline)
}

// TestKilledWithinSlowWork kills duoetl while the servers hold it in the middle of a step.
func TestKilledWithinSlowWork(t *testing.T) {
	s := newStage(t, 0.002)
	s.configure("calm")
	s.finish("calm", 1, "run")
	want := s.tables("calm")
	for _, one := range []struct {
		name  string
		fault sandbox.Fault
	}{
		{"extract", sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Times: 1, Delay: 2 * time.Second}},
		{"copy", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "raw/", Times: 1, Delay: 2 * time.Second}},
		{"ingest", sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: "raw/", Times: 1, Delay: 2 * time.Second}},
		{"keep", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "ingest/", Times: 1, Delay: 2 * time.Second}},
		{"publish", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "publish/", Times: 1, Delay: 2 * time.Second}},
	} {
		pipeline := "slow_" + one.name
		s.configure(pipeline)
		hits := s.faults.Add(one.fault)
		c := s.command(pipeline, 1, "run")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		s.until("the slow call of "+one.name, func() bool { return hits() > 0 })
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil {
			t.Fatalf("%s: the run came to its end before it was killed", one.name)
		}
		s.faults.Clear()
		s.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = $1", pipeline)
		if r := s.finish(pipeline, 2, "resume"); r.Done+r.Unchanged != 2 {
			t.Errorf("%s: %+v", one.name, r)
		}
		if got := s.tables(pipeline); got != want {
			t.Errorf("killed in the middle of %s: tables hash to %s, undisturbed to %s", one.name, got, want)
		}
	}
}
