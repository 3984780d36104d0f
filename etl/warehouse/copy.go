package warehouse

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/aggregate"
)

// kind is how a column goes over the wire.
type kind uint8

const (
	smallint kind = iota
	integer
	bigint
	date
)

func (k kind) width() int { return [...]int{2, 4, 8, 4}[k] }

func (k kind) String() string { return [...]string{"smallint", "integer", "bigint", "date"}[k] }

// pgEpoch is 2000-01-01, from which Postgres counts days.
const pgEpoch = 10957

func (k kind) holds(v int64) bool {
	switch k {
	case smallint:
		return v == int64(int16(v))
	case date:
		return v >= 0 && v < math.MaxInt32 // after 1970, as all our days are
	case integer:
		return v == int64(int32(v))
	default:
		return true
	}
}

// copyColumn is a column of a frame and its type in the staging table.
type copyColumn struct {
	name   string
	kind   kind
	values []int64
}

// columnsOf pairs a frame with types; a value that does not fit is an error, so that encoding cannot fail.
func columnsOf(f aggregate.Frame, kinds ...kind) ([]copyColumn, error) {
	if len(f.Columns) != len(kinds) {
		return nil, fmt.Errorf("a frame of %d columns, should be %d", len(f.Columns), len(kinds))
	}
	out := make([]copyColumn, len(kinds))
	for i, c := range f.Columns {
		if len(c.Values) != f.Len() || c.Date != (kinds[i] == date) {
			return nil, fmt.Errorf("column %s: of another length or type", c.Name)
		}
		for row, v := range c.Values {
			if !kinds[i].holds(v) {
				return nil, fmt.Errorf("column %s, row %d: %d does not fit into %s", c.Name, row, v, kinds[i])
			}
		}
		out[i] = copyColumn{name: c.Name, kind: kinds[i], values: c.Values}
	}
	return out, nil
}

// declare lists the columns for CREATE TABLE.
func declare(columns []copyColumn) string {
	var out []string
	for _, c := range columns {
		out = append(out, pgx.Identifier{c.name}.Sanitize()+" "+c.kind.String())
	}
	return strings.Join(out, ", ")
}

// The file that COPY (FORMAT binary) reads: Postgres manual, COPY, "Binary Format".
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // signature, no flags, no extension
	copyTrailer = "\xff\xff"
)

// CellCopy spells a frame of cells as Load sends it: in is what COPY (FORMAT binary) reads into a table of those columns. An
// error if a value does not fit.
func CellCopy(cells aggregate.Frame) (in io.Reader, columns string, err error) {
	all, err := columnsOf(cells, cellKinds()...)
	if err != nil {
		return nil, "", fmt.Errorf("copy cells: %w", err)
	}
	return newCopyReader(all), declare(all), nil
}

// cellKinds are the types of a cell's columns.
func cellKinds() []kind { return []kind{smallint, smallint, smallint, smallint, integer, integer} }

// copyReader spells columns as that file, a piece at a time, without an allocation for a row.
type copyReader struct {
	columns []copyColumn
	rows    int // in all
	size    int // bytes of a row
	next    int // row to write
	rest    []byte
	ended   bool
}

func newCopyReader(columns []copyColumn) *copyReader {
	r := &copyReader{columns: columns, size: 2, rest: []byte(copyHeader)}
	for _, c := range columns {
		r.rows, r.size = len(c.values), r.size+4+c.kind.width()
	}
	return r
}

// Read implements io.Reader.
func (r *copyReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case len(r.rest) > 0:
			moved := copy(p[n:], r.rest)
			n, r.rest = n+moved, r.rest[moved:]
		case r.next < r.rows && len(p)-n >= r.size:
			r.row(p[n : n+r.size])
			n += r.size
		case r.next < r.rows: // the last piece of p is shorter than a row
			r.rest = make([]byte, r.size)
			r.row(r.rest)
		case !r.ended:
			r.rest, r.ended = []byte(copyTrailer), true
		case n > 0:
			return n, nil
		default:
			return 0, io.EOF
		}
	}
	return n, nil
}

// row writes the next row into to, which is of its size.
func (r *copyReader) row(to []byte) {
	binary.BigEndian.PutUint16(to, uint16(len(r.columns)))
	to = to[2:]
	for i := range r.columns {
		c := &r.columns[i]
		v := c.values[r.next]
		switch c.kind {
		case smallint:
			binary.BigEndian.PutUint32(to, 2)
			binary.BigEndian.PutUint16(to[4:], uint16(v))
			to = to[6:]
		case bigint:
			binary.BigEndian.PutUint32(to, 8)
			binary.BigEndian.PutUint64(to[4:], uint64(v))
			to = to[12:]
		case date:
			v -= pgEpoch
			fallthrough
		default:
			binary.BigEndian.PutUint32(to, 4)
			binary.BigEndian.PutUint32(to[4:], uint32(v))
			to = to[8:]
		}
	}
	r.next++
}
