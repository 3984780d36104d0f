package aggregate_test

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

func TestReadsWhatItWrites(t *testing.T) {
	for _, table := range []*tile.Table{tiles("2016", 5_000, usa), tiles("2016", 300, tile.Row{}), {}} {
		want := oracle(table, 5)
		var text strings.Builder
		if err := want.WriteCSV(&text); err != nil {
			t.Fatal(err)
		}
		got, err := aggregate.ReadCSV(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		got.CellTenths, got.Totals = want.CellTenths, want.Totals
		if !reflect.DeepEqual(got, want) {
			t.Errorf("of %d rows: got %s, want %s", want.Totals.Rows, got.Hash(), want.Hash())
		}
	}
}

const (
	days   = "day,strikes,tiles\n2018-08-01,2214,2\n"
	months = "year,month,days,strikes,tiles\n2018,8,1,2214,2\n"
	cells  = "year,month,lat10,lon10,strikes,tiles\n2018,8,350,-925,2214,2\n"
)

func TestReadRefuses(t *testing.T) {
	if _, err := aggregate.ReadCSV(strings.NewReader(days + months + cells)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", days, days + months, months + days + cells, days + months + cells + days,
		days + months + cells + "\n", days + "\n" + months + cells,
		strings.Replace(days, "08-01", "02-30", 1) + months + cells,
		strings.Replace(days, "2018-08-01", "17744", 1) + months + cells,
		days + strings.Replace(months, "2214", "2214.0", 1) + cells,
		days + months + strings.Replace(cells, ",2\n", "\n", 1),
		days + months + strings.Replace(cells, ",2\n", ",2,2\n", 1),
		days + months + strings.Replace(cells, "-925", "9223372036854775808", 1),
	} {
		if r, err := aggregate.ReadCSV(strings.NewReader(text)); err == nil {
			t.Errorf("taken as %+v:\n%s", r, text)
		}
	}
}

// FuzzReadCSV: whatever is read is written as the same text, and nothing makes it panic.
func FuzzReadCSV(f *testing.F) {
	f.Add(days + months + cells)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := aggregate.ReadCSV(strings.NewReader(text))
		if err != nil {
			return
		}
		var again strings.Builder
		if err := r.WriteCSV(&again); err != nil {
			t.Fatal(err)
		}
		back, err := aggregate.ReadCSV(strings.NewReader(again.String()))
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%q is written as %q: %v", text, again.String(), err)
		}
	})
}

func BenchmarkReadCSV(b *testing.B) {
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell()}
	random := rand.New(rand.NewPCG(1, 1))
	for i := range int64(70_000) {
		r.Cell.Append(2018, 1+i%12, 170+random.Int64N(350), -1418+random.Int64N(980), 1+random.Int64N(2000), 1+random.Int64N(31))
	}
	var text strings.Builder
	if err := r.WriteCSV(&text); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := aggregate.ReadCSV(strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
