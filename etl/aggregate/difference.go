package aggregate

import (
	"fmt"

	"github.com/duoflow/duoflow/etl/tile"
)

// Difference says in words where two results differ first, "" if their texts are the same to the byte.
func Difference(a, b Result) string {
	if a.Hash() == b.Hash() {
		return ""
	}
	names := [...]string{"day", "month", "cell"}
	other := b.frames()
	for i, f := range a.frames() {
		if f.Hash() != other[i].Hash() {
			return "by " + names[i] + ": " + f.difference(other[i])
		}
	}
	return "their hashes differ, their frames do not"
}

func (f Frame) difference(g Frame) string {
	if len(f.Columns) != len(g.Columns) {
		return fmt.Sprintf("%d columns and %d", len(f.Columns), len(g.Columns))
	}
	for row := range max(f.Len(), g.Len()) {
		if row >= f.Len() || row >= g.Len() {
			longer := f
			if row >= f.Len() {
				longer = g
			}
			return fmt.Sprintf("%d rows and %d; only one has %s", f.Len(), g.Len(), longer.row(row))
		}
		for i := range f.Columns {
			if f.Columns[i].Values[row] != g.Columns[i].Values[row] {
				return fmt.Sprintf("row %d, column %s: %s and %s", row+1, f.Columns[i].Name, f.row(row), g.row(row))
			}
		}
	}
	return "names of columns"
}

// row spells a row with the names of its columns.
func (f Frame) row(row int) string {
	text := ""
	for i, c := range f.Columns {
		if i > 0 {
			text += ", "
		}
		if c.Date {
			text += fmt.Sprintf("%s %s", c.Name, tile.Day(c.Values[row]))
			continue
		}
		text += fmt.Sprintf("%s %d", c.Name, c.Values[row])
	}
	return text
}
