package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// The tests of this file kill duoetl in the middle of a piece of work, while a server holds it there or, in the engine, when it is
// seen within the call. What was half done must be found, or thrown away, but never be done in part or twice.

// hold is a fault that holds the first call it matches, or so many of them, until release is called or the test ends.
func (s *stage) hold(f sandbox.Fault) (held func() bool, release func()) {
	gate := make(chan struct{})
	f.Times, f.Do = max(1, f.Times), func() { <-gate }
	hits := s.faults.Add(f)
	release = sync.OnceFunc(func() { close(gate) })
	s.t.Cleanup(release)
	return func() bool { return hits() >= f.Times }, release
}

// resumed lets the next epoch go on and wants the tables of an undisturbed run.
func (s *stage) resumed(pipeline string) etl.Report {
	s.t.Helper()
	want, _ := s.calm()
	s.takeover(pipeline)
	report := s.finish(pipeline, 2, "resume")
	if report.Done+report.Unchanged != 2 {
		s.t.Errorf("%+v", report)
	}
	if got := s.tables(pipeline); got != want {
		s.t.Errorf("tables hash to %s, undisturbed to %s", got, want)
	}
	return report
}

func TestKilledWhileAServerWorks(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name  string
		fault sandbox.Fault
	}{
		{"copy", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "raw/"}},
		{"ingest", sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: "raw/"}},
		{"keep", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "ingest/"}},
		{"publish", sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Name: "publish/"}},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			s, pipeline := theStage(t), fresh(one.name)
			s.configure(pipeline)
			one.fault.Name = "/lake/" + pipeline + "/" + one.fault.Name
			held, _ := s.hold(one.fault)
			r := s.begin(s.command(pipeline, 1, "run"))
			s.untilRunning(r, "the call", held)
			s.kill(r)
			s.resumed(pipeline)
		})
	}
}

// TestKilledWithinTheJob: the job of the dead node is adopted, though the first look says that there is none, by its 409; each chunk
// is extracted once.
func TestKilledWithinTheJob(t *testing.T) {
	t.Parallel()
	s, pipeline := theStage(t), fresh("job")
	s.configure(pipeline)
	project := "/projects/" + strings.ReplaceAll(pipeline, "_", "-")
	held, release := s.hold(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "duoflow_" + pipeline + "_2017_"})
	others := s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "duoflow_" + pipeline + "_"})
	inserts := s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.insert", Name: project + "/jobs"})
	r := s.begin(s.command(pipeline, 1, "run"))
	s.untilRunning(r, "the job runs", held)
	s.kill(r)
	unseen := s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.get", Name: project + "/jobs/", Times: 1, Status: http.StatusNotFound, Reason: "notFound"})
	adopted := make(chan struct{})
	go func() { // while the other node waits for the job
		defer close(adopted)
		for deadline := time.Now().Add(time.Minute); inserts() < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		}
		release()
	}()
	s.resumed(pipeline)
	<-adopted
	if unseen() != 1 || inserts() != 3 || others() != 1 {
		t.Errorf("%d looks missed the job, %d inserts, %d jobs beside the first; want 1, 3 (one a chunk, and the one refused by 409) and 1", unseen(), inserts(), others())
	}
}

// TestKilledWithinTheUpload: of two objects that are copied at a time, in three parts each, no more than the part under way is sent
// again.
func TestKilledWithinTheUpload(t *testing.T) {
	t.Parallel()
	const streams, parts = 2, 3
	s := theStage(t)
	files := map[string][]byte{"tiles-2018-1.csv": padded(1), "tiles-2018-2.csv": padded(2)}
	quiet, pipeline := fresh("upload_calm"), fresh("upload")
	for _, pipeline := range []string{quiet, pipeline} {
		s.configureFiles(pipeline, "tiles-{chunk}-*.csv", "{from: 2018, to: 2018}")
		for name, content := range files {
			s.put(pipeline, name, content)
		}
	}
	count := func(pipeline, call string) func() int {
		return s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: call, Name: "/lake/" + pipeline + "/raw/"})
	}
	undisturbed := count(quiet, "UploadPart")
	s.finish(quiet, 1, "run")
	if undisturbed() != streams*parts {
		t.Fatalf("an undisturbed run sends %d parts, want %d", undisturbed(), streams*parts)
	}

	held, _ := s.hold(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Name: "/lake/" + pipeline + "/raw/", Skip: streams, Times: streams})
	sent, begun, listed := count(pipeline, "UploadPart"), count(pipeline, "CreateMultipartUpload"), count(pipeline, "ListParts")
	r := s.begin(s.command(pipeline, 1, "run"))
	s.untilRunning(r, "both streams send a part", held)
	s.kill(r)
	before := sent()
	s.takeover(pipeline)
	s.finish(pipeline, 2, "resume")
	if again := sent() - before; before != streams || again > (parts-1)*streams {
		t.Errorf("%d parts were sent before, %d afterwards; want %d and at most %d: one a stream is sent again", before, again, streams, (parts-1)*streams)
	}
	if begun() != streams || listed() < streams {
		t.Errorf("%d uploads were begun, want %d; parts were listed %d times", begun(), streams, listed())
	}
	if got, want := s.tables(pipeline), s.tables(quiet); got != want {
		t.Errorf("tables hash to %s, undisturbed to %s", got, want)
	}
}

// padded is a file of a few rows and 11 MiB of comments: three parts of 5 MiB, 5 MiB and the rest.
func padded(lat int) []byte {
	var out bytes.Buffer
	out.WriteString("#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n")
	for i := range 300 {
		fmt.Fprintf(&out, "201807%02d,-%d.5,%d.5,%d\n", 1+i%28, 80+i/28, 30+lat, 1+i)
	}
	comment := "#" + strings.Repeat("x", 2000) + "\n"
	out.WriteString(strings.Repeat(comment, 11<<20/len(comment)))
	return out.Bytes()
}

// TestKilledWithinCopy: the server has taken 99 rows of the cells when the program dies.
func TestKilledWithinCopy(t *testing.T) {
	t.Parallel()
	s, pipeline := theStage(t), fresh("rows")
	s.configure(pipeline)
	s.exec("INSERT INTO public.stop_copy VALUES ($1)", pipeline)
	r := s.begin(s.command(pipeline, 1, "run"))
	s.untilRunning(r, "the COPY is held", func() bool { return s.held(pipeline) })
	copying := ask[int](s, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active' AND query LIKE 'COPY pg_temp.etl_cell_month FROM%'", "duoetl/"+pipeline)
	s.kill(r)
	s.endSessions(pipeline)
	s.exec("DELETE FROM public.stop_copy WHERE pipeline = $1", pipeline)
	if rows := ask[int](s, fmt.Sprintf("SELECT (SELECT count(*) FROM %[1]s.day) + (SELECT count(*) FROM %[1]s.cell_month)", pipeline)); copying != 1 || rows != 0 {
		t.Errorf("%d sessions were within the COPY, want 1; %d rows are in the tables, want none", copying, rows)
	}
	s.resumed(pipeline)
}

// TestKilledWithinTheQuery: the program is within DuckDB's call that executes a query when it dies.
func TestKilledWithinTheQuery(t *testing.T) {
	t.Parallel()
	s := theStage(t)
	content := manyRows(200_000)
	configure := func(pipeline string) {
		s.configureFiles(pipeline, "tiles-{chunk}.csv", "{from: 2018, to: 2018}")
		s.put(pipeline, "tiles-2018.csv", content)
	}
	undisturbed := fresh("query_calm")
	configure(undisturbed)
	s.finish(undisturbed, 1, "run")
	for attempt := 1; ; attempt++ {
		pipeline := fresh("query")
		configure(pipeline)
		if s.diedWithin(pipeline, "_Cfunc_duckdb_execute_pending") {
			s.takeover(pipeline)
			s.finish(pipeline, 2, "resume")
			if got, want := s.tables(pipeline), s.tables(undisturbed); got != want {
				t.Errorf("tables hash to %s, undisturbed to %s", got, want)
			}
			return
		}
		if attempt == 10 {
			t.Fatal("ten runs were through their queries before they were seen within one")
		}
	}
}

// diedWithin runs duoetl and tells whether it died within the function.
func (s *stage) diedWithin(pipeline, function string) bool {
	s.t.Helper()
	c := s.command(pipeline, 1, "run")
	c.Env = append(c.Env, diesWithin+"="+function)
	r := s.begin(c)
	err := <-r.ended
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t.Fatalf("%v, want it to be killed within the query\n%s", err, r.out.String())
	}
	s.endSessions(pipeline)
	for step, want := range map[string]string{etl.StepIngest: "done", etl.StepAggregate: "started", etl.StepLoad: ""} {
		if got := ask[string](s, "SELECT coalesce(max(state), '') FROM duoflow.etl_chunk WHERE pipeline = $1 AND step = $2", pipeline, step); got != want {
			s.t.Errorf("the ledger says of %s %q, want %q", step, got, want)
		}
	}
	if err := os.RemoveAll(filepath.Join(s.dir, pipeline)); err != nil { // on another node there is none of it
		s.t.Fatal(err)
	}
	return true
}

// manyRows is a file of so many tile-days.
func manyRows(n int) []byte {
	var out bytes.Buffer
	out.WriteString("#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n")
	for i := range n {
		fmt.Fprintf(&out, "2018%02d%02d,-%d.%d,%d.%d,%d\n", 1+i%12, 1+i/12%28, 70+i/3360%50, i/336%10, 30+i/168000, i/16800%10, 1+i%9)
	}
	return out.Bytes()
}
