package aggregate

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"github.com/duoflow/duoflow/etl/tile"
)

// Column is one column of a frame.
type Column struct {
	Name   string
	Date   bool // the values are days since 1970-01-01 (tile.Day) and are spelled as dates
	Values []int64
}

// Frame is the result of one query: columns of equal length, in the query's order of columns and of rows. The zero value
// has neither.
type Frame struct {
	Columns []Column
}

// The columns of the three frames, in order.
const (
	colDay     = "day"
	colYear    = "year"
	colMonth   = "month"
	colDays    = "days"
	colLat10   = "lat10" // lower edge of the cell, tenths of a degree
	colLon10   = "lon10"
	colStrikes = "strikes"
	colTiles   = "tiles" // tile-days: rows of the input
)

// NewDay is an empty frame of days: day, strikes, tiles.
func NewDay() Frame {
	f := newFrame(colDay, colStrikes, colTiles)
	f.Columns[0].Date = true
	return f
}

// NewMonth is an empty frame of months: year, month, days (that have rows), strikes, tiles.
func NewMonth() Frame { return newFrame(colYear, colMonth, colDays, colStrikes, colTiles) }

// NewCell is an empty frame of cells: year, month, lat10, lon10 (the cell's lower edges), strikes, tiles.
func NewCell() Frame { return newFrame(colYear, colMonth, colLat10, colLon10, colStrikes, colTiles) }

func newFrame(names ...string) Frame {
	f := Frame{Columns: make([]Column, len(names))}
	for i, name := range names {
		f.Columns[i].Name = name
	}
	return f
}

// Len is the number of rows.
func (f Frame) Len() int {
	if len(f.Columns) == 0 {
		return 0
	}
	return len(f.Columns[0].Values)
}

// Values are those of the named column, nil if there is none. They are the frame's own.
func (f Frame) Values(name string) []int64 {
	for _, c := range f.Columns {
		if c.Name == name {
			return c.Values
		}
	}
	return nil
}

// Append adds a row; one value for each column.
func (f Frame) Append(row ...int64) {
	for i := range f.Columns {
		f.Columns[i].Values = append(f.Columns[i].Values, row[i])
	}
}

// Sum adds up the named column.
func (f Frame) Sum(name string) (sum int64) {
	for _, v := range f.Values(name) {
		sum += v
	}
	return sum
}

// WriteCSV writes the canonical text of the frame: a line of names, then the rows, commas between the values, LF after each
// line, no quotes; integers in decimal, days as 2018-08-29. It is the only spelling of results that is ever compared.
func (f Frame) WriteCSV(w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for i, c := range f.Columns {
		line = append(comma(line, i), c.Name...)
	}
	for row := -1; row < f.Len(); row++ {
		if row >= 0 {
			line = f.appendRow(line[:0], row)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write csv: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

func (f Frame) appendRow(line []byte, row int) []byte {
	for i, c := range f.Columns {
		line = comma(line, i)
		if c.Date {
			line = append(line, tile.Day(c.Values[row]).String()...)
			continue
		}
		line = strconv.AppendInt(line, c.Values[row], 10)
	}
	return line
}

func comma(line []byte, column int) []byte {
	if column > 0 {
		line = append(line, ',')
	}
	return line
}

// Hash is the sha256 of what WriteCSV writes, in hex.
func (f Frame) Hash() string {
	sum := sha256.New()
	_ = f.WriteCSV(sum) // a hash takes everything
	return hex.EncodeToString(sum.Sum(nil))
}
