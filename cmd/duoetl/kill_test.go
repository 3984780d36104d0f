package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
)

// calm is an undisturbed run over both generated years: what its tables hash to, and how often it writes to the ledger.
func (s *stage) calm() (tables string, writes int) {
	s.t.Helper()
	calm.once.Do(func() {
		s.configure("calm")
		s.exec("INSERT INTO public.stop_at VALUES ('calm', 0)")
		if r := s.finish("calm", 1, "run"); r.Done != 2 {
			s.t.Fatalf("undisturbed run: %+v", r)
		}
		calm.tables, calm.writes = s.tables("calm"), ask[int](s, "SELECT writes FROM public.stop_at WHERE pipeline = 'calm'")
	})
	if calm.tables == "" {
		s.t.Fatal("the undisturbed run has failed")
	}
	return calm.tables, calm.writes
}

var calm struct {
	once   sync.Once
	tables string
	writes int
}

// TestKilledAtEveryWrite kills duoetl in each of its writes to the ledger, which stand before, within and behind every step of
// both chunks, and lets the next epoch resume: the tables are those of an undisturbed run, and what was committed is not
// done again.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	_, writes := theStage(t).calm()
	if writes < 2*2*len(etl.Steps()) {
		t.Errorf("%d writes, want at least two for each step of each chunk", writes)
	}
	for n := 1; n <= writes; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			theStage(t).killedAt(n)
		})
	}
}

func (s *stage) killedAt(n int) {
	want, _ := s.calm()
	pipeline := fresh("kill")
	s.configure(pipeline)
	s.exec("INSERT INTO public.stop_at VALUES ($1, $2)", pipeline, n)
	s.killHeld(pipeline)
	s.exec("DELETE FROM public.stop_at WHERE pipeline = $1", pipeline)
	done := s.done(pipeline)
	s.takeover(pipeline)
	began := time.Now()
	report := s.finish(pipeline, 2, "resume")
	took := time.Since(began)
	if got := s.tables(pipeline); got != want {
		s.t.Errorf("killed in write %d: tables hash to %s, undisturbed to %s", n, got, want)
	}
	for _, c := range report.Chunks {
		for _, step := range c.Steps {
			if key := string(c.Chunk) + " " + step.Step; done[key] {
				s.t.Errorf("killed in write %d: %s was done and is done again", n, key)
			}
		}
	}
	s.t.Logf("killed in write %d, with %d steps done; resumed in %v", n, len(done), took.Round(time.Millisecond))
}

// takeover gives the job to another node, at epoch 2.
func (s *stage) takeover(pipeline string) {
	s.t.Helper()
	s.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = $1", pipeline)
}

// started is a duoetl that runs; what it writes is read when it has ended.
type started struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func (s *stage) begin(c *exec.Cmd) *started {
	s.t.Helper()
	r := &started{Cmd: c, ended: make(chan error, 1)}
	c.Stdout, c.Stderr = &r.out, &r.out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { r.ended <- c.Wait() }()
	return r
}

// untilRunning polls a condition that has to come true while a program runs.
func (s *stage) untilRunning(r *started, what string, ok func() bool) {
	s.t.Helper()
	s.until(what, func() bool {
		select {
		case err := <-r.ended:
			s.t.Fatalf("the program ended before %s: %v\n%s", what, err, r.out.String())
		default:
		}
		return ok()
	})
}

// killHeld runs duoetl until the database holds it, and kills it there.
func (s *stage) killHeld(pipeline string) {
	s.t.Helper()
	r := s.begin(s.command(pipeline, 1, "run"))
	s.untilRunning(r, "the database holds it", func() bool { return s.held(pipeline) })
	s.kill(r)
	s.endSessions(pipeline)
}

func (s *stage) kill(r *started) {
	s.t.Helper()
	if err := r.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := <-r.ended; err == nil {
		s.t.Fatal("the run came to its end before it was killed")
	}
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
	t.Parallel()
	for _, n := range []int{2, 5, 9, 12, 16, 21, 27, 31} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			theStage(t).frozenAt(n)
		})
	}
}

func (s *stage) frozenAt(n int) {
	pipeline := fresh("frozen")
	s.configure(pipeline)
	s.exec("INSERT INTO public.stop_at VALUES ($1, $2)", pipeline, n)
	r := s.begin(s.command(pipeline, 1, "run"))
	s.untilRunning(r, "the write", func() bool { return s.held(pipeline) })
	if err := r.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	s.endSessions(pipeline)
	s.exec("DELETE FROM public.stop_at WHERE pipeline = $1", pipeline)
	s.takeover(pipeline)
	before, manifests := s.everything(pipeline), s.manifests(pipeline)
	if err := r.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := <-r.ended; !errors.As(err, &exit) || exit.ExitCode() != etl.ExitFenced {
		s.t.Errorf("frozen in write %d: %v, want exit code %d\n%s", n, err, etl.ExitFenced, r.out.String())
	}
	if after := s.everything(pipeline); after != before {
		s.t.Errorf("frozen in write %d: it has written after it was fenced:\n%s\n%s", n, before, after)
	}
	if now := s.manifests(pipeline); now != manifests {
		s.t.Errorf("frozen in write %d: %d manifests in S3, %d when it was fenced", n, now, manifests)
	}
	if r := s.finish(pipeline, 2, "resume"); r.Done+r.Unchanged != 2 || s.manifests(pipeline) != 2*4 {
		s.t.Errorf("frozen in write %d: the next epoch says %+v, with %d manifests", n, r, s.manifests(pipeline))
	}
}

// everything is what a pipeline has in the database.
func (s *stage) everything(pipeline string) string {
	s.t.Helper()
	return ask[string](s, fmt.Sprintf(`SELECT coalesce((SELECT string_agg(k::text, E'\n' ORDER BY k::text) FROM duoflow.etl_chunk k WHERE pipeline = $1), '') ||
coalesce((SELECT string_agg(k::text, E'\n' ORDER BY k::text) FROM %[1]s.chunk k), '') || (SELECT count(*) FROM %[1]s.cell_month)::text`, pipeline), pipeline)
}
