//go:build airflow

package lab_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// dagStage is an etlStage whose pipeline is a DAG, on real Airflow whose scheduler the cluster runs.
type dagStage struct {
	*etlStage
	airflow *lab.Airflow
	store   *pgx.Conn // Airflow's database
}

// newDAGStage runs the pipeline once without Airflow, to compare with, and then prepares one of another name for the DAG.
func newDAGStage(ctx context.Context, t *testing.T) *dagStage {
	t.Helper()
	l, err := lab.Up(ctx, lab.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	var p *lab.Pipeline
	a, err := l.StartAirflow(ctx, lab.AirflowOptions{Prepare: func(ctx context.Context, a *lab.Airflow) (env map[string]string, err error) {
		if p, err = l.NewPipeline(ctx, a.Store(), lab.PipelineOptions{Name: "builtin"}); err == nil {
			env = p.WorkerEnv()
		}
		return env, err
	}})
	must(t, err)
	job := p.Job()
	job.Schedule, job.Follow = "@every 1s", "scheduler"
	c, err := l.NewCluster(ctx, a.Store(), lab.ClusterOptions{Detection: "wan", Env: a.SchedulerEnv(), Jobs: map[string]lab.Job{
		"scheduler": a.SchedulerJob(), "etl": job,
	}})
	must(t, err)
	for _, node := range c.Nodes {
		must(t, node.WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" }))
	}
	s := &dagStage{airflow: a, store: connect(ctx, t, a.Store().Admin())}
	s.etlStage = &etlStage{Pipeline: p, ctx: ctx, t: t, c: c, conn: connect(ctx, t, p.Admin()), holder: connect(ctx, t, p.Admin())}
	must(t, p.Init(ctx))
	s.exec(watchSQL)
	s.expected, err = p.Expected(ctx)
	must(t, err)
	_, err = p.Run(ctx, "run")
	must(t, err)
	s.want, err = p.Hash(ctx, s.conn)
	must(t, err)
	s.check("without Airflow")
	p.Options.Name, p.Options.Airflow = "dagged", a.URL
	must(t, p.Configure())
	must(t, p.Init(ctx))
	return s
}

// holders are the roles of those whom the database holds with a lock of a kind.
func (s *dagStage) holders(kind string) []string {
	s.t.Helper()
	return s.strings(`SELECT DISTINCT usename::text FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE locktype = $1 AND NOT granted AND application_name = 'duoetl/' || $2 ORDER BY 1`, kind, s.Options.Name)
}

// killed kills the active host and returns when another is active; it starts the dead one again. Whoever is held at the point as old is
// then held there under the next epoch too, or, with kind "", is not waited for.
func (s *dagStage) killed(what, kind string) {
	s.t.Helper()
	s.standby(s.other())
	var old []string
	if kind != "" {
		old = s.holders(kind)
	}
	before := s.active
	must(s.t, s.c.Nodes[before.Node].Kill(s.ctx))
	var err error
	s.active, err = s.c.AwaitActive(s.ctx, "etl", before.Epoch)
	must(s.t, err)
	s.t.Logf("%s: %s was killed under epoch %d, %s goes on under %d", what, before.Node, before.Epoch, s.active.Node, s.active.Epoch)
	if kind != "" {
		s.await(what+" begins again under the next epoch", func() bool {
			now := s.holders(kind)
			return len(now) > 0 && !slices.ContainsFunc(now, func(role string) bool { return slices.Contains(old, role) })
		})
	}
	select {
	case <-s.c.Nodes[before.Node].Process().Done():
	case <-s.ctx.Done():
		s.t.Fatal(s.ctx.Err())
	}
	must(s.t, s.c.Nodes[before.Node].Start())
}

// other is the host that is not active.
func (s *dagStage) other() string {
	if s.active.Node == "a" {
		return "b"
	}
	return "a"
}

// stopAt holds the write of the middle chunk instead of the one before, which goes on.
func (s *dagStage) stopAt(step, state string) {
	s.t.Helper()
	s.exec("DELETE FROM public.stop_at")
	if step != "" {
		s.exec("INSERT INTO public.stop_at VALUES ($1, $2, $3, $4, 0)", s.Options.Name, middle, step, state)
	}
}

// pass lets go whom the advisory lock holds, and takes it again when they are through.
func (s *dagStage) pass() {
	s.t.Helper()
	s.exec("SELECT pg_advisory_unlock(4711)")
	s.exec("SELECT pg_advisory_lock(4711)")
}

// pause has S3 take seconds for the next such call about what ingest has made of the middle chunk. Within those the host is to die, so
// the other one is made ready first.
func (s *dagStage) pause(call string) {
	s.t.Helper()
	s.standby(s.other())
	must(s.t, s.AddFault(s.ctx, lab.SandboxFault{Server: "s3", Call: call, Name: "/" + s.Options.Name + "/ingest/" + middle, Times: 1, Delay: 8000}))
}

// paused tells whether somebody has made that call.
func (s *dagStage) paused() bool {
	hits, err := s.FaultHits(s.ctx)
	return err == nil && hits[0] > 0
}

// TestDAGFailsOverAtEachTask: the pipeline as a DAG, on real Airflow, RabbitMQ and Celery. While the task of the middle chunk is at work,
// each of the eight, the active host dies with the scheduler and the program that follows the run. One run does it all, every chunk
// is loaded once, and the tables are those of a run without Airflow.
func TestDAGFailsOverAtEachTask(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	s := newDAGStage(ctx, t)
	s.exec("SELECT pg_advisory_lock(4711)")
	s.stopAt("extract", "started")
	must(t, s.c.Start())
	var err error
	s.active, err = s.c.AwaitActive(ctx, "etl", 0)
	must(t, err)

	for i, step := range []string{"extract", "copy", "ingest"} {
		s.await(step+" is at work", func() bool { return len(s.holders("advisory")) > 0 })
		s.killed(step, "advisory")
		switch next := append([]string{"copy", "ingest"}, "")[i]; next {
		case "": // ingest has looked for its manifest: the next look is the sensor's
			s.pause("GetObject")
			s.stopAt("aggregate", "started")
		default:
			s.stopAt(next, "started")
		}
		s.pass()
	}
	s.await("the manifest is looked at", s.paused)
	s.killed("manifest", "")
	must(t, s.ClearFaults(ctx))

	s.await("aggregate is at work", func() bool { return len(s.holders("advisory")) > 0 })
	s.killed("aggregate", "advisory")
	s.stopAt("load", "done") // within its transaction, when it has changed the tables
	s.pass()
	s.await("load is at work", func() bool { return len(s.holders("advisory")) > 0 })
	s.killed("load", "advisory")
	s.stopAt("publish", "started")
	s.pause("HeadObject") // which asks for the files that the checks compare
	s.pass()
	s.await("the files are checked", s.paused)
	s.killed("checks", "")
	must(t, s.ClearFaults(ctx))

	s.await("publish is at work", func() bool { return len(s.holders("advisory")) > 0 })
	s.killed("publish", "advisory")
	s.stopAt("", "")
	s.pass()
	s.finished(s.active.Epoch)
	s.await("the run has ended", func() bool { return s.dagRuns() == "success" })
	s.check("after eight failovers")
	for _, chunk := range s.strings(`SELECT chunk || ': ' || count(*) FROM public.entry WHERE pipeline = $1 AND step = 'load' AND state = 'done' GROUP BY chunk ORDER BY 1`, s.Options.Name) {
		if !strings.HasSuffix(chunk, ": 1") {
			t.Errorf("loads of chunk %s, want 1", chunk)
		}
	}
	s.warnings()
}

// dagRuns are the states of all runs of the pipeline's DAG.
func (s *dagStage) dagRuns() string {
	s.t.Helper()
	rows, err := s.store.Query(s.ctx, "SELECT state::text FROM dag_run WHERE dag_id = $1", lab.PipelineDAG)
	must(s.t, err)
	states, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(s.t, err)
	return strings.Join(states, ", ")
}

// warnings wants none from parsing the DAG.
func (s *dagStage) warnings() {
	s.t.Helper()
	for _, text := range dagLogs(s.t, s.airflow, lab.PipelineDAG) {
		if strings.Contains(strings.ToLower(text), "warning") {
			s.t.Errorf("the DAG does not parse cleanly:\n%s", text)
		}
	}
	var failed []string
	rows, err := s.store.Query(s.ctx, "SELECT stacktrace FROM import_error")
	must(s.t, err)
	failed, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(s.t, err)
	if len(failed) > 0 {
		s.t.Error(fmt.Sprint(failed))
	}
}
