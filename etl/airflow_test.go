package etl_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/dagrun"
	"github.com/duoflow/duoflow/etl/dagrun/dagruntest"
	"github.com/duoflow/duoflow/etl/tile"
)

// dagWorld is a world whose pipeline over two files is driven by a DAG, which an Airflow that stands in runs step by step.
type dagWorld struct {
	*world
	airflow *dagruntest.Server
	config  etl.Config // of driver airflow
	worker  *etl.Pipeline

	mu     sync.Mutex
	before func(step, chunk string) // a step; nil = nothing
	done   []string                 // steps, "load 2018"
}

const connection = "duoflow_etl"

func newDAGWorld(t *testing.T) *dagWorld {
	t.Helper()
	w := &dagWorld{world: newWorld(t, nil), airflow: dagruntest.Start(t)}
	service := filepath.Join(t.TempDir(), "service.conf")
	if err := os.WriteFile(service, []byte("[etl]\nhost=db\nuser=df_etl_e1\npassword=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"PGSERVICE": "etl", "PGSERVICEFILE": service, "DUOFLOW_JOB": "etl", "DUOFLOW_NODE": "a", "DUOFLOW_EPOCH": "1", "USER_OF_AIRFLOW": dagruntest.User, "PASSWORD_OF_AIRFLOW": dagruntest.Password,
	} {
		w.env[name] = value
	}
	w.exec("CREATE SCHEMA duoflow; CREATE TABLE duoflow.fence (job text PRIMARY KEY, epoch bigint, node text); INSERT INTO duoflow.fence VALUES ('etl', 1, 'a')")
	w.config = w.parse(`source: {kind: gcs, objects: "nldn-tiles-{chunk}.csv.gz", window: {from: 2017, to: 2018}}`, "")
	w.worker = w.open(w.config)
	w.config.Driver = etl.DriverAirflow
	w.config.Airflow = etl.Airflow{Endpoint: w.airflow.URL, DAG: dagruntest.DAG, Connection: connection, UsernameEnv: "USER_OF_AIRFLOW", PasswordEnv: "PASSWORD_OF_AIRFLOW"}
	w.airflow.Do = w.do
	return w
}

// do is the DAG: the steps of each chunk, up to one that fails.
func (w *dagWorld) do(ctx context.Context, r dagrun.Run) (failed []dagrun.Task) {
	for i, chunk := range r.Conf.Chunks {
		for _, step := range etl.Steps() {
			w.mu.Lock()
			before := w.before
			w.mu.Unlock()
			if before != nil {
				before(step, chunk)
			}
			report, err := w.worker.Run(ctx, etl.Selection{Only: step, Chunks: []tile.Chunk{tile.Chunk(chunk)}, Force: r.Conf.Force && (step == etl.StepAggregate || step == etl.StepLoad), Accept: r.Conf.Accept})
			if err != nil {
				failed = append(failed, dagrun.Task{ID: "tiles." + step, Index: i})
				break
			}
			w.mu.Lock()
			for range report.Chunks[0].Steps {
				w.done = append(w.done, step+" "+chunk)
			}
			w.mu.Unlock()
		}
	}
	return failed
}

// steps are those that were done since the last time.
func (w *dagWorld) steps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := w.done
	w.done = nil
	return done
}

func (w *dagWorld) files(rows int, years ...int) {
	w.t.Helper()
	for _, y := range years {
		w.put(fmt.Sprintf("nldn-tiles-%d.csv.gz", y), zip(w.t, strings.ReplaceAll(ncei(tiles(rows)), "\n2018", fmt.Sprintf("\n%d", y))))
	}
}

func (w *dagWorld) run(s etl.Selection) (etl.Report, error) {
	w.t.Helper()
	return w.open(w.config).Run(w.t.Context(), s)
}

// want runs and compares how that ends.
func (w *dagWorld) want(code, done, unchanged, failed int, words ...string) etl.Report {
	w.t.Helper()
	report, err := w.run(etl.Selection{})
	if etl.ExitCode(err) != code || report.Done != done || report.Unchanged != unchanged || report.Failed != failed {
		w.t.Errorf("code %d, %d done, %d unchanged, %d failed: %v; want %d, %d, %d, %d", etl.ExitCode(err), report.Done, report.Unchanged, report.Failed, err, code, done, unchanged, failed)
	}
	for _, word := range words {
		if !strings.Contains(fmt.Sprint(err), word) {
			w.t.Errorf("the message lacks %q: %v", word, err)
		}
	}
	return report
}

// holdRun holds the DAG's run in a step, from when reached is closed until somebody looks for runs after looked was called.
func (w *dagWorld) holdRun(step, chunk string) (reached chan struct{}, looked func()) {
	const looks = "GET /api/v2/dags/lightning/dagRuns"
	reached, release := make(chan struct{}), make(chan struct{})
	w.before = func(s, c string) {
		if s == step && c == chunk {
			close(reached)
			<-release
		}
	}
	return reached, func() {
		before := w.airflow.Calls(looks)
		go func() {
			for deadline := time.Now().Add(time.Minute); w.airflow.Calls(looks) == before && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			}
			close(release)
		}()
	}
}

func TestADAGDoesTheSteps(t *testing.T) {
	w := newDAGWorld(t)
	defer w.airflow.Stop() // before what it uses is closed
	w.files(200, 2017, 2018)
	report := w.want(etl.ExitOK, 2, 0, 0)
	if got := w.steps(); len(got) != 2*len(etl.Steps()) {
		t.Errorf("steps %v", got)
	}
	for _, c := range report.Chunks {
		if c.Rows != 200 || c.Hash == "" || len(c.Steps) != len(etl.Steps()) {
			t.Errorf("%+v", c)
		}
	}
	held := w.airflow.Connection(connection)
	if held["login"] != "df_etl_e1" || held["password"] != "secret" {
		t.Errorf("the tasks were lent %v", held)
	}
	w.want(etl.ExitOK, 0, 2, 0)
	if runs := w.airflow.Runs(); len(runs) != 1 || !strings.HasPrefix(runs[0].ID, "duoflow__lightning__2017-2018__") {
		t.Errorf("runs %+v", runs)
	}
	if checks := w.open(w.config).Doctor(t.Context()); !slices.Contains(checks, etl.Check{Name: "airflow", OK: true, Says: "DAG lightning"}) {
		t.Errorf("the doctor says %+v", checks)
	}
	// A new state of the source is another run; what is not new is not in it.
	w.files(300, 2018)
	w.want(etl.ExitOK, 1, 1, 0)
	if runs := w.airflow.Runs(); len(runs) != 2 || !slices.Equal(runs[1].Conf.Chunks, []string{"2018"}) {
		t.Errorf("runs %+v", runs)
	}
	// What was taken away is made again, by the same run.
	w.exec("DELETE FROM lightning.chunk WHERE chunk = '2018'")
	w.want(etl.ExitOK, 1, 1, 0)
	if runs := w.airflow.Runs(); len(runs) != 2 {
		t.Errorf("runs %+v", runs)
	}
	w.steps()
	if report, err := w.run(etl.Selection{Force: true}); err != nil || report.Done != 2 {
		t.Errorf("by force: %+v, %v", report, err)
	}
	if got := w.steps(); !slices.Contains(got, "aggregate 2017") || !slices.Contains(got, "load 2018") || slices.Contains(got, "ingest 2018") {
		t.Errorf("by force: %v", got)
	}
}

// TestTheNextEpochFollowsTheSameRun: the first one is told to end while the run is on.
func TestTheNextEpochFollowsTheSameRun(t *testing.T) {
	w := newDAGWorld(t)
	defer w.airflow.Stop() // before what it uses is closed
	w.files(200, 2017, 2018)
	reached, looked := w.holdRun(etl.StepLoad, "2018")
	ctx, die := context.WithCancel(t.Context())
	first := w.open(w.config)
	ended := make(chan error, 1)
	go func() {
		_, err := first.Run(ctx, etl.Selection{})
		ended <- err
	}()
	<-reached
	die()
	if err := <-ended; etl.ExitCode(err) == etl.ExitOK {
		t.Errorf("a run that was told to end: %v", err)
	}
	if runs := w.airflow.Runs(); len(runs) != 1 || runs[0].State.Ended() {
		t.Fatalf("runs %+v", runs)
	}
	looked()
	report := w.want(etl.ExitOK, 1, 1, 0)
	if runs := w.airflow.Runs(); len(runs) != 1 {
		t.Errorf("runs %+v", runs)
	}
	if report.Chunks[0].State != etl.ChunkUnchanged || report.Chunks[1].State != etl.ChunkDone {
		t.Errorf("%+v, %+v", report.Chunks[0], report.Chunks[1])
	}
}

// TestARunOfAnotherNameIsFollowedFirst: somebody has triggered it by hand.
func TestARunOfAnotherNameIsFollowedFirst(t *testing.T) {
	w := newDAGWorld(t)
	defer w.airflow.Stop() // before what it uses is closed
	w.files(200, 2017, 2018)
	client, err := dagrun.New(dagrun.Config{Endpoint: w.airflow.URL, DAG: dagruntest.DAG, Username: dagruntest.User, Password: dagruntest.Password})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	reached, looked := w.holdRun(etl.StepExtract, "2017")
	if _, _, err := client.Trigger(t.Context(), "by hand", dagrun.Conf{Pipeline: "lightning", Chunks: []string{"2017"}}); err != nil {
		t.Fatal(err)
	}
	<-reached
	looked()
	w.want(etl.ExitOK, 2, 0, 0)
	runs := w.airflow.Runs()
	if len(runs) > 2 || runs[0].ID != "by hand" {
		t.Errorf("runs %+v", runs)
	}
	if got := w.steps(); len(got) != 2*len(etl.Steps()) {
		t.Errorf("steps %v", got)
	}
}

func TestWhatFailsInADAG(t *testing.T) {
	w := newDAGWorld(t)
	defer w.airflow.Stop() // before what it uses is closed
	w.files(200, 2018)
	// One chunk has no file: the other is done, another run may do it.
	w.want(etl.ExitPartial, 1, 0, 1, "chunk 2017", "extract", "not found")
	// Its lines are refused: nobody needs to try again.
	w.put("nldn-tiles-2017.csv.gz", zip(t, "not,tiles\n1,2\n"))
	w.want(etl.ExitQuality, 0, 1, 1, "chunk 2017", "ingest")
	runs := len(w.airflow.Runs())
	w.want(etl.ExitQuality, 0, 1, 1, "chunk 2017", "ingest")
	if now := len(w.airflow.Runs()); now != runs {
		t.Errorf("%d runs, before %d: what failed is cleared, not triggered anew", now, runs)
	}
	// A worker without the program: the ledger knows nothing about it.
	w.airflow.Do = func(context.Context, dagrun.Run) []dagrun.Task { return []dagrun.Task{{ID: "tiles.copy", Index: 0}} }
	w.want(etl.ExitPartial, 0, 1, 1, "chunk 2017", "task tiles.copy failed in Airflow", w.airflow.URL)
	w.airflow.Do = w.do
	w.files(200, 2017)
	w.want(etl.ExitOK, 1, 1, 0)
}

func TestADAGIsForAnEpoch(t *testing.T) {
	w := newDAGWorld(t)
	defer w.airflow.Stop() // before what it uses is closed
	w.files(200, 2017, 2018)
	w.before = func(string, string) { w.exec("UPDATE duoflow.fence SET epoch = 2, node = 'b'") }
	w.want(etl.ExitFenced, 0, 0, 0, "epoch 2")
	w.env["DUOFLOW_EPOCH"] = "2"
	w.before = nil
	delete(w.env, "PGSERVICE")
	if _, err := w.run(etl.Selection{}); etl.ExitCode(err) != etl.ExitUsage || !strings.Contains(err.Error(), "let the cluster run it") {
		t.Errorf("without a login: %v", err)
	}
	w.env["PGSERVICE"] = "other"
	if _, err := w.run(etl.Selection{}); etl.ExitCode(err) != etl.ExitFailed {
		t.Errorf("without its login: %v", err)
	}
	w.env["PGSERVICE"] = "etl"
	w.airflow.Break(1)
	w.env["DUOFLOW_EPOCH"] = "2"
	w.worker = w.open(func() etl.Config { c := w.config; c.Driver = etl.DriverBuiltin; return c }())
	w.want(etl.ExitOK, 2, 0, 0)
}
