package columnar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/parquet-go/parquet-go"

	"github.com/duoflow/duoflow/etl/tile"
)

// ErrSchema: the file is Parquet, but not of this package.
var ErrSchema = errors.New("not the canonical columns")

// Read hands the rows of a file to each, a row group at a time and in order; the table is valid until each returns. Errors
// of each come as they are. A file that was changed is an error as far as Parquet can tell; the checksum of the whole file
// is for the caller to compare.
func Read(ctx context.Context, path string, each func(*tile.Table) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read parquet: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := readFile(ctx, f, each); err != nil {
		return fmt.Errorf("read parquet %s: %w", path, err)
	}
	return nil
}

func readFile(ctx context.Context, f *os.File, each func(*tile.Table) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	if !parquet.EqualNodes(file.Schema(), schema()) {
		return fmt.Errorf("%w: %v", ErrSchema, file.Schema())
	}
	var t tile.Table
	var last tile.Row
	for i, group := range file.RowGroups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := readGroup(group, &t); err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		if err := ordered(&t, last, i > 0); err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		if t.Len() > 0 {
			last = t.Row(t.Len() - 1)
		}
		if err := each(&t); err != nil {
			return err
		}
	}
	return nil
}

// readGroup replaces the rows of t.
func readGroup(group parquet.RowGroup, t *tile.Table) (err error) {
	t.Truncate(0)
	columns := group.ColumnChunks()
	if t.Day, err = readColumn(columns[0], t.Day, math.MinInt32, math.MaxInt32); err != nil {
		return err
	}
	if t.Lat10, err = readColumn(columns[1], t.Lat10, math.MinInt16, math.MaxInt16); err != nil {
		return err
	}
	if t.Lon10, err = readColumn(columns[2], t.Lon10, math.MinInt16, math.MaxInt16); err != nil {
		return err
	}
	if t.Strikes, err = readColumn(columns[3], t.Strikes, math.MinInt32, math.MaxInt32); err != nil {
		return err
	}
	if n := int(group.NumRows()); len(t.Day) != n || len(t.Lat10) != n || len(t.Lon10) != n || len(t.Strikes) != n {
		return fmt.Errorf("columns of unequal length: %d, %d, %d, %d, should be %d", len(t.Day), len(t.Lat10), len(t.Lon10), len(t.Strikes), n)
	}
	return nil
}

// readColumn appends the values of a column; they have to lie in least..most.
func readColumn[T ~int16 | ~int32](chunk parquet.ColumnChunk, to []T, least, most int32) ([]T, error) {
	pages := chunk.Pages()
	defer func() { _ = pages.Close() }()
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return to, nil
		}
		if err != nil {
			return to, err
		}
		to, err = readPage(page.Values(), to, least, most)
		parquet.Release(page)
		if err != nil {
			return to, err
		}
	}
}

func readPage[T ~int16 | ~int32](values parquet.ValueReader, to []T, least, most int32) ([]T, error) {
	var batch [batchRows]parquet.Value
	for {
		n, err := values.ReadValues(batch[:])
		for i := range batch[:n] {
			v := batch[i].Int32()
			if v < least || v > most {
				return to, fmt.Errorf("value %d is out of range", v)
			}
			to = append(to, T(v))
		}
		if errors.Is(err, io.EOF) {
			return to, nil
		}
		if err != nil {
			return to, err
		}
	}
}
