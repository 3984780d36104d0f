package aggregate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/duoflow/duoflow/etl/tile"
)

// ErrDiffers: sums that have to be equal are not, so the result is not to be used.
var ErrDiffers = errors.New("sums differ")

// Result is what a chunk adds up to.
type Result struct {
	Day        Frame       `json:"-"`      // as NewDay
	Month      Frame       `json:"-"`      // as NewMonth
	Cell       Frame       `json:"-"`      // as NewCell
	CellTenths int         `json:"cell"`   // edge of the cells in tenths of a degree
	Totals     tile.Totals `json:"totals"` // of the input
}

// frames are the three in the order in which they are written.
func (r Result) frames() []Frame { return []Frame{r.Day, r.Month, r.Cell} }

// WriteCSV writes the three frames one after the other, each as Frame.WriteCSV does.
func (r Result) WriteCSV(w io.Writer) error {
	for _, f := range r.frames() {
		if err := f.WriteCSV(w); err != nil {
			return err
		}
	}
	return nil
}

// Hash is the sha256 of what WriteCSV writes, in hex.
func (r Result) Hash() string {
	sum := sha256.New()
	_ = r.WriteCSV(sum) // a hash takes everything
	return hex.EncodeToString(sum.Sum(nil))
}

// Check compares the sums of each frame with those of the input, looks whether the rows are in a total order, and whether
// all days lie in the chunk. An error that is ErrDiffers names what differs.
func (r Result) Check(chunk tile.Chunk) error {
	names := [...]string{"day", "month", "cell"}
	for i, f := range r.frames() {
		if strikes, tiles := f.Sum(colStrikes), f.Sum(colTiles); strikes != r.Totals.Strikes || tiles != r.Totals.Rows {
			return fmt.Errorf("%w: by %s %d strikes and %d tiles, in the input %d and %d", ErrDiffers, names[i], strikes, tiles, r.Totals.Strikes, r.Totals.Rows)
		}
	}
	if days := r.Month.Sum(colDays); int64(r.Day.Len()) != days || r.Day.Len() != r.Totals.Days {
		return fmt.Errorf("%w: %d days, %d by month, %d in the input", ErrDiffers, r.Day.Len(), days, r.Totals.Days)
	}
	for _, d := range r.Day.Values(colDay) {
		if !chunk.Contains(tile.Day(d)) {
			return fmt.Errorf("%w: %s is not in chunk %s", ErrDiffers, tile.Day(d), chunk)
		}
	}
	for i, f := range r.frames() {
		if row, ok := f.ordered([...]int{1, 2, 4}[i]); !ok {
			return fmt.Errorf("%w: by %s row %d is not after the one before", ErrDiffers, names[i], row)
		}
	}
	return nil
}

// ordered tells whether the first columns ascend strictly, and if not, from which row.
func (f Frame) ordered(keys int) (row int, ok bool) {
	for row = 1; row < f.Len(); row++ {
		ascends := false
		for _, c := range f.Columns[:keys] {
			if c.Values[row] != c.Values[row-1] {
				ascends = c.Values[row] > c.Values[row-1]
				break
			}
		}
		if !ascends {
			return row, false
		}
	}
	return 0, true
}
