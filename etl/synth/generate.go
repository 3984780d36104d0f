package synth

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/duoflow/duoflow/etl/tile"
)

// Generate hands out the rows of the spec, sorted by day, latitude and longitude, no tile twice a day. An error of each,
// or the end of the context, ends it.
func Generate(ctx context.Context, s Spec, each func(tile.Row) error) (tile.Totals, error) {
	g, err := NewYear(s)
	if err != nil {
		return tile.Totals{}, err
	}
	var totals tile.Totals
	for _, d := range g.Days() {
		if err := ctx.Err(); err != nil {
			return totals, fmt.Errorf("generate %d: %w", s.Year, err)
		}
		got, err := g.Day(d, each)
		if err != nil {
			return totals, err
		}
		sum(&totals, got)
	}
	return totals, nil
}

// Year makes the days of a spec in any order. It is for one goroutine.
type Year struct {
	plan    *plan
	field   *field
	pattern pattern
	counted []uint16
}

// NewYear prepares a spec's year: some ten milliseconds.
func NewYear(s Spec) (*Year, error) {
	p, err := newPlan(s)
	if err != nil {
		return nil, err
	}
	return &Year{plan: p, field: newField()}, nil
}

// Days are the days that have rows, in order.
func (y *Year) Days() []tile.Day {
	days := make([]tile.Day, 0, len(y.plan.days))
	for _, d := range y.plan.days {
		days = append(days, d.Day)
	}
	return days
}

// Day hands out the rows of one day, sorted by latitude and longitude, and what they come to; none for a day without. An
// error of each ends it.
func (y *Year) Day(day tile.Day, each func(tile.Row) error) (DayTotal, error) {
	for _, d := range y.plan.days {
		if d.Day == day {
			return y.make(d, each)
		}
	}
	return DayTotal{Day: day}, nil
}

func (y *Year) make(d DayTotal, each func(tile.Row) error) (DayTotal, error) {
	y.counted = y.plan.counts(d, y.counted[:0])
	fixed := y.plan.fixed[d.Day]
	y.pattern = pattern{}
	for _, row := range fixed {
		y.pattern.set(int(row.Lat10)-south, int(row.Lon10)-west)
	}
	r := newRandom(y.plan.spec.Seed, uint64(d.Day), 4)
	y.field.strike(&y.pattern, len(y.counted), &r)

	total, next := DayTotal{Day: d.Day}, 0
	for row := range rows {
		for word, marked := range y.pattern[row] {
			for ; marked != 0; marked &= marked - 1 {
				out := tile.Row{Day: d.Day, Lat10: int16(south + row), Lon10: int16(west + word*64 + bits.TrailingZeros64(marked))}
				if out.Strikes = strikesOf(fixed, out); out.Strikes == 0 {
					out.Strikes = int32(y.counted[next])
					next++
				}
				total.Rows++
				total.Strikes += int64(out.Strikes)
				if err := each(out); err != nil {
					return total, err
				}
			}
		}
	}
	if next < len(y.counted) {
		return total, fmt.Errorf("synth: %s has %d tiles, more than are open", d.Day, len(y.counted))
	}
	return total, nil
}

// strikesOf is what a fixed tile has, 0 if the tile is none.
func strikesOf(fixed []tile.Row, at tile.Row) int32 {
	for _, f := range fixed {
		if f.Lat10 == at.Lat10 && f.Lon10 == at.Lon10 {
			return f.Strikes
		}
	}
	return 0
}
