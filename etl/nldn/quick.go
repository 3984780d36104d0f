package nldn

import (
	"bytes"

	"github.com/duoflow/duoflow/etl/tile"
)

// quick reads a line as nearly all lines are: no quotes, no spaces, nothing wrong. False says nothing but that careful
// has to look.
func (p *parser) quick(line []byte) (row tile.Row, ok bool) {
	if len(line) == 0 || line[0] == '#' {
		return row, false
	}
	at, lon, lat := 0, 0, 0
	for i, c := range p.layout.columns {
		if i > 0 {
			if at >= len(line) || line[at] != p.comma {
				return row, false
			}
			at++
		}
		switch c {
		case columnDay:
			row.Day, at = p.quickDay(line, at)
		case columnLon:
			lon, at = quickTenths(line, at)
		case columnLat:
			lat, at = quickTenths(line, at)
		case columnPoint:
			lon, lat, at = quickPoint(line, at)
		case columnStrikes:
			row.Strikes, at = quickStrikes(line, at)
		default:
			at = p.pass(line, at)
		}
		if at < 0 {
			return row, false
		}
	}
	if at != len(line) || row.Day < p.first || row.Day > p.last {
		return row, false
	}
	var rule Rule
	row.Lon10, row.Lat10, rule = boxed(lon, lat)
	return row, rule == ""
}

// quickDay compares with the day before first: files come by days, more or less.
func (p *parser) quickDay(line []byte, at int) (tile.Day, int) {
	if end := at + len(p.dayText); end > at && end < len(line) && line[end] == p.comma && bytes.Equal(line[at:end], p.dayText) {
		return p.day, end
	}
	n := bytes.IndexByte(line[at:], p.comma)
	if n < 0 {
		n = len(line) - at
	}
	day, rule := parseDay(line[at : at+n])
	if rule != "" {
		return 0, -1
	}
	p.dayText, p.day = append(p.dayText[:0], line[at:at+n]...), day
	return day, at + n
}

// quickTenths, like the other quick functions, returns where the field ends, or -1.
func quickTenths(line []byte, at int) (tenths, end int) {
	minus := at < len(line) && line[at] == '-'
	if minus {
		at++
	}
	from := at
	for at < len(line) && line[at]-'0' <= 9 {
		tenths = tenths*10 + int(line[at]-'0')
		at++
	}
	if at == from || at-from > 3 {
		return 0, -1
	}
	tenths *= 10
	if at+1 < len(line) && line[at] == '.' {
		digit := line[at+1] - '0'
		if digit > 9 {
			return 0, -1
		}
		tenths += int(digit)
		for at += 2; at < len(line) && line[at] == '0'; {
			at++
		}
	}
	if minus {
		tenths = -tenths
	}
	return tenths, at
}

func quickPoint(line []byte, at int) (lon, lat, end int) {
	const begin = "POINT("
	if len(line)-at < len(begin) || string(line[at:at+len(begin)]) != begin {
		return 0, 0, -1
	}
	lon, at = quickTenths(line, at+len(begin))
	if at < 0 || at >= len(line) || line[at] != ' ' {
		return 0, 0, -1
	}
	lat, at = quickTenths(line, at+1)
	if at < 0 || at >= len(line) || line[at] != ')' {
		return 0, 0, -1
	}
	return lon, lat, at + 1
}

func quickStrikes(line []byte, at int) (int32, int) {
	from, value := at, 0
	for at < len(line) && line[at]-'0' <= 9 && at-from < 7 {
		value = value*10 + int(line[at]-'0')
		at++
	}
	if value < 1 || value > tile.MaxStrikes {
		return 0, -1
	}
	return int32(value), at
}

// pass goes over a field that is not used.
func (p *parser) pass(line []byte, at int) int {
	n := bytes.IndexByte(line[at:], p.comma)
	if n < 0 {
		n = len(line) - at
	}
	if bytes.IndexByte(line[at:at+n], '"') >= 0 {
		return -1
	}
	return at + n
}
