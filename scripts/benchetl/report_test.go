package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample() *Report {
	r := &Report{Years: goalYears, Rows: 90e6, Packed: 360e6, Versions: map[string]string{"duckdb": "duckdb 1"}}
	r.Runs = []Run{
		{Part: partCopy, Work: workStream, System: ours, Seconds: 2, Bytes: 300e6, Peak: 10 << 20, Load: 0.5},
		{Part: partIngest, Work: workSums, System: ours, Seconds: 30, Rows: 90e6, CPU: 45, Peak: 100 << 20, Load: 1},
		{Part: partIngest, Work: workSums, System: "pandas", Seconds: 10, Rows: 6e6, CPU: 10, Load: 1.5},
		{Part: partIngest, Work: workSums, System: ours, Seconds: 50, Rows: 90e6, CPU: 45, Peak: 300 << 20, Load: 2},
		{Part: partPipeline, Work: workWhole, System: ours, Seconds: 59, Rows: 90e6, CPU: 30, Peak: 1 << 30, Load: 2, Steps: map[string]float64{"ingest": 30}},
		{Part: partPipeline, Work: workWhole, System: ours, Seconds: 61, Rows: 90e6, CPU: 30, Peak: 1<<30 + 1, Load: 2},
		{Part: partLoad, Work: workHeap, System: ours, Seconds: 1, Rows: 2.5e6, CPU: 1, Load: 2},
	}
	return r
}

func TestCells(t *testing.T) {
	cells := sample().cells()
	var got []string
	for _, c := range cells {
		got = append(got, c.Part+" "+c.System)
	}
	if want := "pipeline duoetl, ingest duoetl, ingest pandas, load duoetl, copy duoetl"; strings.Join(got, ", ") != want {
		t.Fatalf("%v", got)
	}
	c := cells[1]
	if c.N != 2 || c.P50 != 40 || c.Max != 50 || c.Rate != 90e6/40 || c.PerCore != 2e6 || c.Peak != 300<<20 || c.Ratio != 1 {
		t.Errorf("%+v", c)
	}
	if ratio := cells[2].Ratio; math.Abs(ratio-3.75) > 1e-9 {
		t.Errorf("pandas: %v", ratio)
	}
	if whole := sample().scaled(cells[2]); whole != 150 {
		t.Errorf("pandas over all years: %v", whole)
	}
	if whole := sample().scaled(c); whole != 0 {
		t.Errorf("what did all years is not scaled: %v", whole)
	}
	if empty := (&Report{}).cell(partLoad, workHeap, ours); empty.N != 0 || empty.Rate != 0 {
		t.Errorf("%+v", empty)
	}
}

func TestGoals(t *testing.T) {
	held := map[string]bool{}
	r := sample()
	for _, g := range r.goals() {
		held[g.name] = g.held
	}
	want := map[string]bool{"whole pipeline": false, "its memory": false, "load into a heap": true, "copy in one stream": true}
	for name, yes := range want {
		if got, there := held[name]; !there || got != yes {
			t.Errorf("%s: %v, there %v, want %v", name, got, there, yes)
		}
	}
	if len(held) != len(want) {
		t.Errorf("%v", held)
	}
	r.Years = 2
	if n := len(r.goals()); n != 2 {
		t.Errorf("%d goals over two years, which say nothing of the whole pipeline", n)
	}
}

func TestPartsThatAreNotMeasuredAreKept(t *testing.T) {
	next := &Report{}
	next.keep(sample(), []string{partIngest, partCopy})
	if n := len(next.Runs); n != 3 || next.Versions["duckdb"] == "" {
		t.Errorf("%d runs, %v", n, next.Versions)
	}
}

func TestSumsThatDiffer(t *testing.T) {
	s := &stage{report: &Report{}}
	s.compare(map[string][]string{ours: {"day 1"}, "duckdb": {"day 1"}, "polars": {"day 2"}, "pandas": nil})
	if len(s.report.Broken) != 2 {
		t.Errorf("%q", s.report.Broken)
	}
}

func TestWhatAProcessSays(t *testing.T) {
	s := &stage{report: &Report{Versions: map[string]string{}}}
	run := Run{Part: partLoad, System: "psycopg COPY", Rows: 5}
	if err := s.believe(&run, []byte("noise\n{\"seconds\": 2.5, \"rows\": 5, \"version\": \"psycopg 3\"}\n")); err != nil || run.Seconds != 2.5 || s.report.Versions["psycopg COPY"] != "psycopg 3" || len(s.report.Broken) != 0 {
		t.Errorf("%v, %+v, %v", err, run, s.report)
	}
	if err := s.believe(&run, []byte(`{"seconds": 1, "rows": 4}`)); err != nil || len(s.report.Broken) != 1 {
		t.Errorf("fewer rows: %v, %q", err, s.report.Broken)
	}
	for _, wrong := range []string{"", "done", `{"seconds": 1}`, `{"rows": 1}`} {
		if s.believe(&run, []byte(wrong)) == nil {
			t.Errorf("%q is believed", wrong)
		}
	}
}

func TestCommentOfAPackedFile(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Comment = "made up"
	_, _ = w.Write([]byte("20180101,-83.1,21.1,3\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	plain := withoutComment(packed.Bytes())
	r, err := gzip.NewReader(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || r.Comment != "" || string(text) != "20180101,-83.1,21.1,3\n" {
		t.Errorf("%q, comment %q, %v", text, r.Comment, err)
	}
	if again := withoutComment(plain); !bytes.Equal(again, plain) {
		t.Error("a file without a comment is changed")
	}
}

func TestBlock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte("before\n"+blockBegin+"old\n"+blockEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sample().rewrite(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n" + blockBegin, blockEnd + "after\n", "| whole pipeline | at most 60 s | 61.0 s | no |", "6.0 M rows; all would take 150 s", "ingest 30.0", "150 MB/s", "load average before the runs 0.5 to 2.0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("the old block is still there")
	}
	if err := os.WriteFile(file, []byte("no marks\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if sample().rewrite(file) == nil {
		t.Error("a file without marks is written")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-years", "0"}, {"-years", "35"}, {"-runs", "0"}, {"-parts", "fast"}, {"-engine", "pandas"}, {"-o", "yaml"}, {"more"}} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// TestREADME: the README's figures are those of the committed report.
func TestREADME(t *testing.T) {
	report, err := readReport("results/benchetl.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	next, err := marked.Put(text, report.block())
	if err != nil || !bytes.Equal(next, text) {
		t.Errorf("README.md has other figures than results/benchetl.json; run bin/benchetl -from scripts/benchetl/results/benchetl.json -readme README.md: %v", err)
	}
	if len(report.Broken) > 0 {
		t.Errorf("results differ: %q", report.Broken)
	}
}

// TestSparkDesign: the figures in the design of package spark are those of the committed report.
func TestSparkDesign(t *testing.T) {
	report, err := readReport("results/benchetl-spark.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../etl/spark/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	next, err := markedSpark.Put(text, report.sparkBlock())
	if err != nil || !bytes.Equal(next, text) {
		t.Errorf("etl/spark/DESIGN.md has other figures than results/benchetl-spark.json; run bin/benchetl -from scripts/benchetl/results/benchetl-spark.json -readme etl/spark/DESIGN.md: %v", err)
	}
	if len(report.Broken) > 0 || report.Years != goalYears {
		t.Errorf("%d years, results differ: %q", report.Years, report.Broken)
	}
}

func TestBothEngines(t *testing.T) {
	r := &Report{Engine: kindSpark, Years: 2, Rows: 5e6, Versions: map[string]string{onSpark: "Spark 4"}}
	r.Runs = []Run{
		{Part: partPipeline, Work: workWhole, System: ours, Seconds: 10, Rows: 5e6, CPU: 12, Tree: 100 << 20, Steps: map[string]float64{"aggregate": 1}},
		{Part: partPipeline, Work: workWhole, System: onSpark, Seconds: 40, Rows: 5e6, CPU: 90, Tree: 900 << 20, Steps: map[string]float64{"aggregate": 30}},
		{Part: partPipeline, Work: workWhole, System: onSpark, Seconds: 60, Rows: 5e6, CPU: 110, Tree: 800 << 20, Steps: map[string]float64{"aggregate": 50}},
	}
	file := filepath.Join(t.TempDir(), "DESIGN.md")
	if err := os.WriteFile(file, []byte("before\n"+markedSpark.Begin+"old\n"+markedSpark.End+blockBegin+"DuckDB's\n"+blockEnd), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.rewrite(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| duoetl | 1 | 10.0 / 10.0 | 0.50 M rows/s | 12 | 100 MiB | 1.0 | 1.00 |\n", "| duoetl on Spark | 2 | 50.0 / 60.0 | 0.10 M rows/s | 100 | 900 MiB | 40.0 | 5.00 |\n",
		"Spark 4 as local[2]", blockBegin + "DuckDB's\n" + blockEnd,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	duck, both := (&options{engine: kindDuckDB}).engines(), (&options{engine: kindSpark}).engines()
	if len(duck) != 1 || duck[0].config() != "" || len(both) != 2 || !strings.Contains(both[1].config(), "kind: spark") {
		t.Errorf("%v, %v", duck, both)
	}
}

// TestResident counts a process that this one has started, and not this one.
func TestResident(t *testing.T) {
	own := resident(os.Getpid())
	w := &watch{pid: os.Getpid()}
	w.begin()
	if peak := w.end(); own < 1<<20 || peak < 1<<20 || resident(-1) != 0 {
		t.Errorf("%d and %d bytes, %d of nobody", own, peak, resident(-1))
	}
}
