package etl_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"testing"

	"github.com/duoflow/duoflow/etl"
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
