package tile

import "slices"

// The box of the network: no tile lies outside. 2018 reached longitude -141.8..-43.2 and latitude 16.6..51.7; the box
// leaves room for other years and none for a sign lost or the two swapped.
const (
	MinLat10 int16 = 100   // 10.0 N
	MaxLat10 int16 = 650   // 65.0 N
	MinLon10 int16 = -1600 // 160.0 W
	MaxLon10 int16 = -300  // 30.0 W
)

// MaxStrikes is more than any tile saw on a day: 2018's highest was 2211.
const MaxStrikes = 100_000

// Row is one tile on one day. Lat10 and Lon10 are the centre in tenths of a degree, north and east positive.
type Row struct {
	Day          Day
	Lat10, Lon10 int16
	Strikes      int32 // 1..MaxStrikes
}

// Table is rows by columns, all of equal length. The zero value is an empty table.
type Table struct {
	Day          []Day
	Lat10, Lon10 []int16
	Strikes      []int32
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.Day) }

// Row is row i, 0 <= i < Len.
func (t *Table) Row(i int) Row {
	return Row{Day: t.Day[i], Lat10: t.Lat10[i], Lon10: t.Lon10[i], Strikes: t.Strikes[i]}
}

// Append adds a row at the end.
func (t *Table) Append(r Row) {
	t.Day = append(t.Day, r.Day)
	t.Lat10 = append(t.Lat10, r.Lat10)
	t.Lon10 = append(t.Lon10, r.Lon10)
	t.Strikes = append(t.Strikes, r.Strikes)
}

// Grow makes room for n more rows.
func (t *Table) Grow(n int) {
	t.Day = slices.Grow(t.Day, n)
	t.Lat10 = slices.Grow(t.Lat10, n)
	t.Lon10 = slices.Grow(t.Lon10, n)
	t.Strikes = slices.Grow(t.Strikes, n)
}

// Truncate keeps the first n rows and the room of the others; n <= Len.
func (t *Table) Truncate(n int) {
	t.Day, t.Lat10, t.Lon10, t.Strikes = t.Day[:n], t.Lat10[:n], t.Lon10[:n], t.Strikes[:n]
}

// Totals are the sums of a table by which two copies of it are compared.
type Totals struct {
	Rows    int64 `json:"rows"`
	Strikes int64 `json:"strikes"`
	Days    int   `json:"days"`  // distinct
	First   Day   `json:"first"` // zero without rows, as Last
	Last    Day   `json:"last"`
}

// Totals adds the table up; it need not be sorted.
func (t *Table) Totals() Totals {
	if t.Len() == 0 {
		return Totals{}
	}
	sum := Totals{Rows: int64(t.Len()), First: slices.Min(t.Day), Last: slices.Max(t.Day)}
	for _, n := range t.Strikes {
		sum.Strikes += int64(n)
	}
	days := map[Day]struct{}{}
	for i, d := range t.Day {
		if i == 0 || d != t.Day[i-1] {
			days[d] = struct{}{}
		}
	}
	sum.Days = len(days)
	return sum
}
