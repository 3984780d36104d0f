package nldn

import (
	"bytes"

	"github.com/duoflow/duoflow/etl/tile"
)

// careful reads a line that quick did not understand, and says what is wrong with it. Whatever quick reads, careful reads
// the same way.
func (p *parser) careful(line []byte) (tile.Row, Rule) {
	var rule Rule
	if p.json {
		rule = p.cutJSON(line)
	} else {
		rule = p.cut(line)
	}
	if rule != "" {
		return tile.Row{}, rule
	}
	return p.row()
}

// cut splits a line of separated values into p.fields. A quoted field is taken whole; it cannot go on in the next line.
func (p *parser) cut(line []byte) Rule {
	p.fields = [columnStrikes + 1][]byte{}
	for i, c := range p.layout.columns {
		last := i == len(p.layout.columns)-1
		field, rest, found, rule := p.field(line)
		if rule != "" {
			return rule
		}
		if found == last {
			return RuleFields
		}
		p.fields[c], line = field, rest
	}
	return ""
}

// field takes one field off a line; found tells whether a separator followed it.
func (p *parser) field(line []byte) (field, rest []byte, found bool, rule Rule) {
	field, rest, found = bytes.Cut(line, []byte{p.comma})
	field = bytes.Trim(field, " ")
	if len(field) == 0 || field[0] != '"' {
		if bytes.IndexByte(field, '"') >= 0 {
			rule = RuleQuote
		}
		return field, rest, found, rule
	}
	quoted := bytes.TrimLeft(line, " ")[1:]
	end := closing(quoted)
	if end < 0 {
		return nil, nil, false, RuleQuote
	}
	between, rest, found := bytes.Cut(quoted[end+1:], []byte{p.comma})
	if len(bytes.Trim(between, " ")) > 0 {
		return nil, nil, false, RuleQuote
	}
	return bytes.Trim(quoted[:end], " "), rest, found, ""
}

// closing is where the quote that closes stands; two in a row are one within the field.
func closing(s []byte) int {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			i++
			continue
		}
		return i
	}
	return -1
}

// row makes a row of p.fields. The rules are asked in the order in which they are declared.
func (p *parser) row() (tile.Row, Rule) {
	day, rule := parseDay(p.fields[columnDay])
	if rule != "" {
		return tile.Row{}, rule
	}
	lon10, lat10, rule := p.place()
	if rule != "" {
		return tile.Row{}, rule
	}
	strikes, rule := parseStrikes(p.fields[columnStrikes])
	if rule != "" {
		return tile.Row{}, rule
	}
	if day < p.first || day > p.last {
		return tile.Row{}, RuleChunk
	}
	return tile.Row{Day: day, Lat10: lat10, Lon10: lon10, Strikes: strikes}, ""
}

// place is where the row is. Some files tell it twice: as a point and as two numbers.
func (p *parser) place() (lon10, lat10 int16, rule Rule) {
	var lon, lat int
	if p.layout.has[columnPoint] {
		if lon, lat, rule = parsePoint(p.fields[columnPoint]); rule != "" {
			return 0, 0, rule
		}
	}
	if p.layout.has[columnLon] {
		x, rule := parseTenths(p.fields[columnLon])
		if rule != "" {
			return 0, 0, rule
		}
		y, rule := parseTenths(p.fields[columnLat])
		if rule != "" {
			return 0, 0, rule
		}
		if p.layout.has[columnPoint] && (x != lon || y != lat) {
			return 0, 0, RulePlaces
		}
		lon, lat = x, y
	}
	return boxed(lon, lat)
}
