package etl

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// EngineRun is one engine's result of a chunk.
type EngineRun struct {
	Chunk      tile.Chunk    `json:"chunk"`
	Engine     string        `json:"engine"`
	Input      string        `json:"input"`      // InputCanonical or InputShuffled
	Partitions int           `json:"partitions"` // of Spark; 0 = the engine has none
	Rows       int64         `json:"rows"`
	Hash       string        `json:"hash"`                 // of the canonical text, sha256
	Took       time.Duration `json:"took"`                 // ns; the first of Spark's with its start
	Difference string        `json:"difference,omitempty"` // from DuckDB's result of the canonical file, in words; "" = the same bytes
}

// The two inputs of EngineRun.
const (
	InputCanonical = "canonical" // the file that ingest has made
	InputShuffled  = "shuffled"  // its rows in another order
)

// DiffEngines adds chunks up that ingest is done with, by DuckDB and by Spark with the work cut into so many parts, from the
// canonical file and from one with its rows shuffled, and hands each result to each. It reads the ledger, and writes nothing but
// the shuffled file, which it removes from S3 again.
func (p *Pipeline) DiffEngines(ctx context.Context, s Selection, partitions []int, each func(EngineRun)) error {
	chunks, err := p.selected(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.config.Stages.Work, 0o700); err != nil {
		return fmt.Errorf("make folder for work: %w", err)
	}
	k, err := p.known(ctx)
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		e := k.ledger[ledgerKey{chunk, StepIngest}]
		m, found, err := p.store.Find(ctx, StepIngest, chunk, e.SourceHash)
		if err == nil && (e.State != warehouse.Done || !found) {
			err = fmt.Errorf("%w: %s of %s", ErrNotDone, StepIngest, chunk)
		}
		if err == nil {
			err = p.diff(ctx, chunk, m, diff{partitions, each})
		}
		if err != nil {
			return fmt.Errorf("chunk %s: %w", chunk, err)
		}
	}
	return nil
}

// diff is what DiffEngines was asked.
type diff struct {
	partitions []int
	each       func(EngineRun)
}

func (p *Pipeline) diff(ctx context.Context, chunk tile.Chunk, m objects.Manifest, d diff) error {
	tiles, ok := object(m, extTiles)
	if !ok {
		return fmt.Errorf("the manifest of %s names no tiles", StepIngest)
	}
	local := filepath.Join(p.config.Stages.Work, string(chunk)+"-diff"+extTiles)
	defer os.Remove(local)
	if err := p.store.Get(ctx, tiles, local); err != nil {
		return err
	}
	mixed := filepath.Join(p.config.Stages.Work, string(chunk)+"-shuffled"+extTiles)
	defer os.Remove(mixed)
	if err := shuffle(ctx, local, mixed); err != nil {
		return err
	}
	mixedKey := "diff-engines/" + string(chunk) + "/" + filepath.Base(m.Hash) + extTiles
	if _, err := p.store.PutFile(ctx, mixedKey, mixed); err != nil {
		return err
	}
	defer func() { _ = p.store.Delete(context.WithoutCancel(ctx), mixedKey) }() // what is left is found and used by the next
	duck, err := p.openDuck()
	if err != nil {
		return err
	}
	runs := []compared{{duck, EngineRun{Input: InputCanonical}, local}, {duck, EngineRun{Input: InputShuffled}, mixed}}
	for _, parts := range d.partitions {
		runs = append(runs,
			compared{p.spark.Partitioned(parts), EngineRun{Input: InputCanonical, Partitions: parts}, p.s3a(tiles.Key)},
			compared{p.spark.Partitioned(parts), EngineRun{Input: InputShuffled, Partitions: parts}, p.s3a(mixedKey)})
	}
	return p.compare(ctx, chunk, runs, d.each)
}

// compared is a result to be had.
type compared struct {
	engine aggregate.Engine
	run    EngineRun
	input  string
}

// compare takes the first result for the right one.
func (p *Pipeline) compare(ctx context.Context, chunk tile.Chunk, runs []compared, each func(EngineRun)) error {
	var first aggregate.Result
	for i, c := range runs {
		version, err := c.engine.Version(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		r, err := c.engine.Aggregate(ctx, aggregate.Job{Chunk: chunk, Inputs: []string{c.input}, CellTenths: p.config.Load.Cell, Dir: p.config.Stages.Work})
		if err != nil {
			return err
		}
		if i == 0 {
			first = r
		}
		out := c.run
		out.Chunk, out.Engine, out.Rows, out.Hash, out.Took = chunk, version, r.Totals.Rows, r.Hash(), time.Since(began)
		out.Difference = aggregate.Difference(first, r)
		each(out)
	}
	return nil
}

// shuffle writes a canonical file once more with its rows in another order, always the same.
func shuffle(ctx context.Context, from, to string) error {
	var table, mixed tile.Table
	err := columnar.Read(ctx, from, func(t *tile.Table) error {
		for i := range t.Len() {
			table.Append(t.Row(i))
		}
		return nil
	})
	if err != nil {
		return err
	}
	mixed.Grow(table.Len())
	for _, i := range rand.New(rand.NewPCG(1, uint64(table.Len()))).Perm(table.Len()) {
		mixed.Append(table.Row(i))
	}
	return writeFile(to, func(f io.Writer) error { return columnar.WriteUnordered(f, &mixed) })
}
