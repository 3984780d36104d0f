package etl

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

func TestEnginesAreCompared(t *testing.T) {
	var years []Planned
	for year := 1987; year <= 2020; year++ {
		years = append(years, Planned{Chunk: tile.Chunk(fmt.Sprint(year)), State: ChunkNew})
	}
	for _, one := range []struct {
		name       string
		plan       Plan
		processors int
		says       string
	}{
		{"nothing to do", Plan{Chunks: []Planned{{Chunk: "2018", State: ChunkUnchanged, Rows: 5}}}, 0, ""},
		{"the network", Plan{Chunks: years, Work: len(years)}, 0, "spark would not have started by then"},
		{"a heap", Plan{Chunks: []Planned{{Chunk: "2018", State: ChunkStale, Rows: 2_000_000_000}}, Work: 1}, 21, "more than 21 processors"},
	} {
		e := one.plan.engines(2)
		if e.Processors != one.processors || !strings.Contains(e.Advice, one.says) || (one.says == "") != (e.Advice == "") {
			t.Errorf("%s: %+v", one.name, e)
		}
		if one.plan.Work > 0 && e.Spark < e.DuckDB+10*time.Second {
			t.Errorf("%s: on two processors spark takes %v, duckdb %v", one.name, e.Spark, e.DuckDB)
		}
	}
	k := known{ledger: map[ledgerKey]warehouse.Entry{{"2018", StepIngest}: {Rows: 77}}}
	for chunk, want := range map[tile.Chunk]int64{"2018": 77, "2017": 3_200_000, "2020-02": 254_246} {
		if got := k.rows(Planned{Chunk: chunk}); got != want {
			t.Errorf("%s: %d rows, want %d", chunk, got, want)
		}
	}
	if got := k.rows(Planned{Chunk: "2018", Rows: 5}); got != 5 {
		t.Errorf("loaded: %d rows", got)
	}
}
