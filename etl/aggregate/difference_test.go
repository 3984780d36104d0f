package aggregate_test

import (
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
)

func TestDifferenceIsToldInWords(t *testing.T) {
	right := func() aggregate.Result { return oracle(tiles("2018", 2000, usa), 5) }
	if got := aggregate.Difference(right(), right()); got != "" {
		t.Errorf("of equal results: %s", got)
	}
	for want, spoil := range map[string]func(*aggregate.Result){
		"by day: row 1, column strikes: day 2018-01-01, strikes 7, tiles 1 and day 2018-01-01, strikes 8, tiles 1": func(r *aggregate.Result) {
			r.Day.Values("strikes")[0]++
		},
		"by month: 12 rows and 11; only one has year 2018, month 12, days 31, strikes 9, tiles 1": func(r *aggregate.Result) {
			for i, c := range r.Month.Columns {
				r.Month.Columns[i].Values = c.Values[:11]
			}
		},
		"by cell: 6 columns and 5": func(r *aggregate.Result) { r.Cell.Columns = r.Cell.Columns[:5] },
		"by day: names of columns": func(r *aggregate.Result) { r.Day.Columns[1].Name = "strokes" },
	} {
		left, other := right(), right()
		for _, r := range []*aggregate.Result{&left, &other} { // figures that can be spelled above
			r.Day.Values("day")[0], r.Day.Values("strikes")[0], r.Day.Values("tiles")[0] = 17532, 7, 1
			for name, v := range map[string]int64{"days": 31, "strikes": 9, "tiles": 1} {
				r.Month.Values(name)[11] = v
			}
		}
		spoil(&other)
		if got := aggregate.Difference(left, other); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
