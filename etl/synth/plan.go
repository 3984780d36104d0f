package synth

import (
	"fmt"
	"slices"

	"github.com/duoflow/duoflow/etl/tile"
)

// DayTotal is what a day comes to.
type DayTotal struct {
	Day     tile.Day `json:"day"`
	Rows    int64    `json:"rows"`
	Strikes int64    `json:"strikes"`
}

// Expected is what a year comes to, known without placing a tile.
type Expected struct {
	Totals tile.Totals  `json:"totals"`
	Months [12]DayTotal `json:"months"` // Day is the first of the month; zero where nothing struck
	Days   []DayTotal   `json:"days"`   // only those with rows, in order
}

// Expect is what Generate will make of the spec. It takes some ten milliseconds a year.
func Expect(s Spec) (Expected, error) {
	p, err := newPlan(s)
	if err != nil {
		return Expected{}, err
	}
	var e Expected
	var counts []uint16
	for _, d := range p.days {
		counts = p.counts(d, counts[:0])
		d.Rows = int64(len(counts) + len(p.fixed[d.Day]))
		e.Days = append(e.Days, d)
		sum(&e.Totals, d)
		year, month, _ := d.Day.Date()
		m := &e.Months[month-1]
		m.Day, _ = tile.DayOf(year, month, 1)
		m.Rows += d.Rows
		m.Strikes += d.Strikes
	}
	return e, nil
}

// plan is a year before its tiles are placed.
type plan struct {
	spec  Spec
	scale int64      // millionths
	days  []DayTotal // with strikes; Rows are not yet known
	fixed map[tile.Day][]tile.Row

	law []uint32
}

// mostStrikes is the most that an invented tile gets: less than the top tiles of 2018.
const mostStrikes = 2060

func newPlan(s Spec) (*plan, error) {
	scale, err := s.millionths()
	if err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	g, err := readGolden()
	if err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	p := &plan{spec: s, scale: scale, law: strikesLaw()}
	if p.fixed, err = g.fixed(s.Year, scale); err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	if err := p.share(g, scale); err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	return p, nil
}

// share gives each month and each day its strikes.
func (p *plan) share(g *golden, scale int64) error {
	top, err := g.topDays(p.spec.Year)
	if err != nil {
		return err
	}
	unknown, err := g.unknown(p.spec.Year)
	if err != nil {
		return err
	}
	for month, total := range monthTotals(g, p.spec, unknown) {
		days := daysOfMonth(p.spec, month+1, total, top, unknown)
		var sum int64
		for _, d := range days {
			before := sum * scale / million
			sum += d.Strikes
			if d.Strikes = sum*scale/million - before; d.Strikes > 0 {
				p.days = append(p.days, d)
			}
		}
	}
	return nil
}

// monthTotals shares the year's total among its months: known ones as they are, those of a known quarter to its total, the
// rest by the usual shape of a year, a little different each year.
func monthTotals(g *golden, s Spec, unknown map[tile.Day]bool) []int64 {
	r := newRandom(s.Seed, uint64(s.Year), 1)
	weights := make([]int64, 12)
	for i := range weights {
		first := tile.Chunk(fmt.Sprintf("%04d-%02d", s.Year, i+1))
		known, all := int64(0), int64(first.Last()-first.First()+1)
		for d := first.First(); d <= first.Last(); d++ {
			if !unknown[d] {
				known++
			}
		}
		weights[i] = g.Guess.Shape[i] * int64(224+r.below(65)) * known / all
	}
	if s.Year == 2009 {
		var months []int64
		for q, total := range g.Quarters {
			months = append(months, apportion(total, weights[3*q:3*q+3], 0)...)
		}
		return months
	}
	months, rest := make([]int64, 12), g.total(s.Year)
	for m, n := range g.months(s.Year) {
		months[m-1], weights[m-1] = n, 0
		rest -= n
	}
	for i, n := range apportion(rest, weights, 0) {
		months[i] += n
	}
	return months
}

// daysOfMonth shares a month's total among its known days.
func daysOfMonth(s Spec, month int, total int64, top map[tile.Day]int64, unknown map[tile.Day]bool) []DayTotal {
	chunk := tile.Chunk(fmt.Sprintf("%04d-%02d", s.Year, month))
	r := newRandom(s.Seed, uint64(s.Year), 2, uint64(month))
	var days []DayTotal
	var weights []int64
	least := int64(0) // of the top days: no other may reach it
	for _, n := range top {
		if least == 0 || n < least {
			least = n
		}
	}
	for d := chunk.First(); d <= chunk.Last(); d++ {
		// Between 1 and 16, most often small: lightning comes in bouts.
		weight := int64(256+r.below(512)) * int64(256+r.below(768)) / 64 * int64(1+r.below(4)) / 2
		if n := top[d]; n > 0 {
			total -= n
			weight = 0
		}
		if unknown[d] {
			continue
		}
		days = append(days, DayTotal{Day: d, Strikes: top[d]})
		weights = append(weights, weight)
	}
	for i, n := range apportion(total, weights, least) {
		days[i].Strikes += n
	}
	return days
}

// apportion shares a total by weights, exactly, by rounding the running sum down. A share stays below the limit, 0 for
// none; the others take what it would have had.
func apportion(total int64, weights []int64, limit int64) []int64 {
	shares, weights := make([]int64, len(weights)), slices.Clone(weights)
	for {
		sum, run := int64(0), int64(0)
		for _, w := range weights {
			sum += w
		}
		if sum == 0 {
			return shares
		}
		again, rest := false, total
		for i, w := range weights {
			if w == 0 {
				continue
			}
			before := rest * run / sum
			run += w
			shares[i] = rest*run/sum - before
			if limit > 0 && shares[i] >= limit {
				shares[i], weights[i], again = limit-1, 0, true
				total -= shares[i]
			}
		}
		if !again {
			return shares
		}
	}
}

// sum adds a day to the totals of those before it.
func sum(t *tile.Totals, d DayTotal) {
	if t.Days == 0 {
		t.First = d.Day
	}
	t.Days++
	t.Last = d.Day
	t.Rows += d.Rows
	t.Strikes += d.Strikes
}
