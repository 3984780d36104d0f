package main

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

func TestAirflowTable(t *testing.T) {
	var out bytes.Buffer
	r := sample()
	r.Airflow.Kills[1].Stale = 3
	r.table(&out)
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"real Airflow kills job row p50 max adopted p50 max first task queued p50 max unsent tasks queued again p50 max tasks twice never stale commits",
		"duoflow, warm 2 0.10 s 0.10 s 0.40 s 0.40 s 0.50 s 0.50 s 2 0.30 s 0.30 s 14 0 0 3 of 90",
		"given up, duoflow, warm: no disk",
		"two native schedulers 1 - - 270 s 270 s 1.00 s 1.00 s 2 > 330 s > 330 s 6 0 2 -",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}

func TestLacking(t *testing.T) {
	r := sample()
	r.Plan = map[string]int{stubKey("kill-host", "duoflow"): 2, stubKey("kill-host", "etcd"): 3, airflowKey(warm): 2, airflowKey(cold): 1}
	want := []string{"airflow/duoflow, cold: 0 of 1 runs", "kill-host/etcd: 1 of 3 runs"}
	if got := r.lacking(); !slices.Equal(got, want) {
		t.Errorf("lacking %q, want %q", got, want)
	}
	r.Plan = nil
	r.Airflow.Kills[0].Rows, r.Airflow.Kills[2].Tasks = 0, 0
	if got := r.lacking(); len(got) != 2 {
		t.Errorf("kills in which nothing was seen: %q", got)
	}
}

func TestLeft(t *testing.T) {
	at := time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	after := func(seconds float64) time.Time { return at.Add(time.Duration(seconds * float64(time.Second))) }
	limit := 330 * time.Second
	for name, c := range map[string]struct {
		tasks                []takeover.Task
		adopted, again       *takeover.Span
		left, unsent, opened int
	}{
		"nothing": {nil, nil, nil, 0, 0, 0},
		"all went on": {[]takeover.Task{{Sent: true, Gone: after(2)}, {Gone: after(1), Again: after(3)}},
			in(2), in(3), 2, 1, 0},
		"one still waits": {[]takeover.Task{{Gone: after(270)}, {Gone: after(1), Again: after(3)}},
			in(270), over(330), 2, 2, 1},
		"one is still the dead one's": {[]takeover.Task{{Gone: after(1), Again: after(3)}, {Sent: true}},
			over(330), in(3), 2, 1, 1},
		"sent ones need not be queued again": {[]takeover.Task{{Sent: true, Gone: after(5)}}, in(5), nil, 1, 0, 0},
	} {
		k := &Kill{At: at}
		open := k.left(c.tasks, limit)
		same := func(a, b *takeover.Span) bool { return a == b || a != nil && b != nil && *a == *b }
		if open != c.opened || k.Left != c.left || k.Unsent != c.unsent || !same(k.Adopted, c.adopted) || !same(k.Again, c.again) {
			t.Errorf("%s: %d open, %d left, %d unsent, adopted %v, again %v", name, open, k.Left, k.Unsent, k.Adopted, k.Again)
		}
	}
}

// TestUntilPhase: five kills are spread over the interval in which the survivor looks for orphans once.
func TestUntilPhase(t *testing.T) {
	for _, c := range []struct {
		age    time.Duration
		number int
		want   time.Duration
	}{
		{20 * time.Second, 0, 10 * time.Second},
		{40 * time.Second, 0, 0}, // a little late, and not worth the next interval
		{20 * time.Second, 3, 190 * time.Second},
		{385 * time.Second, 1, 5 * time.Second}, // after a first kill that was waited for 330 s
		{20 * time.Second, 5, 10 * time.Second},
	} {
		if got := untilPhase(c.age, c.number); got != c.want {
			t.Errorf("kill %d at age %s waits %s, want %s", c.number, c.age, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	dir := t.TempDir()
	first, second := sample(), sample()
	first.Plan, second.Plan = map[string]int{"kill-host/duoflow": 2}, map[string]int{"kill-host/duoflow": 2, "airflow/duoflow, warm": 2}
	first.Airflow = AirflowPart{}
	second.Void = nil
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	for path, r := range map[string]*Report{a: first, b: second} {
		if err := r.write(path); err != nil {
			t.Fatal(err)
		}
	}
	whole := filepath.Join(dir, "whole.json")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-from", a + "," + b, "-out", whole}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	r, err := readReports(whole)
	if err != nil {
		t.Fatal(err)
	}
	if r.have("kill-host/duoflow") != 4 || r.Plan["kill-host/duoflow"] != 4 || r.have("airflow/duoflow, warm") != 2 ||
		len(r.Systems) != 3 || len(r.Sittings) != 2 || r.Airflow.Versions != "Airflow 3.3.2" {
		t.Errorf("put together: %+v", r)
	}
	second.CPUs++
	if err := first.merge(second); err == nil {
		t.Error("two machines are one")
	}
}

// TestResume: a benchmark that has all its runs has nothing to do, and one that lacks some knows which.
func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	r := sample()
	r.Plan = map[string]int{"kill-host/duoflow": 2}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-parts", "stub", "-faults", "kill-host", "-systems", "duoflow", "-runs", "2", "-resume", "-out", path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.report(t.Context(), io.Discard) // would need root and a minute if there were anything to do
	if err != nil || got.have("kill-host/duoflow") != 2 || len(got.Sittings) != 2 {
		t.Errorf("resumed %+v, %v", got, err)
	}
	o.runs = 5
	if got, err = o.begin(t.Context()); err != nil || got.Plan["kill-host/duoflow"] != 5 || len(got.lacking()) != 1 {
		t.Errorf("resumed with more runs: %+v, %v", got, err)
	}
	record := newRecord(got, o, io.Discard)
	if left := record.eta(); left != "about 13s left" {
		t.Errorf("3 runs of 4.5 s: %s", left)
	}
}

// TestEveryRunIsKept: what is measured is in the file at once, and what was there before is not lost.
func TestEveryRunIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := sample().write(path); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-out", path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := o.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord(fresh, o, io.Discard)
	if err := r.addRun(sample().Runs[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := readReports(path); err != nil || len(got.Runs) != 1 {
		t.Errorf("after a run the file holds %+v, %v", got, err)
	}
	if err := r.addKill(sample().Airflow.Kills[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := readReports(path); err != nil || len(got.Runs) != 1 || len(got.Airflow.Kills) != 1 {
		t.Errorf("after a kill the file holds %+v, %v", got, err)
	}
	if before, err := readReports(path + ".before"); err != nil || len(before.Runs) != 5 {
		t.Errorf("what was measured before: %+v, %v", before, err)
	}
}
