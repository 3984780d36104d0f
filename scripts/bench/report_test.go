package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// sample is a small benchmark with one run of every kind.
func sample() *Report {
	r := newReport()
	r.Postgres = 15
	r.Started = time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	r.Systems = []About{{Name: "duoflow", Version: "x", Settings: "y", Detection: time.Second}, {Name: "etcd"}, {Name: "<odd>"}}
	at := r.Started.Add(time.Minute)
	r.Runs = []Run{
		{Fault: "kill-host", System: "duoflow", Host: "a", At: at, Old: 1, New: 2, NewHost: "b", Gap: 0.04, After: 0.05, Silence: 0.06, Writers: 1, Rows: 9, Load: 2},
		{Fault: "kill-host", System: "etcd", Host: "a", At: at, Old: 1, New: 2, NewHost: "b", Gap: 1.1, After: 1.2, Silence: 1.3, Writers: 1, Load: 3},
		{Fault: "kill-host", System: "duoflow", Host: "b", At: at, Old: 2, New: 3, NewHost: "a", Gap: 0.08, After: 0.09, Silence: 0.1, Late: true, Writers: 1, Load: 5},
		{Fault: "freeze-host", System: "etcd", Host: "a", At: at, Old: 1, New: 2, NewHost: "b", Gap: 0.9, After: 1, Silence: 1, Stale: 700, Writers: 2, Load: 1},
		{Fault: "freeze-host", System: "<odd>", Host: "a", At: at, Old: 1, Silence: 12, Load: 1},
	}
	r.Void = []Void{{"kill-host", "etcd", "not settled"}, {"airflow", warm, "no disk"}}
	r.Sittings = []Sitting{{Started: r.Started, Commit: "abc123", Took: 60}}
	r.Airflow = AirflowPart{Versions: "Airflow 3.3.2", Cap: 330, Kills: []*Kill{
		{
			System: warm, World: at, At: at, From: "a", To: "b", Epoch: 2, JobRow: in(0.08), First: *in(0.3), Adopted: in(0.2), Again: in(0.3),
			Left: 2, Unsent: 2, Tasks: 6, Rows: 40, Load: 1,
		},
		{
			System: warm, World: at, At: at.Add(time.Minute), From: "b", To: "a", Epoch: 3, JobRow: in(0.1), First: *in(0.5), Adopted: in(0.4),
			Left: 1, Tasks: 8, Rows: 90, Load: 1,
		},
		{
			System: native, World: at, At: at, From: "b", First: *in(1), Adopted: in(270), Again: over(330),
			Left: 2, Unsent: 2, Tasks: 6, Never: 2, Look: 270, Load: 1,
		},
	}}
	return r
}

func in(seconds float64) *takeover.Span   { return &takeover.Span{Seconds: seconds} }
func over(seconds float64) *takeover.Span { return &takeover.Span{Seconds: seconds, Over: true} }

func TestCells(t *testing.T) {
	got := sample().cells()
	want := []Cell{
		{
			Fault: "kill-host", System: "duoflow", N: 2, Late: 1, Gap: Spread{0.04, 0.08, 0.08}, After: Spread{0.05, 0.09, 0.09},
			Silence: Spread{0.06, 0.1, 0.1}, LoadMin: 2, LoadMax: 5,
		},
		{
			Fault: "kill-host", System: "etcd", N: 1, Void: 1, Gap: Spread{1.1, 1.1, 1.1}, After: Spread{1.2, 1.2, 1.2},
			Silence: Spread{1.3, 1.3, 1.3}, LoadMin: 3, LoadMax: 3,
		},
		{
			Fault: "freeze-host", System: "etcd", N: 1, Gap: Spread{0.9, 0.9, 0.9}, After: Spread{1, 1, 1}, Silence: Spread{1, 1, 1},
			StaleRuns: 1, StaleMax: 700, Split: 1, LoadMin: 1, LoadMax: 1,
		},
		{Fault: "freeze-host", System: "<odd>", N: 1, None: 1, Silence: Spread{12, 12, 12}, Nobody: 1, LoadMin: 1, LoadMax: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("cells\n%+v, want\n%+v", got, want)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	sample().table(&out)
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{
		"fault system n none late gap p50 p99 max fault->new p50 p99 max silence max stale runs stale rows max 2 writers 0 writers void",
		"kill-host duoflow 2 0 1 40 ms 80 ms 80 ms 50 ms 90 ms 90 ms 100 ms 0 0 0 0 0",
		"kill-host etcd 1 0 0 1.10 s 1.10 s 1.10 s 1.20 s 1.20 s 1.20 s 1.30 s 0 0 0 0 1",
		"freeze-host etcd 1 0 0 900 ms 900 ms 900 ms 1.00 s 1.00 s 1.00 s 1.00 s 1 700 1 0 0",
		"freeze-host <odd> 1 1 0 - - - - - - 12.00 s 0 0 0 1 0",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d\n%s, want\n%s", i, got, want)
		}
	}
	if !strings.Contains(out.String(), "load average at the faults p50 1.0, max 5.0") {
		t.Errorf("the load is not told: %s", out.String())
	}
}

func TestReportRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	want := sample()
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readReports(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v, wrote\n%+v", got, want)
	}
	var first, second bytes.Buffer
	want.table(&first)
	got.table(&second)
	if first.String() != second.String() || plot(want) != plot(got) {
		t.Error("the table or the plot computed again from the file is another")
	}
}

// TestFromFile goes the whole way of a person who has only the file, and shows that the exit code can be 1.
func TestFromFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bench.json")
	good, bad, void := sample(), sample(), sample()
	bad.Runs[0].Stale = 1
	void.Void = append(void.Void, Void{"kill-job", "duoflow", "not settled"})
	for _, test := range []struct {
		report *Report
		code   int
		said   string
	}{{good, 0, ""}, {bad, 1, "a promise was broken: kill-host"}, {void, 3, "kill-job on duoflow: no valid run, 1 void"}} {
		if err := test.report.write(path); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"-from", path, "-plot", filepath.Join(dir, "bench.svg")}, &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.said) || !strings.Contains(stdout.String(), "kill-host") {
			t.Errorf("exit code %d, want %d: %s%s", code, test.code, stderr.String(), stdout.String())
		}
	}
}

func TestBrokenCanFail(t *testing.T) {
	if broken := sample().broken(); len(broken) != 0 {
		t.Errorf("a peer's stale rows and a peer without a writer are held against duoflow: %+v", broken)
	}
	for name, spoil := range map[string]func(*Run){
		"stale row":    func(r *Run) { r.Stale = 1 },
		"shared epoch": func(r *Run) { r.Shared = 1 },
		"two writers":  func(r *Run) { r.Writers = 2 },
		"no writer":    func(r *Run) { r.Writers = 0 },
	} {
		r := sample()
		spoil(&r.Runs[2])
		if len(r.broken()) != 1 {
			t.Errorf("%s: not seen", name)
		}
	}
	for name, spoil := range map[string]func(*Kill){
		"stale commit":     func(k *Kill) { k.Stale = 1 },
		"task ran twice":   func(k *Kill) { k.Twice = 1 },
		"task never ran":   func(k *Kill) { k.Never = 1 },
		"run failed":       func(k *Kill) { k.Failed = 1 },
		"nobody took over": func(k *Kill) { k.First.Over = true },
		"unsent for ever":  func(k *Kill) { k.Again = over(60) },
		"no account":       func(k *Kill) { k.Note = "timeout" },
		"never adopted":    func(k *Kill) { k.Adopted = over(60) },
	} {
		r := sample()
		spoil(r.Airflow.Kills[1])
		if len(r.broken()) != 1 {
			t.Errorf("Airflow, %s: not seen", name)
		}
		r = sample()
		spoil(r.Airflow.Kills[2])
		if len(r.broken()) != 0 {
			t.Errorf("Airflow, %s: native schedulers are judged", name)
		}
	}
	slow := sample()
	slow.Runs[0].Gap, slow.Runs[0].Silence = 100, 100
	if len(slow.broken()) != 0 {
		t.Error("time decides")
	}
}

func TestPlotIsDrawn(t *testing.T) {
	text := plot(sample())
	decoder := xml.NewDecoder(strings.NewReader(text))
	count := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, text)
		}
		if start, ok := token.(xml.StartElement); ok {
			count[start.Name.Local]++
		}
	}
	// Three dots and a ring of the stub part, seven dots and a ring of Airflow's; one cross; seven decades, a line between the
	// five bands, the medians of two cells and of Airflow's five.
	if count["circle"] != 12 || count["path"] != 1 || count["line"] != 7+4+2+5 {
		t.Errorf("drawn: %v\n%s", count, text)
	}
	if axis(0.01) >= axis(0.1) || axis(1e-9) != axis(shortest) || axis(1e9) != axis(longest) {
		t.Error("the axis is out of order")
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
	}{
		{"-o xml", 2}, {"-runs 0", 2}, {"-faults flood", 2}, {"-systems zookeeper", 2}, {"surplus", 2},
		{"-parts cloud", 2}, {"-kills 0", 2}, {"-resume", 2}, {"-resume -out x -from y", 2},
		{"-from /nowhere/bench.json", 3}, {"-resume -out /nowhere/bench.json", 3}, {"-help", 0},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr); code != test.code {
			t.Errorf("%s: exit code %d, want %d: %s", test.args, code, test.code, stderr.String())
		}
	}
	o, err := parse(strings.Fields("-faults kill-job,kill-host -systems etcd -runs 2"), io.Discard)
	if err != nil || len(o.faults) != 2 || o.faults[0].name != "kill-job" || len(o.systems) != 1 || o.runs != 2 {
		t.Errorf("parsed %+v, %v", o, err)
	}
}
