package warehouse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// Held is a chunk that the tables hold.
type Held struct {
	Chunk      tile.Chunk `json:"chunk"`
	SourceHash string     `json:"source_hash"` // "": another chunk has replaced a part
	Hash       string     `json:"hash"`        // aggregate.Result.Hash
	CellTenths int        `json:"cell"`
	Rows       int64      `json:"rows"` // tile-days
	Strikes    int64      `json:"strikes"`
	Synthetic  bool       `json:"synthetic"`
	Epoch      uint64     `json:"epoch"`
	Node       string     `json:"node"`
	Loaded     time.Time  `json:"loaded"`
}

// Held lists the chunks that the tables hold, in order.
func (w *Warehouse) Held(ctx context.Context) ([]Held, error) {
	var out []Held
	err := w.retry(ctx, &w.notes, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = w.held(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list loaded chunks: %w", err)
	}
	return out, nil
}

func (w *Warehouse) held(ctx context.Context, tx pgx.Tx) ([]Held, error) {
	rows, err := tx.Query(ctx, "SELECT chunk, source_hash, hash, cell10, rows, strikes, synthetic, epoch, node, loaded FROM "+w.table("chunk")+" ORDER BY first_day, chunk")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Held, err error) {
		err = row.Scan(&h.Chunk, &h.SourceHash, &h.Hash, &h.CellTenths, &h.Rows, &h.Strikes, &h.Synthetic, &h.Epoch, &h.Node, &h.Loaded)
		return h, err
	})
}

// Finding is a chunk whose rows are not those that were loaded.
type Finding struct {
	Chunk tile.Chunk `json:"chunk"`
	What  string     `json:"what"`
}

// Verify reads the rows of each chunk, or of the named ones, and compares them with the hash of the result it was loaded from. A named
// chunk that is not loaded is a finding.
func (w *Warehouse) Verify(ctx context.Context, only ...tile.Chunk) ([]Finding, error) {
	var out []Finding
	err := w.retry(ctx, &w.loads, func(ctx context.Context, tx pgx.Tx) error {
		out = nil
		missing := slices.Clone(only)
		// One picture of all tables, or a load beside would be a finding.
		if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return err
		}
		held, err := w.held(ctx, tx)
		if err != nil {
			return err
		}
		for _, h := range held {
			missing = slices.DeleteFunc(missing, func(c tile.Chunk) bool { return c == h.Chunk })
			if h.SourceHash == "" || (len(only) > 0 && !slices.Contains(only, h.Chunk)) {
				continue // a part of it is another chunk's, or nobody asks
			}
			r, err := w.contents(ctx, tx, h.Chunk)
			if err != nil {
				return err
			}
			if hash := r.Hash(); hash != h.Hash {
				out = append(out, Finding{h.Chunk, fmt.Sprintf("sha256 of the rows is %.12s, of those loaded %.12s", hash, h.Hash)})
			}
		}
		for _, c := range missing {
			out = append(out, Finding{c, "is not loaded"})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verify warehouse: %w", err)
	}
	return out, nil
}

// Contents reads a chunk back as the result that it was loaded from; only CellTenths and Totals stay empty.
func (w *Warehouse) Contents(ctx context.Context, chunk tile.Chunk) (aggregate.Result, error) {
	var r aggregate.Result
	err := w.retry(ctx, &w.loads, func(ctx context.Context, tx pgx.Tx) (err error) {
		r, err = w.contents(ctx, tx, chunk)
		return err
	})
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("read %s back: %w", chunk, err)
	}
	return r, nil
}

func (w *Warehouse) contents(ctx context.Context, tx pgx.Tx, chunk tile.Chunk) (aggregate.Result, error) {
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell()}
	for _, q := range []struct {
		frame      aggregate.Frame
		sql, where string
		order      string
	}{
		{r.Day, "SELECT day - DATE '1970-01-01', strikes, tiles FROM " + w.table("day"), whereDay, "day"},
		{r.Month, "SELECT year, month, days, strikes, tiles FROM " + w.table("month"), whereMonth, "year, month"},
		{r.Cell, "SELECT year, month, lat10, lon10, strikes, tiles FROM " + w.table("cell_month"), whereMonth, "year, month, lat10, lon10"},
	} {
		rows, err := tx.Query(ctx, q.sql+" WHERE "+q.where+" ORDER BY "+q.order, chunk.First().Time(), chunk.Last().Time())
		if err != nil {
			return r, err
		}
		if err := collect(rows, q.frame); err != nil {
			return r, err
		}
	}
	return r, nil
}

func collect(rows pgx.Rows, into aggregate.Frame) error {
	defer rows.Close()
	row := make([]int64, len(into.Columns))
	to := make([]any, len(row))
	for i := range row {
		to[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		into.Append(row...)
	}
	return rows.Err()
}

// Reset forgets a chunk: its rows, its place in the ledger, and those of chunks within it. "" is all of the pipeline.
func (w *Warehouse) Reset(ctx context.Context, chunk tile.Chunk) error {
	if chunk != "" {
		if _, err := tile.ParseChunk(string(chunk)); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	err := w.retry(ctx, &w.loads, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", int32(lockLoad), w.layout.Pipeline); err != nil {
			return err
		}
		if err := w.guard(ctx, tx); err != nil {
			return err
		}
		return w.reset(ctx, tx, chunk)
	})
	if err != nil {
		return fmt.Errorf("reset %s: %w", chunk, err)
	}
	return nil
}

func (w *Warehouse) reset(ctx context.Context, tx pgx.Tx, chunk tile.Chunk) error {
	first, last := chunk.First().Time(), chunk.Last().Time()
	type statement struct {
		text string
		args []any
	}
	statements := []statement{
		{"DELETE FROM " + w.table("day") + " WHERE " + whereDay, []any{first, last}},
		{"DELETE FROM " + w.table("month") + " WHERE " + whereMonth, []any{first, last}},
		{"DELETE FROM " + w.table("cell_month") + " WHERE " + whereMonth, []any{first, last}},
		{"DELETE FROM " + w.table("chunk") + " WHERE first_day >= $1 AND last_day <= $2", []any{first, last}},
		{"UPDATE " + w.table("chunk") + " SET source_hash = '' WHERE first_day <= $2 AND last_day >= $1", []any{first, last}},
		{"DELETE FROM duoflow.etl_chunk WHERE pipeline = $1 AND (chunk = $2 OR chunk LIKE $2 || '-%')", []any{w.layout.Pipeline, string(chunk)}},
	}
	if chunk == "" {
		statements = nil
		for _, name := range []string{"day", "month", "cell_month", "chunk"} {
			statements = append(statements, statement{"DELETE FROM " + w.table(name), nil})
		}
		statements = append(statements, statement{"DELETE FROM duoflow.etl_chunk WHERE pipeline = $1", []any{w.layout.Pipeline}})
	}
	for _, s := range append(statements, statement{"SELECT " + w.table("label") + "()", nil}) {
		if _, err := tx.Exec(ctx, s.text, s.args...); err != nil {
			return err
		}
	}
	return nil
}
