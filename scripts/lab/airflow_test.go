//go:build airflow

package lab_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestAirflowRunsTheDemo needs scripts/setup airflow and about a minute.
func TestAirflowRunsTheDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	a, err := l.StartAirflow(ctx, lab.AirflowOptions{Chains: 3, Length: 5})
	must(t, err)

	scheduler, err := l.Host("a").Start(a.Scheduler())
	must(t, err)
	must(t, a.Trigger(ctx, "one"))
	must(t, a.Trigger(ctx, "one"))
	state, err := a.AwaitRun(ctx, "one")
	if err != nil || state != "success" {
		t.Fatalf("run ended as %q: %v\n%s", state, err, scheduler.LogTail(20))
	}
	beats, err := a.Beats(ctx, "one")
	must(t, err)
	if want := (lab.Beats{Rows: 15, Tasks: 15}); beats != want {
		t.Errorf("beats %+v, want %+v", beats, want)
	}
	states, err := a.TaskStates(ctx, "one")
	must(t, err)
	if states["success"] != 15 || len(states) != 1 {
		t.Errorf("task states %v", states)
	}
	for _, text := range dagLogs(t, a, lab.DAG) {
		if strings.Contains(strings.ToLower(text), "warning") {
			t.Errorf("the DAG does not parse cleanly:\n%s", text)
		}
	}
}

// dagLogs are what the DAG processor has written about a DAG; it must have.
func dagLogs(t *testing.T, a *lab.Airflow, dag string) (texts []string) {
	t.Helper()
	parsed, err := filepath.Glob(filepath.Join(a.Home(), "logs/dag_processor/*/dags-folder", dag+".py.log"))
	must(t, err)
	if len(parsed) == 0 {
		t.Errorf("the DAG processor kept no log of %s", dag)
	}
	for _, path := range parsed {
		text, err := os.ReadFile(path)
		must(t, err)
		texts = append(texts, string(text))
	}
	return texts
}

// TestClusterTakesAirflowOver kills the host of the active scheduler in the middle of a run.
func TestClusterTakesAirflowOver(t *testing.T) { takesAirflowOver(t, 3) }

// deafFirst is a plugin of Airflow with which an order to leave is lost, as it is when it comes in a finalizer.
const deafFirst = `
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

SchedulerJobRunner._exit_gracefully = lambda *args: None
`

func takesAirflowOver(t *testing.T, line int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	plugins := t.TempDir()
	must(t, os.WriteFile(filepath.Join(plugins, "deaf.py"), []byte(deafFirst), 0o644))
	a, err := l.StartAirflow(ctx, lab.AirflowOptions{
		Line: line, Chains: 3, Length: 6, Extra: map[string]string{"AIRFLOW__CORE__PLUGINS_FOLDER": plugins},
	})
	must(t, err)
	job := a.SchedulerJob()
	job.Grace = 10 * time.Minute // nobody is killed for being slow here
	c, err := l.NewCluster(ctx, a.Store(), lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}, Env: a.SchedulerEnv()})
	must(t, err)
	must(t, c.Start())
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	if out, code, err := c.Ctl(ctx, "switchover", "--job", "scheduler", "--yes", "--timeout", "3m"); err != nil || code != 0 {
		t.Fatalf("switchover: code %d, %v\n%s", code, err, out)
	}
	first, err = c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	must(t, a.Trigger(ctx, "over"))
	eventuallyWithin(t, time.Minute, "some tasks are through", func() bool {
		beats, err := a.Beats(ctx, "over")
		must(t, err)
		return beats.Tasks >= 4
	})
	must(t, c.Nodes[first.Node].Kill(ctx))
	killed := time.Now()
	second, err := c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	t.Logf("active again after %s: %+v, was %+v", time.Since(killed), second, first)
	state, err := a.AwaitRun(ctx, "over")
	if err != nil || state != "success" {
		t.Fatalf("run ended as %q: %v", state, err)
	}
	beats, err := a.Beats(ctx, "over")
	must(t, err)
	if beats.Tasks != 18 {
		t.Errorf("beats %+v, want 18 tasks", beats)
	}
	t.Logf("beats %+v", beats)
}
