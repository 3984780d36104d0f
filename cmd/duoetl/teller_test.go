package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/cmd/statusline"
	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
)

func TestProgressLine(t *testing.T) {
	at := func(step, chunk string, rows int64) etl.StepProgress {
		s := etl.StepProgress{Step: step, Rows: rows}
		if chunk != "" {
			s.Chunk = tile.Chunk(chunk)
		}
		return s
	}
	for want, p := range map[string]etl.Progress{
		"making the plan":        {},
		"0 of 12 chunks, 0 %":    {Chunks: 12},
		"12 of 12 chunks, 100 %": {Chunks: 12, Done: 3, Unchanged: 9},
		"load 2017, ingest 2018, copy 2019 (5 of 12 chunks, 41 %, 1 failed, 4.1 M rows read, about 25 s left)": {
			Chunks: 12, Done: 3, Failed: 1, Unchanged: 1, ETA: 25*time.Second + 100*time.Millisecond, Steps: []etl.StepProgress{
				at(etl.StepExtract, "", 0), at(etl.StepCopy, "2019", 0), at(etl.StepIngest, "2018", 4_100_000),
				at(etl.StepAggregate, "", 4_000_000), at(etl.StepLoad, "2017", 80_000), at(etl.StepPublish, "", 0),
			},
		},
	} {
		if got := progressLine(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestNumbers: chunks are counted while a run is on, and once more at its end.
func TestNumbers(t *testing.T) {
	text := func(numbers []statusline.Number) string { return fmt.Sprint(numbers) }
	if got, want := text(progressNumbers(etl.Progress{Chunks: 12, Done: 3, Failed: 1, Unchanged: 2})),
		"[{chunks_done 3} {chunks_unchanged 2} {chunks_failed 1} {chunks_left 6} {run_failed 0}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r := etl.Report{Chunks: make([]*etl.ChunkReport, 4), Done: 1, Failed: 1, Unchanged: 1}
	if got, want := text(endNumbers(r, errors.New("bad"))), "[{chunks_done 1} {chunks_unchanged 1} {chunks_failed 1} {chunks_left 1} {run_failed 1}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEndLine(t *testing.T) {
	done := &etl.ChunkReport{State: etl.ChunkDone, Rows: 2_050_000}
	for _, tt := range []struct {
		report etl.Report
		err    error
		want   string
	}{
		{etl.Report{Chunks: []*etl.ChunkReport{done, done}, Done: 2, Took: 8200 * time.Millisecond}, nil, "2 chunks done, 4.1 M rows, 8.2 s"},
		{etl.Report{Chunks: []*etl.ChunkReport{done, {State: etl.ChunkUnchanged, Rows: 9}}, Done: 1, Unchanged: 1, Took: time.Second, Synthetic: true}, nil,
			"1 chunk done, 1 up to date, 2.0 M rows, 1.0 s" + badge(true)},
		{etl.Report{Chunks: []*etl.ChunkReport{{State: etl.ChunkUnchanged}}, Unchanged: 1, Took: 120 * time.Millisecond}, nil,
			"nothing new, 1 chunk up to date, 120 ms"},
		{etl.Report{Chunks: []*etl.ChunkReport{done, {State: etl.ChunkFailed}}, Done: 1, Failed: 1, Took: time.Second}, errors.New("chunk 2019: bad"),
			"1 chunk done, 1 failed, 2.0 M rows, 1.0 s: chunk 2019: bad"},
		{etl.Report{}, errors.New("tables are missing"), "nothing done: tables are missing"},
	} {
		if got := endLine(tt.report, tt.err); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestTellKeepsTheFileUpToDate: each line comes as a whole, and the last one stays.
func TestTellKeepsTheFileUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	a := &app{env: func(name string) string { return map[string]string{statusVariable: path}[name] }}
	ended := a.tell(&etl.Meter{})
	if text, err := os.ReadFile(path); err != nil || string(text) != "making the plan\nchunks_done 0\nchunks_unchanged 0\nchunks_failed 0\nchunks_left 0\nrun_failed 0\n" {
		t.Errorf("at the start: %q, %v", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not written again")
		}
	}
	ended(etl.Report{}, errors.New("no tables"))
	if text, err := os.ReadFile(path); err != nil || string(text) != "nothing done: no tables\nchunks_done 0\nchunks_unchanged 0\nchunks_failed 0\nchunks_left 0\nrun_failed 1\n" {
		t.Errorf("at the end: %q, %v", text, err)
	}
	if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

// TestNobodyIsTold without the variable, nor when the file cannot be written; the run does not mind.
func TestNobodyIsTold(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", filepath.Join(dir, "none", "status")} {
		a := &app{env: func(string) string { return path }}
		a.tell(&etl.Meter{})(etl.Report{}, nil)
	}
	if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) > 0 {
		t.Errorf("%s, %v", strings.Join(left, " "), err)
	}
}

// TestDetailKeepsTheLastRun: while a run is on, what the one before it came to is still told.
func TestDetailKeepsTheLastRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	a := &app{env: func(name string) string { return map[string]string{statusVariable: path}[name] }}
	chunks := []*etl.ChunkReport{{Chunk: "2017", State: etl.ChunkDone, Rows: 7, Strikes: 70, Quarantined: 1}, {Chunk: "2018", State: etl.ChunkFailed, Error: "no"}}
	a.tell(&etl.Meter{})(etl.Report{Chunks: chunks, Took: time.Minute, Synthetic: true}, errors.New("1 chunk failed"))
	read := func() (d detail) {
		if err := json.Unmarshal(statusline.Detail(path), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	ended := read()
	want := []chunkDetail{{"2017", etl.ChunkDone, 7, 70, 1, ""}, {"2018", etl.ChunkFailed, 0, 0, 0, "no"}}
	if ended.Running != nil || ended.Last == nil || ended.Last.Error != "1 chunk failed" || !ended.Last.Synthetic || !slices.Equal(ended.Last.Chunks, want) {
		t.Fatalf("at the end: %+v", ended)
	}
	stop := a.tell(&etl.Meter{})
	if on := read(); on.Running == nil || on.Last == nil || !on.Last.Ended.Equal(ended.Last.Ended) {
		t.Errorf("while the next one is on: %+v", on)
	}
	stop(etl.Report{}, nil)
	if next := read(); next.Running != nil || len(next.Last.Chunks) != 0 || next.Last.Error != "" {
		t.Errorf("after the next one: %+v", next)
	}
}
