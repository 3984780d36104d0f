package etl_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

const oneYear = `source: {kind: gcs, objects: "nldn-tiles-{chunk}.csv.gz", window: {from: 2018, to: 2018}}`

// year is a packed file of so many good rows, each of 3 strikes, and the given lines.
func year(t *testing.T, rows int, lines ...string) []byte {
	t.Helper()
	var text bytes.Buffer
	packed := gzip.NewWriter(&text)
	fmt.Fprint(packed, "#NLDN tiles\n#\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n")
	for i := range rows {
		fmt.Fprintf(packed, "201807%02d,-%d.%d,%d.5,3\n", 1+i%28, 80+i/280%20, i/28%10, 30+i/5600)
	}
	for _, line := range lines {
		fmt.Fprintln(packed, line)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

const file2018 = "nldn-tiles-2018.csv.gz"

func (w *world) strikes() int64 {
	return query[int64](w, "SELECT coalesce(sum(strikes), 0)::bigint FROM lightning_daily")
}

func TestGates(t *testing.T) {
	w := newWorld(t, nil)
	p := w.open(w.parse(oneYear, "quality: {max_bad_rows: 0.01}"))
	refused := func(name string, content []byte, kind error, code int) {
		t.Helper()
		w.put(file2018, content)
		before := w.strikes()
		report, err := p.Run(t.Context(), etl.Selection{})
		if !errors.Is(err, kind) || etl.ExitCode(err) != code {
			t.Errorf("%s: %v (code %d), want %v and code %d", name, err, etl.ExitCode(err), kind, code)
		}
		if report.Failed != 1 || w.strikes() != before {
			t.Errorf("%s: %+v; %d strikes were loaded, now %d", name, report, before, w.strikes())
		}
	}
	whole := year(t, 1000)
	refused("truncated", whole[:len(whole)/2], nldn.ErrDamaged, etl.ExitFailed)
	refused("header only", year(t, 0), nldn.ErrEmpty, etl.ExitQuality)
	refused("another year", year(t, 100, strings.Repeat("20170101,-80.0,30.0,1\n", 50)), nldn.ErrForeign, etl.ExitQuality)
	refused("bad rows", year(t, 100, "20180101,-80.05,30.0,1", "20180101,-80.1,30.0,0"), etl.ErrQuality, etl.ExitQuality)

	bad, err := p.Quarantine(t.Context(), "2018")
	if err != nil || len(bad) != 1 || len(bad[0].Bad) != 2 || bad[0].Bad[0].Line != 104 || bad[0].Bad[0].Rule != nldn.RuleGrid || bad[0].Bad[1].Rule != nldn.RuleRange {
		t.Errorf("quarantine: %+v, %v; want lines 104 (grid) and 105 (range)", bad, err)
	}

	w.put(file2018, year(t, 1000, "20180101,-80.05,30.0,1"))
	report, err := p.Run(t.Context(), etl.Selection{})
	if err != nil || report.Chunks[0].Rows != 1000 || report.Chunks[0].Quarantined != 1 || w.strikes() != 3000 {
		t.Fatalf("one bad row in a thousand: %+v, %v", report.Chunks, err)
	}
	if findings, err := p.Verify(t.Context()); err != nil || len(findings) != 0 {
		t.Errorf("verify: %v, %v", findings, err)
	}

	refused("shrunk by more than half", year(t, 499), warehouse.ErrShrunk, etl.ExitQuality)
	report, err = p.Run(t.Context(), etl.Selection{Accept: true})
	if err != nil || w.strikes() != 3*499 {
		t.Errorf("accepted: %+v, %v", report, err)
	}
}

// TestOneChunkFails: the others go on, and the next run does what is left.
func TestOneChunkFails(t *testing.T) {
	w := newWorld(t, nil)
	p := w.open(w.parse(`source: {kind: gcs, objects: "nldn-tiles-{chunk}.csv.gz", window: {from: 2017, to: 2018}}`, ""))
	whole := year(t, 0)
	w.put("nldn-tiles-2017.csv.gz", whole[:len(whole)-4])
	w.put(file2018, year(t, 100))
	report, err := p.Run(t.Context(), etl.Selection{})
	if etl.ExitCode(err) != etl.ExitPartial || report.Done != 1 || report.Failed != 1 || w.strikes() != 300 {
		t.Errorf("%+v, %v; want one chunk done, one failed, code %d", report, err, etl.ExitPartial)
	}
	status, err := etl.Look(t.Context(), w.parse(oneYear, ""), etl.Options{Env: func(name string) string { return w.env[name] }})
	if err != nil || len(status.Chunks) != 2 || status.Chunks[0].State != warehouse.Failed || status.Chunks[0].Error == "" || !status.Chunks[1].Loaded {
		t.Errorf("status beside the open run: %+v, %v", status, err)
	}
	w.put("nldn-tiles-2017.csv.gz", year(t, 100, ""))
	if _, err := p.Run(t.Context(), etl.Selection{Chunks: []tile.Chunk{"2017"}}); etl.ExitCode(err) == etl.ExitOK {
		t.Error("rows of 2018 were taken for 2017")
	}
}

// TestReplacedDuringTheCopy: the chunk is planned again, and what is loaded is the new object, whole.
func TestReplacedDuringTheCopy(t *testing.T) {
	w := newWorld(t, nil)
	p := w.open(w.parse(oneYear, ""))
	w.put(file2018, year(t, 100))
	hits := w.faults.Add(sandbox.Fault{Server: sandbox.GCS, Call: "read", Times: 1, Do: func() { w.put(file2018, year(t, 700)) }})
	report, err := p.Run(t.Context(), etl.Selection{})
	if err != nil || hits() != 1 || w.strikes() != 2100 {
		t.Errorf("%+v, %v, %d hits, %d strikes; want the 700 rows of the new object", report, err, hits(), w.strikes())
	}
	if report, err = p.Run(t.Context(), etl.Selection{}); err != nil || report.Unchanged != 1 {
		t.Errorf("again: %+v, %v; want nothing new", report, err)
	}
}

// TestSteps: a step wants those before it, and does no more than itself.
func TestSteps(t *testing.T) {
	w := newWorld(t, nil)
	p := w.open(w.parse(oneYear, ""))
	w.put(file2018, year(t, 100))
	if _, err := p.Run(t.Context(), etl.Selection{Only: etl.StepLoad}); !errors.Is(err, etl.ErrNotDone) {
		t.Errorf("load before all else: %v, want %v", err, etl.ErrNotDone)
	}
	for _, step := range etl.Steps() {
		if w.strikes() != 0 && step != etl.StepPublish {
			t.Errorf("loaded before step load: at %s", step)
		}
		if _, err := p.Run(t.Context(), etl.Selection{Only: step}); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	if report, err := p.Run(t.Context(), etl.Selection{}); err != nil || report.Unchanged != 1 || w.strikes() != 300 {
		t.Errorf("after all steps: %+v, %v, %d strikes; want nothing new", report, err, w.strikes())
	}
	if _, err := p.Reset(t.Context(), etl.Selection{Chunks: []tile.Chunk{"2018"}}); err != nil || w.strikes() != 0 {
		t.Errorf("reset: %v, %d strikes are left", err, w.strikes())
	}
	if report, err := p.Run(t.Context(), etl.Selection{}); err != nil || report.Done != 1 || w.strikes() != 300 {
		t.Errorf("after a reset: %+v, %v", report, err)
	}
	for _, c := range p.Doctor(t.Context()) {
		if !c.OK {
			t.Errorf("doctor: %s: %s", c.Name, c.Says)
		}
	}
}
