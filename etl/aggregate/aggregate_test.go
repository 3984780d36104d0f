package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

func open(t testing.TB, c aggregate.Config) aggregate.Engine {
	t.Helper()
	e, err := aggregate.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func run(t testing.TB, c aggregate.Config, job aggregate.Job) aggregate.Result {
	t.Helper()
	r, err := open(t, c).Aggregate(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var usa = tile.Row{Lat10: 390, Lon10: -950}

func TestAgreesWithPlainGo(t *testing.T) {
	for _, around := range []tile.Row{usa, {}, {Lat10: -500, Lon10: 1200}} { // west, across both zeros, south-east
		table := tiles("2016", 30_000, around)
		file := parquetFile(t, table)
		for _, cell := range []int{1, 2, 5, 7, 10, 900} {
			got := run(t, aggregate.Config{}, aggregate.Job{Chunk: "2016", Inputs: []string{file}, CellTenths: cell})
			if want := oracle(table, cell); !reflect.DeepEqual(got, want) {
				t.Errorf("around %v, cells of %d: got %s, want %s", around, cell, got.Hash(), want.Hash())
			}
		}
	}
}

// Every value around zero and at the borders of 16 bits, so that no engine rounds toward zero unseen.
func TestFloorsOfNegativesAreFloors(t *testing.T) {
	var table tile.Table
	for x := int16(-31); x <= 31; x++ {
		table.Append(tile.Row{Day: tile.Chunk("2018-08").First(), Lat10: x, Lon10: -x, Strikes: 1})
	}
	for _, x := range []int16{math.MinInt16, math.MinInt16 + 1, math.MaxInt16} {
		table.Append(tile.Row{Day: tile.Chunk("2018-08").First(), Lat10: x, Lon10: x, Strikes: math.MaxInt32})
	}
	table.Sort()
	file := parquetFile(t, &table)
	for _, cell := range []int{1, 3, 5, 6, 10, 31, 32} {
		got := run(t, aggregate.Config{}, aggregate.Job{Chunk: "2018-08", Inputs: []string{file}, CellTenths: cell})
		if want := oracle(&table, cell); !reflect.DeepEqual(got, want) {
			t.Errorf("cells of %d: %v, want %v", cell, got.Cell, want.Cell)
		}
		for _, name := range []string{"lat10", "lon10"} {
			for _, v := range got.Cell.Values(name) {
				if v%int64(cell) != 0 {
					t.Errorf("cells of %d: an edge at %d", cell, v)
				}
			}
		}
	}
}

// The spelling and the sums are the same whatever the threads, the memory and the order of the rows. If the hash changes,
// results of other versions no longer compare: say so in the changelog.
func TestSameBytesWithAnyThreadsAndOrder(t *testing.T) {
	const want = "9ebacf1089c898e777cd2a5545bfca0d0a405e13b44014ca9fef39d5f7e5e1ea"
	table := tiles("2018", 100_000, usa)
	inputs := map[string][]string{"canonical": {parquetFile(t, table)}}
	for seed := range uint64(3) {
		inputs[fmt.Sprintf("shuffled %d", seed)] = []string{shuffled(t, table, seed)}
	}
	var halves [2]tile.Table
	for i := range table.Len() {
		halves[i%2].Append(table.Row(i))
	}
	inputs["two files"] = []string{parquetFile(t, &halves[1]), parquetFile(t, &halves[0])}
	for name, files := range inputs {
		for _, threads := range []int{1, 2, 8} {
			c := aggregate.Config{Threads: threads, Memory: 64 << 20 << threads}
			if got := run(t, c, aggregate.Job{Chunk: "2018", Inputs: files, Dir: t.TempDir()}).Hash(); got != want {
				t.Errorf("%s, %d threads: sha256 %s, was %s", name, threads, got, want)
			}
		}
	}
}

func TestCanonicalText(t *testing.T) {
	day := tile.Chunk("2018-08").First()
	table := tile.Table{Day: []tile.Day{day, day, day + 1}, Lat10: []int16{351, 352, 170}, Lon10: []int16{-925, -921, -1418}, Strikes: []int32{2211, 3, 1}}
	r := run(t, aggregate.Config{}, aggregate.Job{Chunk: "2018", Inputs: []string{parquetFile(t, &table)}})
	var b strings.Builder
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	want := `day,strikes,tiles
2018-08-01,2214,2
2018-08-02,1,1
year,month,days,strikes,tiles
2018,8,2,2215,3
year,month,lat10,lon10,strikes,tiles
2018,8,170,-1420,1,1
2018,8,350,-925,2214,2
`
	if b.String() != want {
		t.Errorf("got %s", b.String())
	}
	if r.CellTenths != aggregate.DefaultCell || r.Totals != table.Totals() {
		t.Errorf("%+v", r.Totals)
	}
}

func TestEmptyChunk(t *testing.T) {
	r := run(t, aggregate.Config{}, aggregate.Job{Chunk: "2018", Inputs: []string{parquetFile(t, &tile.Table{})}})
	if r.Totals != (tile.Totals{}) || r.Day.Len()+r.Month.Len()+r.Cell.Len() != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRefusals(t *testing.T) {
	good := parquetFile(t, tiles("2018", 100, usa))
	text := filepath.Join(t.TempDir(), "text.parquet")
	if err := os.WriteFile(text, []byte("day,lat10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, job := range map[string]aggregate.Job{
		"another year":    {Chunk: "2017", Inputs: []string{good}},
		"no files":        {Chunk: "2018"},
		"no such file":    {Chunk: "2018", Inputs: []string{good + "x"}},
		"not parquet":     {Chunk: "2018", Inputs: []string{text}},
		"cell too big":    {Chunk: "2018", Inputs: []string{good}, CellTenths: 901},
		"cell below zero": {Chunk: "2018", Inputs: []string{good}, CellTenths: -5},
	} {
		if r, err := open(t, aggregate.Config{}).Aggregate(t.Context(), job); err == nil || r.Day.Columns != nil {
			t.Errorf("%s: %v, %d days", name, err, r.Day.Len())
		}
	}
	for _, c := range []aggregate.Config{{Kind: aggregate.Spark}, {Kind: "sqlite"}} {
		if _, err := aggregate.Open(c); !errors.Is(err, aggregate.ErrEngine) {
			t.Errorf("%v: %v", c, err)
		}
	}
	for _, c := range []aggregate.Config{{Memory: 1 << 20}, {Memory: -1}, {Threads: -1}} {
		if _, err := aggregate.Open(c); err == nil {
			t.Errorf("%v: opened", c)
		}
	}
}

func TestStopsWhenTold(t *testing.T) {
	file := parquetFile(t, tiles("2018", 1000, usa))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, aggregate.Config{}).Aggregate(ctx, aggregate.Job{Chunk: "2018", Inputs: []string{file}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	if v, err := open(t, aggregate.Config{}).Version(t.Context()); err != nil || v != "duckdb v1.5.6" {
		t.Errorf("%q, %v", v, err)
	}
}

// Each of these is a wrong result that only one of the checks can see.
func TestCheckSees(t *testing.T) {
	right := func() aggregate.Result { return oracle(tiles("2018", 2000, usa), 5) }
	for name, spoil := range map[string]func(*aggregate.Result){
		"a strike more by day":    func(r *aggregate.Result) { r.Day.Values("strikes")[3]++ },
		"a strike less by month":  func(r *aggregate.Result) { r.Month.Values("strikes")[3]-- },
		"a tile more in a cell":   func(r *aggregate.Result) { r.Cell.Values("tiles")[3]++ },
		"a day more in a month":   func(r *aggregate.Result) { r.Month.Values("days")[3]++ },
		"a day more in the input": func(r *aggregate.Result) { r.Totals.Days++ },
		"rows of the input lost":  func(r *aggregate.Result) { r.Totals.Rows++ },
		"a day of another year":   func(r *aggregate.Result) { r.Day.Values("day")[0] -= 400 },
		"days out of order": func(r *aggregate.Result) {
			d := r.Day.Values("day")
			d[1], d[2] = d[2], d[1]
		},
		"a cell twice": func(r *aggregate.Result) { twice(r.Cell) },
	} {
		r := right()
		if err := r.Check("2018"); err != nil {
			t.Fatal(err)
		}
		if spoil(&r); !errors.Is(r.Check("2018"), aggregate.ErrDiffers) {
			t.Errorf("%s: %v", name, r.Check("2018"))
		}
	}
}

// twice splits the first row in two of the same keys.
func twice(f aggregate.Frame) {
	for i, c := range f.Columns {
		v := c.Values[0]
		if i >= 4 {
			v = 0
		}
		f.Columns[i].Values = slices.Insert(c.Values, 1, v)
	}
}
