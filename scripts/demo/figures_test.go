package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

func sound() *figures {
	return &figures{
		Takeovers: []account{{Fault: "SIGKILL", From: "a", To: "b", Epoch: 2, FirstQueued: 700 * time.Millisecond}},
		Runs:      2, Tasks: lab.Beats{Rows: 64, Tasks: 64},
		Order: commitorder.Verdict{Rows: 100, Epochs: 2}, Dashboard: "http://127.0.0.1:8050/",
		Pipeline: &passage{
			From: "a", To: "b", Before: 13, After: 11, Years: 4, Runs: 2, Resumed: 650 * time.Millisecond,
			Loaded: lab.Totals{Rows: 10, Strikes: 30}, Made: lab.Totals{Rows: 10, Strikes: 30},
		},
	}
}

// TestEveryFigureCanBeWrong: a demo that cannot fail shows nothing.
func TestEveryFigureCanBeWrong(t *testing.T) {
	if wrong := sound().wrong(); wrong != "" {
		t.Fatalf("sound figures: %s", wrong)
	}
	for name, spoil := range map[string]func(*figures){
		"a task ran twice":        func(f *figures) { f.Tasks.Twice = 1 },
		"a run did not succeed":   func(f *figures) { f.Unfinished = 1 },
		"no task ran":             func(f *figures) { f.Tasks = lab.Beats{} },
		"nothing was committed":   func(f *figures) { f.Order.Rows = 0 },
		"an old epoch committed":  func(f *figures) { f.Order.Stale = 1 },
		"two under one epoch":     func(f *figures) { f.Order.Shared = 1 },
		"an epoch never wrote":    func(f *figures) { f.Order.Epochs = 1 },
		"no pipeline":             func(f *figures) { f.Pipeline = nil },
		"killed before it began":  func(f *figures) { f.Pipeline.Before, f.Pipeline.After = 0, 24 },
		"killed when it was over": func(f *figures) { f.Pipeline.Before, f.Pipeline.After = 24, 0 },
		"a year is missing":       func(f *figures) { f.Pipeline.Years-- },
		"a second run of the DAG": func(f *figures) { f.Pipeline.Runs++ },
		"a DAG's run failed":      func(f *figures) { f.Pipeline.Unfinished++ },
		"no dashboard":            func(f *figures) { f.Dashboard = "" },
		"a strike is missing":     func(f *figures) { f.Pipeline.Loaded.Strikes-- },
		"a tile too many":         func(f *figures) { f.Pipeline.Loaded.Rows++ },
		"it did not move":         func(f *figures) { f.Pipeline.To = "a" },
	} {
		f := sound()
		spoil(f)
		if f.wrong() == "" {
			t.Errorf("%s, and nothing is said", name)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := sound().write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fault to first task queued", "700 ms", "tasks run twice", "commits of an old epoch", "650 ms", "13, 11", "2 of 2", "30, 30", "http://127.0.0.1:8050/"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestRefusals(t *testing.T) {
	text := "x\nFATAL:  role \"df_airflow_scheduler_e2\" is not permitted to log in\nall is well\n" +
		"sqlalchemy: permission denied for table job\nterminating connection due to administrator command\n"
	got := refusals(text)
	if len(got) != 3 || !strings.Contains(got[0], "_e2") || !strings.Contains(got[1], "permission denied") {
		t.Errorf("refusals: %q", got)
	}
	if got := refusals("all is well\n"); len(got) != 0 {
		t.Errorf("refusals where there were none: %q", got)
	}
}

func TestProgress(t *testing.T) {
	var out strings.Builder
	logger := slog.New(progress{&stage{out: &out}})
	logger.Info("postgres ready", "port", 5432, "took", 1200*time.Millisecond)
	logger.Debug("nobody needs this")
	if want := "demo:   postgres ready after 1.2s\n"; out.String() != want {
		t.Errorf("shown %q, want %q", out.String(), want)
	}
}
