package nldn

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// column is what a field of a line means.
type column byte

const (
	columnOther column = iota // not used
	columnDay
	columnLon
	columnLat
	columnPoint
	columnStrikes
)

// columnNames are the names that columns have had, in lower case.
var columnNames = map[string]column{
	"zday": columnDay, "date": columnDay, "day": columnDay,
	"centerlon": columnLon, "center_lon": columnLon, "lon": columnLon, "longitude": columnLon,
	"centerlat": columnLat, "center_lat": columnLat, "lat": columnLat, "latitude": columnLat,
	"center_point": columnPoint, "center_point_geom": columnPoint,
	"total_count": columnStrikes, "number_of_strikes": columnStrikes, "fcount": columnStrikes, "strikes": columnStrikes,
}

// expected is what a message says that a header needs.
const expected = "a day (ZDAY, DAY or date), a count (TOTAL_COUNT, FCOUNT or number_of_strikes), and a place (CENTERLON and CENTERLAT, or center_point_geom)"

// layout is the order of columns in a file.
type layout struct {
	columns []column
	has     [columnStrikes + 1]bool
	header  string // as the file spells it
}

// layoutOf finds the columns by name; why is empty if they are all there and none of them twice.
func layoutOf(names []string) (l layout, why string) {
	for _, name := range names {
		c := columnNames[strings.ToLower(name)]
		if c != columnOther && l.has[c] {
			return layout{}, fmt.Sprintf("%s names something twice", name)
		}
		l.has[c] = true
		l.columns = append(l.columns, c)
	}
	l.header = strings.Join(names, ",")
	switch {
	case !l.has[columnDay]:
		return layout{}, "no day"
	case !l.has[columnStrikes]:
		return layout{}, "no count"
	case l.has[columnLon] != l.has[columnLat]:
		return layout{}, "half a place"
	case !l.has[columnLon] && !l.has[columnPoint]:
		return layout{}, "no place"
	}
	return l, ""
}

// headerOf reads a line as a header. A number sign before it is NCEI's way to make it a comment too.
func headerOf(line []byte, comma byte) (layout, string) {
	line = bytes.TrimLeft(line, "# ")
	var names []string
	for name := range bytes.SplitSeq(line, []byte{comma}) {
		names = append(names, string(bytes.Trim(name, "\" ")))
	}
	return layoutOf(names)
}

// same tells whether lines under both headers are read alike.
func (l *layout) same(other layout) bool { return slices.Equal(l.columns, other.columns) }
