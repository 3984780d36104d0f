package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCount: what tasks are at at the fault, and tries that are lost, each in its own way.
func TestCount(t *testing.T) {
	e := made()
	e.task(Task{longDAG, "asked-3", "long", -1}, 1, 4.1, outcomeDone)  // at work
	e.task(Task{longDAG, "asked-4", "long", -1}, 1, 3.95, outcomeDone) // over, Airflow not told
	e.task(Task{longDAG, "asked-5", "long", -1}, 1, 5.15, outcomeDone) // sent, not begun
	e.task(Task{longDAG, "asked-6", "long", -1}, 1, 5.15, outcomeDone) // not sent
	unsent := longDAG + "/asked-6/long#1"
	e.Bodies = slices.DeleteFunc(e.Bodies, func(b Body) bool { return b.Instance == unsent })
	e.Messages = slices.DeleteFunc(e.Messages, func(m Message) bool { return m.ID == "message of "+unsent })
	e.Notes = append(e.Notes, Note{Task: Task{longDAG, "asked-6", "long", -1}, At: at(5.5), Was: "queued", State: "scheduled", Before: unsent, ID: "new"})
	e.task(Task{longDAG, "asked-7", "long", -1}, 1, 7, outcomeFailed) // refused
	refused := longDAG + "/asked-7/long#1"
	e.Bodies = slices.DeleteFunc(e.Bodies, func(b Body) bool { return b.Instance == refused })
	e.task(Task{longDAG, "asked-8", "long", -1}, 1, 7, outcomeDone) // ran, and was not believed
	e.instance(longDAG + "/asked-8/long#1").Current = false

	never := Task{longDAG, "asked-9", "long", -1} // its message failed: there is no row of that try
	e.Notes = append(e.Notes, Note{Task: never, At: at(8), Was: "queued", State: "up_for_retry", Before: "never", ID: "never", Try: 1})

	counts := countAll(e)
	if len(counts) != 2 || counts[0].Fault != before || counts[1].Fault != "kill-host" {
		t.Fatalf("counted %+v", counts)
	}
	first, c := counts[0], counts[1]
	if first.Bodies != 6 || first.Trials != 0 {
		t.Errorf("before the first fault: %+v", first)
	}
	// The body of each[1] is at work too.
	if c.Trials != 1 || c.Moved != 1 || c.Unsent != 1 || c.Sent != 1 || c.Running != 2 || c.Finished != 1 {
		t.Errorf("at the fault: %+v", c)
	}
	if c.TakenBack != 1 || c.Refused != 1 || c.Bodiless != 2 || c.Unheard != 1 || c.Cut != 0 || c.Again != 0 {
		t.Errorf("what was lost: %+v", c)
	}
}

// TestRecheck writes a run down, tampers with the files, and judges them.
func TestRecheck(t *testing.T) {
	sound := writeRun(t)
	if code, errs := check(t, sound); code != 0 {
		t.Errorf("a sound run: exit code %d: %s", code, errs)
	}
	if code, errs := check(t, sound, sound); code != 0 {
		t.Errorf("two sound runs: exit code %d: %s", code, errs)
	}
	double := writeRun(t)
	tamper(t, double, journalName, func(text string) string { return text + strings.ReplaceAll(text, "body of", "another body of") })
	if code, errs := check(t, sound, double); code != 1 || !strings.Contains(errs, "ran twice") {
		t.Errorf("a journal with all bodies twice: exit code %d: %s", code, errs)
	}
	lost := writeRun(t)
	tamper(t, lost, runsName, func(text string) string { _, rest, _ := strings.Cut(text, "\n"); return rest })
	if code, errs := check(t, lost); code != 1 || !strings.Contains(errs, "is there 0 times") {
		t.Errorf("a run less: exit code %d: %s", code, errs)
	}
	for _, damage := range []func(string) string{
		func(text string) string { return text[:len(text)-5] },
		func(text string) string { _, rest, _ := strings.Cut(text, "\n"); return rest }, // an end without a beginning
		func(text string) string { return text + text },
	} {
		torn := writeRun(t)
		tamper(t, torn, journalName, damage)
		if code, errs := check(t, torn); code != 3 {
			t.Errorf("a damaged journal: exit code %d: %s", code, errs)
		}
	}
	if code, _ := check(t, t.TempDir()); code != 3 {
		t.Errorf("an empty folder: exit code %d", code)
	}
	if code, _ := check(t); code != 2 {
		t.Errorf("no folder: exit code %d", code)
	}
}

func check(t *testing.T, folders ...string) (code int, errs string) {
	t.Helper()
	var stderr bytes.Buffer
	code = run(t.Context(), append([]string{"check"}, folders...), io.Discard, &stderr)
	return code, stderr.String()
}

func tamper(t *testing.T, folder, name string, change func(string) string) {
	t.Helper()
	path := filepath.Join(folder, name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeRun writes the made-up run as a real one is kept.
func writeRun(t *testing.T) string {
	t.Helper()
	e, folder := made(), t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	for _, err := range []error{
		appendJSON(in(runName), e.Run), appendJSON(in(trialsName), e.Trials...), appendJSON(in(triggersName), e.Triggers...),
		appendJSON(in(runsName), e.Runs...), appendJSON(in(instancesName), e.Instances...), appendJSON(in(notesName), e.Notes...),
		appendJSON(in(messagesName), e.Messages...), appendJSON(in(commitsName), e.Commits...), writeJournal(in(journalName), e.Bodies),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// writeJournal writes lines as the bodies do.
func writeJournal(path string, bodies []Body) error {
	var lines []json.RawMessage
	for _, b := range bodies {
		for _, line := range []map[string]any{
			{
				"what": "begin", "body": b.ID, "dag": b.DAG, "run": b.Run, "task": b.Name, "map": b.Map, "try": b.Try, "instance": b.Instance,
				"date": b.Date, "pid": b.PID, "beside": b.Beside, "at": b.Begin, "wall": b.BeganAt.UnixNano(),
			},
			{"what": "end", "body": b.ID, "outcome": b.Outcome, "at": b.End, "wall": b.EndedAt.UnixNano()},
		} {
			text, err := json.Marshal(line)
			if err != nil {
				return err
			}
			lines = append(lines, text)
		}
	}
	return appendJSON(path, lines...)
}

func TestOptions(t *testing.T) {
	o := &options{}
	if _, err := o.program().Parse([]string{"-failovers", "3", "-only", "isolate,switchover"}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if some, err := o.chosen(); err != nil || len(some) != 2 || some[0].name != "isolate" || o.seed == 0 {
		t.Errorf("%+v gives %v, %v", o, some, err)
	}
	for _, bad := range []string{"-failovers=0", "-minutes=-1", "-only=sleep", "-o=xml", "more"} {
		if _, err := new(options).program().Parse([]string{bad}, &bytes.Buffer{}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestTable(t *testing.T) {
	r, err := newReport([]string{writeRun(t), writeRun(t)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 failovers in 2 faults", "4 runs triggered, 4 by schedule", "10 tasks, 12 bodies", "40 statements of 4 epochs", "0 violations"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if len(r.Counts) != 2 || r.Counts[1].Trials != 2 || !slices.Equal(r.Counts[1].First, []float64{0.8, 0.8}) {
		t.Errorf("counts of two runs: %+v", r.Counts)
	}
}

// TestHolds: what may go unnoticed is held for long enough in about half of the trials, and never for longer than it may be.
func TestHolds(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 1))
	for _, f := range faults {
		long := 0
		for range 1000 {
			held := f.hold(dice)
			if held < 0 || held > f.longest {
				t.Fatalf("%s is held for %s", f.name, held)
			}
			if held >= f.surely {
				long++
			}
		}
		if f.surely > 0 && f.surely < never && (long < 400 || long > 700) {
			t.Errorf("%s is surely noticed in %d of 1000", f.name, long)
		}
	}
}

// TestQueuedAfter: the next epoch's first task, what its elder still queued before, and a fault that nobody noticed at once.
func TestQueuedAfter(t *testing.T) {
	queued := func(seconds float64, login string) Note {
		return Note{State: "queued", At: at(seconds), Login: login}
	}
	notes := []Note{
		queued(4, "df_airflow_scheduler_e1"), queued(6, "df_airflow_scheduler_e1"), {State: "running", At: at(6.5), Login: "airflow_owner"},
		queued(9, "df_airflow_scheduler_e2"), queued(12, "df_airflow_scheduler_e2"),
	}
	e := &Evidence{Notes: notes, Trials: []Trial{{Fault: "metastore-restart", Epoch: 1, After: 1, At: at(5)}, {Fault: "kill-host", Epoch: 2, After: 2, At: at(11)}}}
	counts := countAll(e)
	late, unmoved := counts[1], counts[0]
	if late.Moved != 1 || !slices.Equal(late.First, []float64{4}) || !slices.Equal(late.Without, []float64{3}) {
		t.Errorf("moved later: %+v", late)
	}
	if unmoved.Moved != 0 || len(unmoved.First) != 0 || !slices.Equal(unmoved.Without, []float64{1}) {
		t.Errorf("did not move: %+v", unmoved)
	}
	if _, _, found := queuedAfter(notes, at(12), 2); found {
		t.Error("found a task after the last one")
	}
}
