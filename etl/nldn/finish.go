package nldn

import (
	"fmt"
	"slices"
	"sort"

	"github.com/duoflow/duoflow/etl/tile"
)

// key is what a chunk has once only.
type key struct {
	day          tile.Day
	lat10, lon10 int16
}

func keyOf(t *tile.Table, i int) key { return key{day: t.Day[i], lat10: t.Lat10[i], lon10: t.Lon10[i]} }

// Finish sorts a chunk and leaves every tile and day in it once: of rows that say the same one stays, rows that
// contradict each other all go to bad, with the lines they came from. into is what Read appended, nothing else and in that
// order, and reports are all of Read's, in that order. It returns their sum, corrected. After an error into is useless.
func Finish(into *tile.Table, reports []Report, bad func(Bad) error) (Report, error) {
	sum := Report{ByRule: map[Rule]int64{}}
	for _, r := range reports {
		sum = sum.add(r)
	}
	if sum.Rows != int64(into.Len()) {
		return Report{}, fmt.Errorf("finish chunk: table of %d rows, reports of %d", into.Len(), sum.Rows)
	}
	if settled(into) {
		return sum, nil
	}
	arrived := copyOf(into) // 12 bytes a row, to know afterwards which lines contradicted each other
	into.Sort()
	conflicts := settle(into, &sum)
	if len(conflicts) == 0 || bad == nil {
		return sum, nil
	}
	return sum, accuse(&arrived, reports, conflicts, bad)
}

// settled tells whether the table is sorted and has every tile and day once.
func settled(t *tile.Table) bool {
	for i := 1; i < t.Len(); i++ {
		if keyOf(t, i) == keyOf(t, i-1) {
			return false
		}
	}
	return t.Sorted()
}

func copyOf(t *tile.Table) tile.Table {
	return tile.Table{Day: slices.Clone(t.Day), Lat10: slices.Clone(t.Lat10), Lon10: slices.Clone(t.Lon10), Strikes: slices.Clone(t.Strikes)}
}

// settle goes over a sorted table and returns what contradicts itself.
func settle(t *tile.Table, sum *Report) map[key]struct{} {
	conflicts := map[key]struct{}{}
	kept := 0
	for from := 0; from < t.Len(); {
		to := from + 1
		for to < t.Len() && keyOf(t, to) == keyOf(t, from) {
			to++
		}
		if t.Strikes[from] == t.Strikes[to-1] { // sorted: all of them
			t.Day[kept], t.Lat10[kept], t.Lon10[kept], t.Strikes[kept] = t.Day[from], t.Lat10[from], t.Lon10[from], t.Strikes[from]
			kept++
			sum.drop(t, from+1, to)
			sum.Duplicates += int64(to - from - 1)
		} else {
			conflicts[keyOf(t, from)] = struct{}{}
			sum.drop(t, from, to)
			sum.Quarantined += int64(to - from)
			sum.ByRule[RuleConflict] += int64(to - from)
		}
		from = to
	}
	t.Truncate(kept)
	return conflicts
}

// drop takes rows [from, to) out of the sums.
func (r *Report) drop(t *tile.Table, from, to int) {
	r.Rows -= int64(to - from)
	for _, n := range t.Strikes[from:to] {
		r.Strikes -= int64(n)
	}
}

// accuse names the lines of every conflict, in the order in which they were read.
func accuse(arrived *tile.Table, reports []Report, conflicts map[key]struct{}, bad func(Bad) error) error {
	first := 0
	for _, r := range reports {
		for i := range int(r.Rows) {
			if _, found := conflicts[keyOf(arrived, first+i)]; !found {
				continue
			}
			row := arrived.Row(first + i)
			text := fmt.Sprintf("%v,%d,POINT(%s %s)", row.Day, row.Strikes, degrees(row.Lon10), degrees(row.Lat10))
			if err := bad(Bad{File: r.file, Line: r.line(i), Rule: RuleConflict, Text: text}); err != nil {
				return err
			}
		}
		first += int(r.Rows)
	}
	return nil
}

// line is where the file's i-th row stood, from 0.
func (r *Report) line(i int) int64 {
	n := sort.Search(len(r.origin), func(n int) bool { return int(r.origin[n].row) > i })
	return int64(i) + int64(r.origin[n-1].ahead)
}

// degrees spells tenths as BigQuery does: without a decimal where there is none.
func degrees(tenths int16) string {
	sign, n := "", int(tenths)
	if n < 0 {
		sign, n = "-", -n
	}
	if n%10 == 0 {
		return fmt.Sprintf("%s%d", sign, n/10)
	}
	return fmt.Sprintf("%s%d.%d", sign, n/10, n%10)
}
