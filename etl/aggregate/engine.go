package aggregate

import (
	"context"
	"errors"
	"fmt"

	"github.com/duoflow/duoflow/etl/tile"
)

// Kinds of engine.
const (
	DuckDB = "duckdb" // in this process
	Spark  = "spark"  // package spark: the same SQL, on a Spark of any size
)

// ErrEngine: there is no such engine in this version.
var ErrEngine = errors.New("no such engine")

// Job is one chunk to add up.
type Job struct {
	Chunk      tile.Chunk
	Inputs     []string     // canonical Parquet files of this chunk, at least one; for Spark s3a:// URLs too
	CellTenths int          // edge of a cell in tenths of a degree; 0 = DefaultCell
	Dir        string       // for what does not fit into memory; "" = nothing may be written, such a job fails
	Note       func(string) // told in words how far an engine is that takes long; nil = nobody is
}

// Engine runs the queries. Its methods are safe for concurrent use.
type Engine interface {
	// Version names the engine and its version, such as "duckdb v1.5.6".
	Version(ctx context.Context) (string, error)
	// Aggregate adds the chunk up. The result has passed Check.
	Aggregate(ctx context.Context, job Job) (Result, error)
}

// Config says which engine and how much of the machine it may take.
type Config struct {
	Kind    string // DuckDB; "" = DuckDB
	Memory  int64  // bytes that the engine may take; 0 = 512 MiB, at least 64 MiB
	Threads int    // 0 = as many as the process has processors
}

// Open returns the engine in this process. It takes nothing before Aggregate is called.
func Open(c Config) (Engine, error) {
	switch c.Kind {
	case DuckDB, "":
		return newDuck(c)
	default:
		return nil, fmt.Errorf("%w: %q; there is duckdb here, and spark in package spark", ErrEngine, c.Kind)
	}
}
