package synth

import (
	"context"
	"fmt"
	"io"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/klauspost/compress/gzip"
)

// File is a file of rows.
type File struct {
	Spec   Spec
	Format Format
	Month  int // 1..12; 0 is the whole year
}

// Name is how the file is called where it is published: nldn-tiles-2018.csv.gz, or 201805 for a month. BigQuery's exports
// are named by who exports; here lightning_2018.csv.gz.
func (f File) Name() string {
	month := ""
	if f.Month > 0 {
		month = fmt.Sprintf("%02d", f.Month)
	}
	if f.Format == NCEI {
		return fmt.Sprintf("nldn-tiles-%04d%s.csv.gz", f.Spec.Year, month)
	}
	return fmt.Sprintf("lightning_%04d%s.csv.gz", f.Spec.Year, month)
}

// level of packing: 4.1 bytes a row of NCEI's form, and still 6 million rows a second and core.
const level = 5

// Write writes the file, packed. A file of no rows has a header alone.
func (f File) Write(ctx context.Context, w io.Writer) (tile.Totals, error) {
	var totals tile.Totals
	encoder, err := NewEncoder(f.Format)
	if err != nil {
		return totals, err
	}
	year, err := NewYear(f.Spec)
	if err != nil {
		return totals, err
	}
	pack, err := NewPacker(w)
	if err != nil {
		return totals, err
	}
	buffer := append(make([]byte, 0, 1<<17), f.Format.Header()...)
	line := func(r tile.Row) error {
		if buffer = encoder.Append(buffer, r); len(buffer) < 1<<16 {
			return nil
		}
		_, err := pack.Write(buffer)
		buffer = buffer[:0]
		return err
	}
	for _, d := range year.Days() {
		if _, month, _ := d.Date(); f.Month != 0 && month != f.Month {
			continue
		}
		if err := ctx.Err(); err != nil {
			return totals, fmt.Errorf("write %s: %w", f.Name(), err)
		}
		got, err := year.Day(d, line)
		if err != nil {
			return totals, fmt.Errorf("write %s: %w", f.Name(), err)
		}
		sum(&totals, got)
	}
	if _, err := pack.Write(buffer); err != nil {
		return totals, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if err := pack.Close(); err != nil {
		return totals, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return totals, nil
}

// NewPacker packs with gzip, whose header says that the contents are synthetic.
func NewPacker(w io.Writer) (*gzip.Writer, error) {
	pack, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	pack.Comment = Marker // no name and no time: equal contents give equal bytes
	return pack, nil
}
