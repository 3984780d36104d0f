package tile_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
)

func TestDaysAgreeWithTheStandardLibrary(t *testing.T) {
	for at := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC); at.Year() < 2105; at = at.AddDate(0, 0, 1) {
		d, ok := tile.DayOf(at.Year(), int(at.Month()), at.Day())
		if !ok || !d.Time().Equal(at) || d.String() != at.Format(time.DateOnly) {
			t.Fatalf("%v: got %v, %v", at, d, ok)
		}
		if y, m, dd := d.Date(); y != at.Year() || m != int(at.Month()) || dd != at.Day() {
			t.Fatalf("%v: date %d-%d-%d", at, y, m, dd)
		}
		if back, err := tile.ParseDay(d.String()); err != nil || back != d {
			t.Fatalf("%v: parsed as %v, %v", at, back, err)
		}
	}
}

func TestNoSuchDate(t *testing.T) {
	for _, bad := range [][3]int{{2018, 2, 29}, {1900, 2, 29}, {2018, 4, 31}, {2018, 13, 1}, {2018, 0, 1}, {2018, 1, 0}, {0, 1, 1}, {10000, 1, 1}} {
		if d, ok := tile.DayOf(bad[0], bad[1], bad[2]); ok {
			t.Errorf("%v is %v", bad, d)
		}
	}
	if _, ok := tile.DayOf(2000, 2, 29); !ok {
		t.Error("2000-02-29 existed")
	}
	for _, bad := range []string{"", "2018-8-29", "20180829", "2018-08-29 ", "2018-02-30"} {
		if d, err := tile.ParseDay(bad); err == nil {
			t.Errorf("%q is %v", bad, d)
		}
	}
}

func TestADayIsADateInJSON(t *testing.T) {
	d, _ := tile.DayOf(2018, 8, 29)
	text, err := json.Marshal(tile.Totals{First: d})
	if err != nil || string(text) != `{"rows":0,"strikes":0,"days":0,"first":"2018-08-29","last":"1970-01-01"}` {
		t.Fatal(string(text), err)
	}
	var back tile.Totals
	if err := json.Unmarshal(text, &back); err != nil || back.First != d {
		t.Fatal(back, err)
	}
	if err := json.Unmarshal([]byte(`{"first":"soon"}`), &back); err == nil {
		t.Error("a day called soon was read")
	}
}

func TestChunks(t *testing.T) {
	for _, c := range []struct {
		chunk       tile.Chunk
		first, last string
		year, month int
	}{
		{"2018", "2018-01-01", "2018-12-31", 2018, 0},
		{"2020-02", "2020-02-01", "2020-02-29", 2020, 2},
		{"2019-12", "2019-12-01", "2019-12-31", 2019, 12},
	} {
		if got, err := tile.ParseChunk(string(c.chunk)); err != nil || got != c.chunk {
			t.Errorf("%s: %v, %v", c.chunk, got, err)
		}
		if c.chunk.First().String() != c.first || c.chunk.Last().String() != c.last || c.chunk.Year() != c.year || c.chunk.Month() != c.month {
			t.Errorf("%s: %v..%v, %d, %d", c.chunk, c.chunk.First(), c.chunk.Last(), c.chunk.Year(), c.chunk.Month())
		}
		if !c.chunk.Contains(c.chunk.First()) || !c.chunk.Contains(c.chunk.Last()) || c.chunk.Contains(c.chunk.First()-1) || c.chunk.Contains(c.chunk.Last()+1) {
			t.Errorf("%s: its edges", c.chunk)
		}
	}
	for _, bad := range []string{"", "18", "2018-13", "2018-00", "2018-1", "2018/01", "20 8", "2018-1x", "1969", "3000", "2018-01-01", "-201", "+201"} {
		if c, err := tile.ParseChunk(bad); err == nil {
			t.Errorf("%q is chunk %v", bad, c)
		}
		if c := tile.Chunk(bad); c.Contains(0) || c.Contains(17000) {
			t.Errorf("%q contains a day", bad)
		}
	}
}

func TestChunksBetween(t *testing.T) {
	for _, c := range []struct {
		from, to tile.Chunk
		want     []tile.Chunk
	}{
		{"2018", "2018", []tile.Chunk{"2018"}},
		{"2018", "2020-02", []tile.Chunk{"2018", "2019", "2020-01", "2020-02"}},
		{"2018-11", "2020", []tile.Chunk{"2018-11", "2018-12", "2019", "2020"}},
		{"2019-11", "2020-02", []tile.Chunk{"2019-11", "2019-12", "2020-01", "2020-02"}},
		{"2018-01", "2018-12", []tile.Chunk{"2018"}},
		{"2019", "2018", nil},
		{"", "2018", nil},
		{"2018", "soon", nil},
	} {
		if got := tile.ChunksBetween(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("%s..%s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if n := len(tile.ChunksBetween("1987", "2020")); n != 34 {
		t.Errorf("1987..2020 has %d years", n)
	}
}

func random(n int, row func(*rand.Rand) tile.Row) *tile.Table {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var table tile.Table
	table.Grow(n)
	for range n {
		table.Append(row(r))
	}
	return &table
}

// year is as the data are: one year, the box of 2018, few strikes.
func year(r *rand.Rand) tile.Row {
	return tile.Row{Day: 17532 + tile.Day(r.IntN(365)), Lat10: int16(166 + r.IntN(352)), Lon10: int16(-1418 + r.IntN(987)), Strikes: int32(1 + r.IntN(2211))}
}

// far is whatever the columns hold.
func far(r *rand.Rand) tile.Row {
	return tile.Row{Day: tile.Day(r.Uint32()), Lat10: int16(r.Uint32()), Lon10: int16(r.Uint32()), Strikes: int32(r.Uint32())}
}

func near(r *rand.Rand) tile.Row { // nearly all equal
	return tile.Row{Day: tile.Day(r.IntN(2)), Lat10: 0, Lon10: int16(r.IntN(2)), Strikes: int32(r.IntN(3) - 1)}
}

func TestSortIsTheOrderOfCompare(t *testing.T) {
	for name, row := range map[string]func(*rand.Rand) tile.Row{"year": year, "far": far, "near": near} {
		for _, n := range []int{0, 1, 2, 3, 1000, 20000} {
			table := random(n, row)
			want := make([]tile.Row, n)
			for i := range want {
				want[i] = table.Row(i)
			}
			slices.SortFunc(want, tile.Compare)
			before := table.Totals()
			table.Sort()
			for i := range want {
				if table.Row(i) != want[i] {
					t.Fatalf("%s of %d: row %d is %v, want %v", name, n, i, table.Row(i), want[i])
				}
			}
			if !table.Sorted() || table.Totals() != before {
				t.Fatalf("%s of %d: sorted %v, totals %v, before %v", name, n, table.Sorted(), table.Totals(), before)
			}
		}
	}
}

func TestSortedSeesOneRowOutOfPlace(t *testing.T) {
	table := random(500, year)
	table.Sort()
	for i := 1; i < table.Len(); i++ {
		if table.Row(i) == table.Row(i-1) {
			continue
		}
		swap := func() {
			a, b := table.Row(i-1), table.Row(i)
			table.Day[i-1], table.Lat10[i-1], table.Lon10[i-1], table.Strikes[i-1] = b.Day, b.Lat10, b.Lon10, b.Strikes
			table.Day[i], table.Lat10[i], table.Lon10[i], table.Strikes[i] = a.Day, a.Lat10, a.Lon10, a.Strikes
		}
		if swap(); table.Sorted() {
			t.Fatalf("rows %d and %d stand the wrong way round", i-1, i)
		}
		swap()
	}
}

func TestTotals(t *testing.T) {
	var table tile.Table
	if got := table.Totals(); got != (tile.Totals{}) {
		t.Errorf("of nothing: %+v", got)
	}
	table.Append(tile.Row{Day: 9, Strikes: math.MaxInt32})
	table.Append(tile.Row{Day: 7, Strikes: math.MaxInt32})
	table.Append(tile.Row{Day: 9, Strikes: 1})
	if got, want := table.Totals(), (tile.Totals{Rows: 3, Strikes: 2*math.MaxInt32 + 1, Days: 2, First: 7, Last: 9}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	table.Truncate(1)
	if want := (&tile.Table{Day: []tile.Day{9}, Lat10: []int16{0}, Lon10: []int16{0}, Strikes: []int32{math.MaxInt32}}); !reflect.DeepEqual(&table, want) {
		t.Errorf("truncated: %+v", table)
	}
}

func BenchmarkSort(b *testing.B) {
	const n = 3_300_000 // a year
	from := random(n, year)
	var table tile.Table
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		table = tile.Table{Day: slices.Clone(from.Day), Lat10: slices.Clone(from.Lat10), Lon10: slices.Clone(from.Lon10), Strikes: slices.Clone(from.Strikes)}
		b.StartTimer()
		table.Sort()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
