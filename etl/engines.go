package etl

import (
	"fmt"
	"math"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
)

// What both engines were measured at (etl/spark/DESIGN.md, BenchmarkEngines): rows that one processor adds up in a second, what each
// chunk costs besides, and how long Spark takes to start and to warm up.
const (
	duckRate   = 11e6
	duckChunk  = 30 * time.Millisecond
	sparkRate  = 1.3e6
	sparkChunk = 400 * time.Millisecond
	sparkStart = 16 * time.Second

	// yearRows is a year of the network, for chunks of which nothing is known.
	yearRows = 3_200_000
)

// Engines says what adding up the chunks of a plan takes by each engine, estimated from what was measured on one machine. Others
// are faster or slower, which changes little in the comparison.
type Engines struct {
	Rows   int64         `json:"rows"`   // to add up; of a chunk that nobody has read yet, as many as a year or month of the network has
	DuckDB time.Duration `json:"duckdb"` // ns, on this machine
	Spark  time.Duration `json:"spark"`  // ns, on this machine, with its start
	// Processors of a cluster, more than which make Spark faster than DuckDB here; 0 = none do: Spark's start takes longer.
	Processors int    `json:"processors"`
	Advice     string `json:"advice"` // the same in words; "" = nothing is to do
}

// engines estimates for so many processors here.
func (p Plan) engines(threads int) Engines {
	var e Engines
	for _, c := range p.Chunks {
		if c.State != ChunkUnchanged && c.State != ChunkUnknown {
			e.Rows += p.known.rows(c)
		}
	}
	if p.Work == 0 || e.Rows == 0 {
		return e
	}
	seconds := func(rate float64) time.Duration {
		return time.Duration(float64(e.Rows) / rate / float64(threads) * float64(time.Second))
	}
	fixed := sparkStart + time.Duration(p.Work)*sparkChunk
	e.DuckDB, e.Spark = time.Duration(p.Work)*duckChunk+seconds(duckRate), fixed+seconds(sparkRate)
	if e.DuckDB > fixed {
		e.Processors = int(math.Ceil(float64(e.Rows) / sparkRate / (e.DuckDB - fixed).Seconds()))
	}
	e.Advice = e.words(threads)
	return e
}

func (e Engines) words(threads int) string {
	here := fmt.Sprintf("%d rows to add up: duckdb takes about %v on %d processors here, spark %v", e.Rows, tenth(e.DuckDB), threads, tenth(e.Spark))
	if e.Processors == 0 {
		return here + "; spark would not have started by then, on whatever cluster"
	}
	return fmt.Sprintf("%s; a cluster of more than %d processors makes spark worth it", here, e.Processors)
}

func tenth(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// rows are as many as are loaded of a chunk, or as ingest has read, or as the network has in such a time.
func (k known) rows(c Planned) int64 {
	if c.Rows > 0 {
		return c.Rows
	}
	if e := k.ledger[ledgerKey{c.Chunk, StepIngest}]; e.Rows > 0 {
		return e.Rows
	}
	return yearRows * int64(days(c.Chunk)) / 365
}

func days(c tile.Chunk) int { return int(c.Last()-c.First()) + 1 }
