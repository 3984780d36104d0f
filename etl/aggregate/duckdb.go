package aggregate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/duoflow/duoflow/etl/tile"
)

const (
	defaultMemory = 512 << 20
	leastMemory   = 64 << 20 // below that DuckDB cannot hold a row group for each thread
	secondsPerDay = 86400
)

// duck makes a database in memory for each job. That costs milliseconds, and a job sees its own files only.
type duck struct {
	memory  int64
	threads int
}

func newDuck(c Config) (*duck, error) {
	d := &duck{memory: c.Memory, threads: c.Threads}
	if d.memory == 0 {
		d.memory = defaultMemory
	}
	if d.threads == 0 {
		d.threads = runtime.GOMAXPROCS(0)
	}
	if d.memory < leastMemory || d.threads < 0 {
		return nil, fmt.Errorf("open duckdb: memory of %d bytes must be at least %d, threads (%d) not negative", d.memory, leastMemory, d.threads)
	}
	return d, nil
}

// Version implements Engine.
func (d *duck) Version(ctx context.Context) (version string, err error) {
	err = d.with(ctx, Job{}, func(db *sql.Conn) error {
		return db.QueryRowContext(ctx, "SELECT 'duckdb ' || version()").Scan(&version)
	})
	return version, err
}

// Aggregate implements Engine.
func (d *duck) Aggregate(ctx context.Context, job Job) (Result, error) {
	texts, err := SQL(job.CellTenths)
	if err != nil {
		return Result{}, fmt.Errorf("aggregate %s: %w", job.Chunk, err)
	}
	if len(job.Inputs) == 0 {
		return Result{}, fmt.Errorf("aggregate %s: no input files", job.Chunk)
	}
	r := Result{Day: NewDay(), Month: NewMonth(), Cell: NewCell(), CellTenths: job.CellTenths}
	if r.CellTenths == 0 {
		r.CellTenths = DefaultCell
	}
	err = d.with(ctx, job, func(db *sql.Conn) error { return r.query(ctx, db, texts) })
	if err == nil {
		err = r.Check(job.Chunk)
	}
	if err != nil {
		return Result{}, fmt.Errorf("aggregate %s: %w", job.Chunk, err)
	}
	return r, nil
}

func (r *Result) query(ctx context.Context, db *sql.Conn, texts Texts) error {
	totals := newFrame(colTiles, colStrikes, colDays)
	for _, q := range []struct {
		text string
		into Frame
	}{{texts.Totals, totals}, {texts.Day, r.Day}, {texts.Month, r.Month}, {texts.Cell, r.Cell}} {
		if err := fill(ctx, db, q.text, q.into); err != nil {
			return err
		}
	}
	r.Totals = tile.Totals{Rows: totals.Sum(colTiles), Strikes: totals.Sum(colStrikes), Days: int(totals.Sum(colDays))}
	if days := r.Day.Values(colDay); len(days) > 0 {
		r.Totals.First, r.Totals.Last = tile.Day(days[0]), tile.Day(days[len(days)-1])
	}
	return nil
}

// with opens a database that holds the job's files as view "tiles" and can reach nothing else: no other file, no network,
// no extension.
func (d *duck) with(ctx context.Context, job Job, use func(*sql.Conn) error) error {
	connector, err := duckdb.NewConnector("", nil)
	if err != nil {
		return fmt.Errorf("open duckdb: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open duckdb: %w", err)
	}
	defer func() { _ = conn.Close() }()
	settings, err := d.settings(job)
	if err != nil {
		return err
	}
	for _, statement := range settings {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("set up duckdb: %w", err)
		}
	}
	return use(conn)
}

func (d *duck) settings(job Job) ([]string, error) {
	files := make([]string, len(job.Inputs))
	for i, name := range job.Inputs {
		absolute, err := filepath.Abs(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		files[i] = quote(absolute)
	}
	list := "[" + strings.Join(files, ", ") + "]"
	spill := "''"
	if job.Dir != "" {
		spill = quote(job.Dir)
	}
	out := []string{
		fmt.Sprintf("SET memory_limit = '%dB'", d.memory),
		fmt.Sprintf("SET threads = %d", d.threads),
		"SET temp_directory = " + spill,
		"SET preserve_insertion_order = false", // every query has an order of its own
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET allow_community_extensions = false",
	}
	if len(files) > 0 {
		out = append(out, "SET allowed_paths = "+list)
	}
	out = append(out, "SET enable_external_access = false", "SET lock_configuration = true")
	if len(files) > 0 {
		out = append(out, "CREATE TEMP VIEW tiles AS SELECT day, lat10, lon10, strikes FROM read_parquet("+list+")")
	}
	return out, nil
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// fill appends the rows of a query. It reads from the driver itself: Rows.Scan takes several times as long for each value.
func fill(ctx context.Context, db *sql.Conn, text string, into Frame) error {
	return db.Raw(func(raw any) error {
		conn, ok := raw.(driver.QueryerContext)
		if !ok {
			return errors.New("query duckdb: the driver takes no queries")
		}
		rows, err := conn.QueryContext(ctx, text, nil)
		if err != nil {
			return fmt.Errorf("query duckdb: %w", err)
		}
		defer func() { _ = rows.Close() }()
		return read(ctx, rows, into)
	})
}

// checkEvery is how many rows are taken between two looks at the context.
const checkEvery = 4096

func read(ctx context.Context, rows driver.Rows, into Frame) error {
	names := rows.Columns()
	for i, c := range into.Columns {
		if len(names) != len(into.Columns) || names[i] != c.Name {
			return fmt.Errorf("query duckdb: columns %v are not those of the frame", names)
		}
	}
	values := make([]driver.Value, len(names))
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("query duckdb: %w", err)
		}
		for i := range into.Columns {
			v, ok := number(values[i])
			if !ok {
				return fmt.Errorf("query duckdb: column %s: %T %v is neither an integer nor a date", names[i], values[i], values[i])
			}
			into.Columns[i].Values = append(into.Columns[i].Values, v)
		}
	}
}

func number(v driver.Value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	case time.Time: // DATE, midnight UTC
		return v.Unix() / secondsPerDay, true
	}
	return 0, false
}
