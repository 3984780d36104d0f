package columnar

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/duoflow/duoflow/etl/tile"
)

// Sizes of a file, fixed because they show in its bytes.
const (
	groupRows = 128 << 10 // rows of a row group: what an engine's thread takes at a time
	pageBytes = 128 << 10 // of a page before compression: 32 Ki rows
	batchRows = 1 << 10   // rows handed over at a time; a page is a whole number of them
)

// ErrUnsorted is for tables that Write does not take, and files that Read does not believe.
var ErrUnsorted = errors.New("rows are not in order of day, latitude and longitude, each once")

// wire is a row as the file has it. Deltas, because neighbours in a sorted file differ by little.
type wire struct {
	Day     int32 `parquet:"day,date,delta"`
	Lat10   int32 `parquet:"lat10,int(16),delta"`
	Lon10   int32 `parquet:"lon10,int(16),delta"`
	Strikes int32 `parquet:"strikes,int(32),delta"`
}

// schema is wire under a name that does not change when the type's does: it stands in the file.
func schema() *parquet.Schema { return parquet.NewSchema("lightning", parquet.SchemaOf(wire{})) }

// Write writes the table as a whole file. It does not close w.
func Write(w io.Writer, t *tile.Table) error {
	if err := ordered(t, tile.Row{}, false); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	return write(w, t, parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("day"), parquet.Ascending("lat10"), parquet.Ascending("lon10"))))
}

// WriteUnordered writes the table as it is: a file that engines can read and Read does not take. It is for comparing engines.
func WriteUnordered(w io.Writer, t *tile.Table) error { return write(w, t) }

func write(w io.Writer, t *tile.Table, more ...parquet.WriterOption) error {
	options := append([]parquet.WriterOption{schema(),
		parquet.Compression(&parquetzstd.Codec{Level: zstd.SpeedFastest, Concurrency: 1}),
		parquet.PageBufferSize(pageBytes),
		parquet.MaxRowsPerRowGroup(groupRows),
		parquet.DataPageStatistics(true),
		parquet.CreatedBy("duoflow", "1", "canonical"), // the default names the build of the program
	}, more...)
	out := parquet.NewGenericWriter[wire](w, options...)
	for from := 0; from < t.Len(); from += groupRows {
		if err := writeGroup(out, t, from, min(from+groupRows, t.Len())); err != nil {
			return fmt.Errorf("write parquet: %w", err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	return nil
}

// writeGroup writes rows [from, to) as one row group, column by column.
func writeGroup(out *parquet.GenericWriter[wire], t *tile.Table, from, to int) error {
	columns := out.ColumnWriters()
	if err := writeColumn(columns[0], t.Day[from:to]); err != nil {
		return err
	}
	if err := writeColumn(columns[1], t.Lat10[from:to]); err != nil {
		return err
	}
	if err := writeColumn(columns[2], t.Lon10[from:to]); err != nil {
		return err
	}
	if err := writeColumn(columns[3], t.Strikes[from:to]); err != nil {
		return err
	}
	return out.Flush()
}

func writeColumn[T ~int16 | ~int32](w *parquet.ColumnWriter, values []T) error {
	var batch [batchRows]parquet.Value
	for len(values) > 0 {
		n := min(len(values), batchRows)
		for i, v := range values[:n] {
			batch[i] = parquet.Int32Value(int32(v)) // without its column: a column that has no levels does not ask
		}
		if _, err := w.WriteRowValues(batch[:n]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// ordered checks that every row is greater than the one before; the first than before, if there is such a row.
func ordered(t *tile.Table, before tile.Row, follows bool) error {
	for i := range t.Len() {
		if i > 0 && t.Day[i] == t.Day[i-1] && t.Lat10[i] == t.Lat10[i-1] && t.Lon10[i] > t.Lon10[i-1] {
			continue // nearly always
		}
		row := t.Row(i)
		if i > 0 {
			before, follows = t.Row(i-1), true
		}
		before.Strikes = row.Strikes
		if follows && tile.Compare(before, row) >= 0 {
			return fmt.Errorf("%w: row %d is %v %d %d", ErrUnsorted, i, row.Day, row.Lat10, row.Lon10)
		}
	}
	return nil
}
