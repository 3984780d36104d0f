package main

import (
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
)

func TestEnginesThatDifferAreAnError(t *testing.T) {
	runs := []etl.EngineRun{
		{Chunk: "2018", Engine: "duckdb v1.5.6", Input: etl.InputCanonical, Rows: 3, Hash: strings.Repeat("a", 64), Took: time.Second},
		{Chunk: "2018", Engine: "spark 4.1.4", Input: etl.InputShuffled, Partitions: 8, Rows: 3, Hash: strings.Repeat("a", 64), Took: 4 * time.Second},
	}
	var same, other strings.Builder
	writeEngineRuns(&same, runs)
	if err := differing(runs); err != nil || !strings.Contains(same.String(), "2 results, the same to the byte") || !strings.Contains(same.String(), strings.Repeat("a", 16)) {
		t.Errorf("%v\n%s", err, same.String())
	}
	runs[1].Difference = "by day: row 1"
	writeEngineRuns(&other, runs)
	if err := differing(runs); err == nil || etl.ExitCode(err) != etl.ExitFailed || !strings.Contains(other.String(), "by day: row 1") || strings.Contains(other.String(), "the same") {
		t.Errorf("%v\n%s", err, other.String())
	}
	duoetl(t, "diff-engines", "--partitions", "0").want(t, etl.ExitUsage, "0 is no number of partitions")
}
