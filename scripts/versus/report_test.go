package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

func sample() *report {
	at := time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	hit := func(name string, change func(*trial)) *trial {
		t := &trial{
			Case: name, Round: 1, At: at, Hit: true, Load: "1 1 1", Meanwhile: -1, Tasks: 30, Victim: "host b",
			Orphans: []task{{Began: at.Add(time.Second)}},
			Started: takeover.Took(time.Second), Left: takeover.Took(time.Second), Next: takeover.Took(time.Second),
			Before: takeover.Took(2 * time.Second), After: takeover.Took(2 * time.Second),
		}
		change(t)
		return t
	}
	r := &report{Started: at, Cap: 330, Cores: 2, Versions: "Airflow 3.3.2", Trials: []*trial{
		hit("native-freeze", func(t *trial) { t.Meanwhile = 0; t.Next = takeover.Took(15 * time.Second) }),
		hit("native-kill", func(t *trial) {
			t.Started, t.Orphans[0].Began, t.Never, t.Missed, t.Age = takeover.LongerThan(330*time.Second), time.Time{}, 1, 2, 60
		}),
		{Case: "native-restart", Round: 1, Missed: 6},
		hit("duoflow-kill", func(t *trial) { t.Started = takeover.Took(2 * time.Second) }),
		hit("duoflow-freeze", func(t *trial) { t.Meanwhile = 9 }),
	}}
	r.summarizeCases()
	return r
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := sample().text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"native-restart, round 1: missed 6 times, nothing measured"},
		{"so its next look for orphans came 240 s after the fault"},
		{"faults that hit (missed)", "1 (2)", "0 (6)", "1 (0)"},
		{"tasks the victim had queued", "1 (1)", "0 (0)", "1 (1)"},
		{"until all of them had begun", "> 330 s", "-", "2.00 s", "> 165 x"},
		{"tasks queued by others during the freeze", "0", "9"},
		{"until another scheduler queued a task", "15.0 s", "1.00 s", "15 x"}, // frozen
		{"until another scheduler queued a task", "1.00 s", "-", "1.00 s"},    // killed
		{"not run within the limit", "1", "0", "0"},
	} {
		if !hasLine(b.String(), want) {
			t.Errorf("no line with %q in\n%s", want, b.String())
		}
	}
}

// hasLine tells whether a line has all the texts, in their order.
func hasLine(text string, parts []string) bool {
	return slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		for _, part := range parts {
			_, after, found := strings.Cut(line, part)
			if !found {
				return false
			}
			line = after
		}
		return true
	})
}

// The work decides these, not the fault, so dividing them would say something that was not measured.
func TestNoRatioOfUndisturbedWork(t *testing.T) {
	var b bytes.Buffer
	if err := sample().text(&b); err != nil {
		t.Fatal(err)
	}
	for _, never := range [][]string{{"20 s before", " x"}, {"queued a task", "1.00 s", "-", " x"}} {
		if hasLine(b.String(), never) {
			t.Errorf("a line with %q in\n%s", never, b.String())
		}
	}
}

func TestTableOfOneSideAlone(t *testing.T) {
	r := sample()
	r.Trials = r.Trials[1:2]
	var b bytes.Buffer
	if err := r.text(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), " : duoflow") || !hasLine(b.String(), []string{"until all of them had begun", "> 330 s"}) {
		t.Errorf("a side alone is shown as\n%s", b.String())
	}
}

func TestBroken(t *testing.T) {
	r := sample()
	if got := r.broken(); got != "" {
		t.Errorf("broken %q: what native Airflow leaves undone is no failure of this program", got)
	}
	r.Trials[4].Twice = 1
	if got := r.broken(); !strings.Contains(got, "duoflow-freeze, round 1: 1 tasks ran twice") {
		t.Errorf("twice: broken %q", got)
	}
	r.Trials[4].Twice, r.Trials[3].Never = 0, 3
	if got := r.broken(); !strings.Contains(got, "duoflow-kill, round 1: 0 tasks ran twice, 3 never") {
		t.Errorf("never: broken %q", got)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(sample()); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Trials) != 5 || len(back.Cases) != 5 || back.Cases[1].Started.P50 != takeover.LongerThan(330*time.Second) {
		t.Errorf("came back as %+v", back)
	}
}

func TestParse(t *testing.T) {
	o := &options{}
	form, err := o.program().Parse([]string{"-runs", "3", "-only", "native-kill,duoflow-kill", "-o", "json", "-cap", "10m"}, io.Discard)
	if err != nil || o.runs != 3 || o.limit != 10*time.Minute || form != "json" || !o.wants("native-kill") || o.wants("native-freeze") {
		t.Errorf("parsed %+v: %v", o, err)
	}
	if got := len(o.of(duoflow)); got != 1 {
		t.Errorf("%d cases of duoflow are wanted, want 1", got)
	}
	for _, bad := range []string{"-o=xml", "-only=sleep", "-only=native-kill,", "-runs=0", "-cap=1s", "more", "-what"} {
		if _, err := new(options).program().Parse([]string{bad}, io.Discard); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	all := &options{}
	_, err = all.program().Parse(nil, io.Discard)
	if err != nil || len(all.of(pair))+len(all.of(restart))+len(all.of(duoflow)) != len(experiments) {
		t.Errorf("without arguments: %+v, %v; want every case", all, err)
	}
}

func TestHelp(t *testing.T) {
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, io.Discard, &errs); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, e := range experiments {
		if !strings.Contains(errs.String(), e.Name) {
			t.Errorf("help does not tell of %s", e.Name)
		}
	}
	if code := run(t.Context(), []string{"-o", "xml"}, io.Discard, io.Discard); code != 2 {
		t.Errorf("exit code %d of a wrong option, want 2", code)
	}
}
