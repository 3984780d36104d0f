//go:build airflow

package lab_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
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
	parsed, err := filepath.Glob(filepath.Join(l.Dir, "airflow/logs/dag_processor/*/dags-folder", lab.DAG+".py.log"))
	must(t, err)
	if len(parsed) == 0 {
		t.Error("the DAG processor kept no log of the DAG")
	}
	for _, path := range parsed {
		text, err := os.ReadFile(path)
		must(t, err)
		if bytes.Contains(bytes.ToLower(text), []byte("warning")) {
			t.Errorf("the DAG does not parse cleanly:\n%s", text)
		}
	}
}
