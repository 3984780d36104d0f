package tile

import (
	"fmt"
	"strconv"
)

// Chunk names what the pipeline does in one piece: "2018" is a whole year, "2020-05" a month. The zero value names
// nothing and contains no day.
type Chunk string

// ParseChunk reads "2018" or "2020-05"; years are 1970..2999.
func ParseChunk(s string) (Chunk, error) {
	c := Chunk(s)
	if _, _, ok := c.split(); !ok {
		return "", fmt.Errorf("chunk %q is neither a year (2018) nor a month (2020-05)", s)
	}
	return c, nil
}

// split is the year and the month, 0 for a whole year.
func (c Chunk) split() (year, month int, ok bool) {
	if len(c) != len("2018") && (len(c) != len("2020-05") || c[4] != '-') {
		return 0, 0, false
	}
	for i := range len(c) {
		if i != 4 && (c[i] < '0' || c[i] > '9') {
			return 0, 0, false
		}
	}
	year, _ = strconv.Atoi(string(c[:4]))
	if len(c) > 4 {
		month, _ = strconv.Atoi(string(c[5:]))
		ok = month >= 1 && month <= 12
	} else {
		ok = true
	}
	return year, month, ok && year >= 1970 && year <= 2999
}

// Year is the year that the chunk is, or lies in; 0 for no chunk.
func (c Chunk) Year() int {
	year, _, _ := c.split()
	return year
}

// Month is 1..12, or 0 for a chunk that is a whole year.
func (c Chunk) Month() int {
	_, month, _ := c.split()
	return month
}

// First is the chunk's first day.
func (c Chunk) First() Day {
	year, month, ok := c.split()
	if !ok {
		return 0
	}
	first, _ := DayOf(year, max(month, 1), 1)
	return first
}

// Last is the chunk's last day. That of no chunk is before First.
func (c Chunk) Last() Day {
	year, month, ok := c.split()
	if !ok {
		return -1
	}
	if month == 0 {
		month = 12
	}
	last, _ := DayOf(year, month, daysIn(year, month))
	return last
}

// Contains tells whether the day lies in the chunk.
func (c Chunk) Contains(d Day) bool { return c.First() <= d && d <= c.Last() }

// ChunksBetween covers every day from from's first to to's last, in order: whole years where they fit, months for the
// rest. "2019" to "2020-02" is 2019, 2020-01, 2020-02. Empty if to ends before from begins, or one of them is no chunk.
func ChunksBetween(from, to Chunk) []Chunk {
	year, month, ok := from.split()
	if _, _, also := to.split(); !ok || !also {
		return nil
	}
	month = max(month, 1)
	var out []Chunk
	for {
		c := Chunk(fmt.Sprintf("%04d", year))
		if month > 1 || c.Last() > to.Last() {
			c = Chunk(fmt.Sprintf("%04d-%02d", year, month))
		}
		if c.Last() > to.Last() {
			return out
		}
		out = append(out, c)
		if month++; len(c) == 4 || month > 12 {
			year, month = year+1, 1
		}
	}
}
