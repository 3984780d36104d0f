package aggregate_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/tile"
)

// oracle adds a table up in plain Go, by maps and with a floor that is written another way than in the SQL.
func oracle(t *tile.Table, cell int) aggregate.Result {
	type sums struct{ strikes, tiles int64 }
	days, months, cells := map[[4]int64]sums{}, map[[4]int64]sums{}, map[[4]int64]sums{}
	monthDays := map[[4]int64]map[tile.Day]bool{}
	for i := range t.Len() {
		r := t.Row(i)
		year, month, _ := r.Day.Date()
		add := func(m map[[4]int64]sums, key [4]int64) {
			s := m[key]
			m[key] = sums{s.strikes + int64(r.Strikes), s.tiles + 1}
		}
		ym := [4]int64{int64(year), int64(month)}
		add(days, [4]int64{int64(r.Day)})
		add(months, ym)
		add(cells, [4]int64{ym[0], ym[1], edge(int(r.Lat10), cell), edge(int(r.Lon10), cell)})
		if monthDays[ym] == nil {
			monthDays[ym] = map[tile.Day]bool{}
		}
		monthDays[ym][r.Day] = true
	}
	out := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell(), CellTenths: cell, Totals: t.Totals()}
	for _, k := range keys(days) {
		out.Day.Append(k[0], days[k].strikes, days[k].tiles)
	}
	for _, k := range keys(months) {
		out.Month.Append(k[0], k[1], int64(len(monthDays[k])), months[k].strikes, months[k].tiles)
	}
	for _, k := range keys(cells) {
		out.Cell.Append(k[0], k[1], k[2], k[3], cells[k].strikes, cells[k].tiles)
	}
	return out
}

// edge steps down to a multiple of cell.
func edge(x, cell int) int64 {
	for x%cell != 0 {
		x--
	}
	return int64(x)
}

func keys[V any](m map[[4]int64]V) [][4]int64 {
	var out [][4]int64
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b [4]int64) int { return slices.Compare(a[:], b[:]) })
	return out
}

// tiles makes n rows of the chunk, about four hundred days' worth a tile; sorted, each tile once a day. around is where.
func tiles(chunk tile.Chunk, n int, around tile.Row) *tile.Table {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	seen := map[tile.Row]bool{}
	var t tile.Table
	for t.Len() < n {
		r := tile.Row{
			Day:   chunk.First() + tile.Day(random.IntN(int(chunk.Last()-chunk.First())+1)),
			Lat10: around.Lat10 + int16(random.IntN(200)-100), Lon10: around.Lon10 + int16(random.IntN(200)-100),
		}
		if seen[r] {
			continue
		}
		seen[r] = true
		r.Strikes = int32(1 + random.IntN(9)*random.IntN(1+random.IntN(3000)))
		t.Append(r)
	}
	t.Sort()
	return &t
}

func parquetFile(t testing.TB, table *tile.Table) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "it's a tile.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := columnar.Write(f, table); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// shuffled is a file with the rows of a table in any order, in row groups of any size: not canonical, but the sums are.
func shuffled(t testing.TB, table *tile.Table, seed uint64) string {
	t.Helper()
	type row struct {
		Day     int32 `parquet:"day,date"`
		Lat10   int32 `parquet:"lat10,int(16)"`
		Lon10   int32 `parquet:"lon10,int(16)"`
		Strikes int32 `parquet:"strikes,int(32)"`
	}
	random := rand.New(rand.NewPCG(seed, 5))
	path := filepath.Join(t.TempDir(), "shuffled.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[row](f)
	for _, i := range random.Perm(table.Len()) {
		r := table.Row(i)
		if _, err := w.Write([]row{{int32(r.Day), int32(r.Lat10), int32(r.Lon10), r.Strikes}}); err != nil {
			t.Fatal(err)
		}
		if random.IntN(5000) == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
