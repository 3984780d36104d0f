package warehouse

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// Outcome says what Load did.
type Outcome struct {
	Unchanged bool          `json:"unchanged"` // the tables hold this very chunk already
	Replaced  bool          `json:"replaced"`  // rows of the chunk were there before
	Rows      int64         `json:"rows"`      // written, in all tables
	Took      time.Duration `json:"took"`
}

// Load replaces a chunk by a result and enters the step "load" into the ledger, in one guarded transaction. e gives chunk,
// source hash and what else the ledger is to say; e.SourceHash must not be empty, it decides whether there is anything to
// do. expect is what the parser counted.
//
// ErrMismatch: sums differ, in the result or in the tables afterwards. ErrShrunk: less than half of what is there, and
// e.Accept is not set. ErrFenced, ErrFull, ErrChanged, ErrCell: as they say. After any error the tables are as before.
func (w *Warehouse) Load(ctx context.Context, e Entry, r aggregate.Result, expect tile.Totals) (Outcome, error) {
	out, err := w.load(ctx, e, r, expect)
	if err != nil {
		return Outcome{}, fmt.Errorf("load %s: %w", e.Chunk, err)
	}
	return out, nil
}

func (w *Warehouse) load(ctx context.Context, e Entry, r aggregate.Result, expect tile.Totals) (Outcome, error) {
	if _, err := tile.ParseChunk(string(e.Chunk)); err != nil {
		return Outcome{}, err
	}
	if e.SourceHash == "" {
		return Outcome{}, errors.New("no source hash")
	}
	if err := r.Check(e.Chunk); err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if r.Totals != expect {
		return Outcome{}, fmt.Errorf("%w: the engine counts %+v, the parser %+v", ErrMismatch, r.Totals, expect)
	}
	l := &loading{w: w, entry: e, result: r, hash: r.Hash()}
	if err := l.stage(); err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	began := time.Now()
	l.began = began
	if err := w.retry(ctx, &w.loads, l.run); err != nil {
		return Outcome{}, err
	}
	l.out.Took = time.Since(began)
	return l.out, nil
}

// loading is one call of Load; run may be called several times.
type loading struct {
	w      *Warehouse
	entry  Entry
	result aggregate.Result
	hash   string
	tables []staged
	began  time.Time
	out    Outcome
}

// staged is one frame and the table it belongs into.
type staged struct {
	table   string
	columns []copyColumn
	flag    string // column of the table that says synthetic, if it has one
	where   string // the chunk's rows: $1, $2 are its first and last day
	strikes int64
	tiles   int64
}

// where finds the rows of a range of days that lies within one year, as every chunk does.
const (
	whereDay   = "day BETWEEN $1::date AND $2::date"
	whereMonth = "year = extract(year FROM $1::date)::smallint AND month BETWEEN extract(month FROM $1::date)::smallint AND extract(month FROM $2::date)::smallint"
)

func (l *loading) stage() error {
	r := l.result
	for _, s := range []struct {
		table, flag, where string
		frame              aggregate.Frame
		kinds              []kind
	}{
		{"day", ", synthetic", whereDay, r.Day, []kind{date, bigint, integer}},
		{"month", ", synthetic", whereMonth, r.Month, []kind{smallint, smallint, smallint, bigint, integer}},
		{"cell_month", "", whereMonth, r.Cell, cellKinds()},
	} {
		columns, err := columnsOf(s.frame, s.kinds...)
		if err != nil {
			return fmt.Errorf("by %s: %w", s.table, err)
		}
		l.tables = append(l.tables, staged{table: s.table, columns: columns, flag: s.flag, where: s.where,
			strikes: s.frame.Sum("strikes"), tiles: s.frame.Sum("tiles")})
	}
	return nil
}

// run does the copying before it takes the locks: a take of the fence has to wait for as little as possible.
func (l *loading) run(ctx context.Context, tx pgx.Tx) error {
	l.out = Outcome{}
	if err := l.w.guardPlain(ctx, tx); err != nil {
		return err
	}
	// Loads exclude one another, by hand or not: chunks may overlap (a year and one of its months).
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", int32(lockLoad), l.w.layout.Pipeline); err != nil {
		return err
	}
	same, err := l.compare(ctx, tx)
	if err != nil {
		return err
	}
	if !same {
		if err := l.copy(ctx, tx); err != nil {
			return err
		}
	}
	if err := l.w.guard(ctx, tx); err != nil {
		return err
	}
	if same {
		l.out.Unchanged = true
		return l.enter(ctx, tx)
	}
	return l.swap(ctx, tx)
}

// compare tells whether the chunk is there already, and refuses one that has shrunk or does not fit to what is there.
func (l *loading) compare(ctx context.Context, tx pgx.Tx) (same bool, err error) {
	held, err := l.totals(ctx, tx, l.tables[0])
	if err != nil {
		return false, err
	}
	l.out.Replaced = held.rows > 0
	var source, hash string
	err = tx.QueryRow(ctx, "SELECT source_hash, hash FROM "+l.w.table("chunk")+" WHERE chunk = $1 AND synthetic = $2 AND cell10 = $3",
		string(l.entry.Chunk), l.entry.Synthetic, int64(l.result.CellTenths)).Scan(&source, &hash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, err
	}
	if err == nil && source == l.entry.SourceHash && hash == l.hash {
		if same, err = l.intact(ctx, tx); same || err != nil {
			return same, err
		}
	}
	if err := l.fits(ctx, tx); err != nil {
		return false, err
	}
	if n := l.result.Totals; !l.entry.Accept && (2*n.Strikes < held.strikes || 2*n.Rows < held.tiles) {
		return false, fmt.Errorf("%w: %d strikes and %d tiles are loaded, this has %d and %d; accept it if that is right", ErrShrunk, held.strikes, held.tiles, n.Strikes, n.Rows)
	}
	return false, nil
}

// intact tells whether the tables hold what the chunk's row says: somebody may have emptied them.
func (l *loading) intact(ctx context.Context, tx pgx.Tx) (bool, error) {
	err := l.verify(ctx, tx)
	if errors.Is(err, ErrMismatch) {
		l.w.log.Warn("a loaded chunk is not as it was loaded; it is loaded again", "job", l.w.config.Job, "chunk", string(l.entry.Chunk), "err", err)
		return false, nil
	}
	return err == nil, err
}

// fits: cells of two sizes in one table would have no meaning.
func (l *loading) fits(ctx context.Context, tx pgx.Tx) error {
	var cell int
	err := tx.QueryRow(ctx, "SELECT coalesce(max(cell10), $2) FROM "+l.w.table("chunk")+" WHERE chunk <> $1 AND cell10 <> $2",
		string(l.entry.Chunk), int64(l.result.CellTenths)).Scan(&cell)
	if err == nil && cell != l.result.CellTenths {
		err = fmt.Errorf("%w: %d tenths of a degree, this chunk has %d; reset what is loaded first", ErrCell, cell, l.result.CellTenths)
	}
	return err
}

func (l *loading) copy(ctx context.Context, tx pgx.Tx) error {
	for _, s := range l.tables {
		if _, err := tx.Exec(ctx, "CREATE TEMP TABLE etl_"+s.table+" ("+declare(s.columns)+") ON COMMIT DROP"); err != nil {
			return err
		}
		reader := newCopyReader(s.columns)
		tag, err := tx.Conn().PgConn().CopyFrom(ctx, reader, "COPY pg_temp.etl_"+s.table+" FROM STDIN (FORMAT binary)")
		if err != nil {
			return err
		}
		if tag.RowsAffected() != int64(reader.rows) {
			return fmt.Errorf("%w: %d rows of %d were copied by %s", ErrMismatch, tag.RowsAffected(), reader.rows, s.table)
		}
		l.out.Rows += tag.RowsAffected()
	}
	return nil
}

// swap runs under the guard's lock.
func (l *loading) swap(ctx context.Context, tx pgx.Tx) error {
	first, last := l.entry.Chunk.First().Time(), l.entry.Chunk.Last().Time()
	for _, s := range l.tables {
		target := l.w.table(s.table)
		if _, err := tx.Exec(ctx, "DELETE FROM "+target+" WHERE "+s.where, first, last); err != nil {
			return err
		}
		names := ""
		for i, c := range s.columns {
			if i > 0 {
				names += ", "
			}
			names += pgx.Identifier{c.name}.Sanitize()
		}
		flag := ""
		if s.flag != "" {
			flag = ", " + strconv.FormatBool(l.entry.Synthetic)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO "+target+" ("+names+s.flag+") SELECT "+names+flag+" FROM pg_temp.etl_"+s.table); err != nil {
			return err
		}
	}
	if err := l.verify(ctx, tx); err != nil {
		return err
	}
	if err := l.enterChunk(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT "+l.w.table("label")+"()"); err != nil {
		return err
	}
	return l.enter(ctx, tx)
}

// sums are what a table holds of a chunk.
type sums struct{ rows, strikes, tiles int64 }

func (l *loading) totals(ctx context.Context, tx pgx.Tx, s staged) (sums, error) {
	var n sums
	err := tx.QueryRow(ctx, "SELECT count(*), coalesce(sum(strikes), 0)::bigint, coalesce(sum(tiles), 0)::bigint FROM "+l.w.table(s.table)+" WHERE "+s.where,
		l.entry.Chunk.First().Time(), l.entry.Chunk.Last().Time()).Scan(&n.rows, &n.strikes, &n.tiles)
	return n, err
}

// verify counts the tables themselves: what triggers and rules made of the rows is seen.
func (l *loading) verify(ctx context.Context, tx pgx.Tx) error {
	for _, s := range l.tables {
		want := sums{strikes: s.strikes, tiles: s.tiles, rows: int64(len(s.columns[0].values))}
		if got, err := l.totals(ctx, tx, s); err != nil {
			return err
		} else if got != want {
			return fmt.Errorf("%w: table %s holds %+v of %s, should be %+v", ErrMismatch, s.table, got, l.entry.Chunk, want)
		}
	}
	return nil
}

// enterChunk also takes out what the chunk has replaced: chunks within it, and the hash of one that it is a part of.
func (l *loading) enterChunk(ctx context.Context, tx pgx.Tx) error {
	table, chunk := l.w.table("chunk"), string(l.entry.Chunk)
	first, last := l.entry.Chunk.First().Time(), l.entry.Chunk.Last().Time()
	if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE first_day >= $1 AND last_day <= $2", first, last); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE "+table+" SET source_hash = '' WHERE first_day <= $2 AND last_day >= $1", first, last); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO "+table+" (chunk, first_day, last_day, source_hash, hash, cell10, rows, strikes, synthetic, epoch, node) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		chunk, first, last, l.entry.SourceHash, l.hash, int64(l.result.CellTenths), l.result.Totals.Rows, l.result.Totals.Strikes, l.entry.Synthetic,
		int64(l.w.config.Epoch), l.w.config.Node)
	return err
}

func (l *loading) enter(ctx context.Context, tx pgx.Tx) error {
	e := l.entry
	e.Step, e.State, e.Hash, e.Error = StepLoad, Done, l.hash, ""
	e.Rows, e.Strikes = l.result.Totals.Rows, l.result.Totals.Strikes
	e.Took = time.Since(l.began)
	return l.w.enter(ctx, tx, e)
}

// table is the full name of something in the pipeline's schema; the layout's names need no quotes.
func (w *Warehouse) table(name string) string { return w.layout.Pipeline + "." + name }
