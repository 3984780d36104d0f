package etl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// Status is what the target database says about a pipeline.
type Status struct {
	Pipeline  string        `json:"pipeline"`
	SetUp     bool          `json:"set_up"`
	Synthetic bool          `json:"synthetic"` // something that is loaded is made up
	Chunks    []ChunkStatus `json:"chunks"`
	Rows      int64         `json:"rows"` // loaded, of all chunks
	Strikes   int64         `json:"strikes"`
}

// ChunkStatus is how far one chunk has come.
type ChunkStatus struct {
	Chunk     tile.Chunk      `json:"chunk"`
	Step      string          `json:"step"`  // the last one that was noted
	State     warehouse.State `json:"state"` // of that step
	Epoch     uint64          `json:"epoch"`
	Node      string          `json:"node"`
	Error     string          `json:"error,omitempty"`
	Updated   time.Time       `json:"updated"`
	Loaded    bool            `json:"loaded"`
	Rows      int64           `json:"rows"` // loaded
	Strikes   int64           `json:"strikes"`
	Synthetic bool            `json:"synthetic"`
}

const statusSQL = `SELECT coalesce(k.chunk, l.chunk), coalesce(l.step, ''), coalesce(l.state, ''), coalesce(l.epoch, 0), coalesce(l.node, ''), coalesce(l.error, ''),
  coalesce(l.updated, k.loaded), k.chunk IS NOT NULL, coalesce(k.rows, 0), coalesce(k.strikes, 0), coalesce(k.synthetic, false)
FROM %s.chunk k FULL JOIN (SELECT DISTINCT ON (chunk) * FROM duoflow.etl_chunk WHERE pipeline = $1 ORDER BY chunk, updated DESC) l ON l.chunk = k.chunk
ORDER BY 1`

// Look reads the status beside a run that may be on: it takes no lock, needs no epoch and writes nothing.
func Look(ctx context.Context, c Config, o Options) (Status, error) {
	out := Status{Pipeline: c.Pipeline, Chunks: []ChunkStatus{}}
	dsn, err := c.dsn(o.complete().Env)
	if err != nil {
		return out, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return out, fmt.Errorf("look at the warehouse: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET default_transaction_read_only = on"); err != nil {
		return out, fmt.Errorf("look at the warehouse: %w", err)
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(statusSQL, pgx.Identifier{c.Pipeline}.Sanitize()), c.Pipeline)
	if err == nil {
		out.Chunks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s ChunkStatus, err error) {
			err = row.Scan(&s.Chunk, &s.Step, &s.State, &s.Epoch, &s.Node, &s.Error, &s.Updated, &s.Loaded, &s.Rows, &s.Strikes, &s.Synthetic)
			return s, err
		})
	}
	var server *pgconn.PgError
	if errors.As(err, &server) && (server.Code == "42P01" || server.Code == "3F000") { // no such table, no such schema
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("look at the warehouse: %w", err)
	}
	out.SetUp = true
	for _, s := range out.Chunks {
		out.Rows, out.Strikes, out.Synthetic = out.Rows+s.Rows, out.Strikes+s.Strikes, out.Synthetic || s.Synthetic
	}
	return out, nil
}

func (c Config) dsn(env func(string) string) (string, error) {
	if c.Load.DSNEnv == "" {
		return "", nil
	}
	dsn := env(c.Load.DSNEnv)
	if dsn == "" {
		return "", &Problems{List: []string{"load.dsn_env: the environment has no " + c.Load.DSNEnv}}
	}
	return dsn, nil
}

// Verify compares what the tables hold, chunk by chunk, with what was loaded, and that with the canonical files in S3: of the named
// chunks, which have to be there, or of all that are.
func (p *Pipeline) Verify(ctx context.Context, only ...tile.Chunk) ([]warehouse.Finding, error) {
	findings, err := p.target.Verify(ctx, only...)
	if err != nil {
		return nil, err
	}
	k, err := p.known(ctx)
	if err != nil {
		return nil, err
	}
	for _, held := range k.held {
		if len(only) > 0 && !slices.Contains(only, held.Chunk) {
			continue
		}
		more, err := p.verifyFiles(ctx, held, k)
		if err != nil {
			return nil, err
		}
		findings = append(findings, more...)
	}
	slices.SortFunc(findings, func(a, b warehouse.Finding) int {
		return strings.Compare(string(a.Chunk)+a.What, string(b.Chunk)+b.What)
	})
	return findings, nil
}

// verifyFiles looks at the canonical files of a chunk.
func (p *Pipeline) verifyFiles(ctx context.Context, held warehouse.Held, k known) (findings []warehouse.Finding, err error) {
	ingest, ok := k.ledger[ledgerKey{held.Chunk, StepIngest}]
	if !ok {
		return nil, nil
	}
	say := func(format string, args ...any) {
		findings = append(findings, warehouse.Finding{Chunk: held.Chunk, What: fmt.Sprintf(format, args...)})
	}
	m, found, err := p.store.Find(ctx, StepIngest, held.Chunk, ingest.SourceHash)
	switch {
	case err != nil:
		return nil, err
	case !found:
		say("the canonical file of it is gone from S3")
		return findings, nil
	case m.Hash == held.SourceHash && (m.Rows != held.Rows || m.Strikes != held.Strikes):
		say("%d rows and %d strikes are loaded, the canonical file has %d and %d", held.Rows, held.Strikes, m.Rows, m.Strikes)
	}
	for _, o := range m.Objects {
		if there, err := p.store.Head(ctx, o.Key); err != nil {
			say("%v", err)
		} else if there.CRC32C != o.CRC32C || there.Size != o.Size {
			say("%s is not what the manifest says", o.Key)
		}
	}
	return findings, nil
}

// GC drops what interrupted runs have left: uploads to S3 that nobody has taken up for so long, of which it returns how many, and
// files in the folder for work.
func (p *Pipeline) GC(ctx context.Context, age time.Duration) (int, error) {
	p.sweep(age)
	return p.store.AbortStale(ctx, age)
}

// sweep removes what was last written so long ago from the folder for work. Whoever misses a file there fetches it again.
func (p *Pipeline) sweep(age time.Duration) {
	entries, err := os.ReadDir(p.config.Stages.Work)
	if err != nil {
		return // there is no folder yet
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > age {
			_ = os.Remove(filepath.Join(p.config.Stages.Work, e.Name())) // what cannot be removed is in nobody's way
		}
	}
}
