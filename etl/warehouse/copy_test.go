package warehouse

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/duoflow/duoflow/etl/aggregate"
)

// The bytes do not depend on how they are asked for.
func TestCopyReaderAtEveryPieceSize(t *testing.T) {
	f := aggregate.NewDay()
	random := rand.New(rand.NewPCG(1, 1))
	for i := range int64(500) {
		f.Append(10957+i*random.Int64N(40), random.Int64N(math.MaxInt64), random.Int64N(math.MaxInt32))
	}
	columns, err := columnsOf(f, date, bigint, integer)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(newCopyReader(columns))
	if err != nil || len(whole) != 19+500*(2+8+12+8)+2 {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	for size := 1; size < 100; size++ {
		var got bytes.Buffer
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{newCopyReader(columns)}, make([]byte, size)); err != nil || !bytes.Equal(got.Bytes(), whole) {
			t.Fatalf("%d at a time: other bytes, %v", size, err)
		}
	}
	if err := iotest.TestReader(newCopyReader(columns), whole); err != nil {
		t.Error(err)
	}
	empty, err := columnsOf(aggregate.NewDay(), date, bigint, integer)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(newCopyReader(empty)); err != nil || len(b) != 21 {
		t.Errorf("no rows: %d bytes, %v", len(b), err)
	}
}

func TestColumnsThatDoNotFit(t *testing.T) {
	good := func() aggregate.Frame {
		f := aggregate.NewDay()
		f.Append(17000, 5, 1)
		return f
	}
	for name, spoil := range map[string]func(f aggregate.Frame) []kind{
		"too big": func(f aggregate.Frame) []kind {
			f.Columns[2].Values[0] = math.MaxInt32 + 1
			return []kind{date, bigint, integer}
		},
		"too small": func(f aggregate.Frame) []kind {
			f.Columns[2].Values[0] = math.MinInt16 - 1
			return []kind{date, bigint, smallint}
		},
		"before 1970":   func(f aggregate.Frame) []kind { f.Columns[0].Values[0] = -1; return []kind{date, bigint, integer} },
		"no date":       func(aggregate.Frame) []kind { return []kind{integer, bigint, integer} },
		"too few kinds": func(aggregate.Frame) []kind { return []kind{date, bigint} },
		"unequal":       func(f aggregate.Frame) []kind { f.Columns[1].Values = nil; return []kind{date, bigint, integer} },
	} {
		f := good()
		if _, err := columnsOf(f, spoil(f)...); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A row costs no allocation.
func TestCopyReaderAllocatesNothingPerRow(t *testing.T) {
	f := aggregate.NewCell()
	for i := range int64(100_000) {
		f.Append(2018, 1+i%12, 300, -900, 1+i, 1)
	}
	columns, err := columnsOf(f, smallint, smallint, smallint, smallint, integer, integer)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 64<<10)
	if n := testing.AllocsPerRun(5, func() {
		r := newCopyReader(columns)
		for {
			if _, err := r.Read(p); errors.Is(err, io.EOF) {
				return
			}
		}
	}); n > 200 { // one for each piece, whose end a row does not fit
		t.Errorf("%v allocations for 100,000 rows", n)
	}
}
