package nldn

import (
	"bytes"

	"github.com/duoflow/duoflow/etl/tile"
)

// digits reads leading digits: their value, and how many there are. The value of more than 9 digits is meaningless.
func digits(s []byte) (value, n int) {
	for n < len(s) && s[n]-'0' <= 9 {
		if n < 9 {
			value = value*10 + int(s[n]-'0')
		}
		n++
	}
	return value, n
}

// parseDay reads 20180829 or 2018-08-29, alone or with midnight in UTC behind it.
func parseDay(s []byte) (tile.Day, Rule) {
	var year, month, day int
	var rest []byte
	switch value, n := digits(s); n {
	case 8:
		year, month, day, rest = value/10000, value/100%100, value%100, s[8:]
	case 4:
		if len(s) < 10 || s[4] != '-' || s[7] != '-' {
			return 0, RuleDate
		}
		var m, d int
		month, m = digits(s[5:7])
		day, d = digits(s[8:10])
		if m != 2 || d != 2 {
			return 0, RuleDate
		}
		year, rest = value, s[10:]
	default:
		return 0, RuleDate
	}
	d, ok := tile.DayOf(year, month, day)
	if !ok {
		return 0, RuleDate
	}
	if len(rest) > 0 && !midnight(rest) {
		return 0, RuleMidnight
	}
	return d, ""
}

// midnight accepts what a timestamp at 00:00:00 UTC has behind its date. Without a zone it is UTC: NCEI says so, and
// BigQuery knows nothing else.
func midnight(s []byte) bool {
	if s[0] != ' ' && s[0] != 'T' {
		return false
	}
	s, found := bytes.CutPrefix(s[1:], []byte("00:00:00"))
	if !found {
		return false
	}
	if fraction, found := bytes.CutPrefix(s, []byte(".")); found {
		s = bytes.TrimLeft(fraction, "0")
		if len(s) == len(fraction) {
			return false
		}
	}
	switch string(bytes.TrimPrefix(s, []byte(" "))) {
	case "", "UTC", "Z", "+00", "+00:00":
		return true
	}
	return false
}

// parseTenths reads a coordinate in degrees as tenths of a degree.
func parseTenths(s []byte) (int, Rule) {
	minus := len(s) > 0 && s[0] == '-'
	if minus {
		s = s[1:]
	}
	whole, n := digits(s)
	if n == 0 || n > 9 {
		return 0, RuleNumber
	}
	tenths := whole * 10
	if s = s[n:]; len(s) > 0 {
		fraction := s[1:]
		if _, n := digits(fraction); s[0] != '.' || n == 0 || n != len(fraction) {
			return 0, RuleNumber
		}
		tenths += int(fraction[0] - '0')
		if len(bytes.TrimRight(fraction[1:], "0")) > 0 {
			return 0, RuleGrid
		}
	}
	if minus {
		tenths = -tenths
	}
	return tenths, ""
}

// parsePoint reads POINT(-95.5 28.1): longitude first.
func parsePoint(s []byte) (lon, lat int, rule Rule) {
	const word = "POINT"
	if len(s) < len(word) || !bytes.EqualFold(s[:len(word)], []byte(word)) {
		return 0, 0, RulePoint
	}
	s = bytes.TrimLeft(s[len(word):], " ")
	s, opened := bytes.CutPrefix(s, []byte("("))
	s, closed := bytes.CutSuffix(s, []byte(")"))
	first, second, two := bytes.Cut(bytes.Trim(s, " "), []byte(" "))
	if !opened || !closed || !two {
		return 0, 0, RulePoint
	}
	if lon, rule = parseTenths(first); rule == "" {
		lat, rule = parseTenths(bytes.TrimLeft(second, " "))
	}
	return lon, lat, rule
}

// parseStrikes reads a whole number; 3.0 is one.
func parseStrikes(s []byte) (int32, Rule) {
	minus := len(s) > 0 && s[0] == '-'
	if minus {
		s = s[1:]
	}
	value, n := digits(s)
	if n == 0 {
		return 0, RuleCount
	}
	if rest := s[n:]; len(rest) > 0 && (len(rest) == 1 || rest[0] != '.' || len(bytes.TrimRight(rest[1:], "0")) > 0) {
		return 0, RuleCount
	}
	if minus || n > 9 || value < 1 || value > tile.MaxStrikes {
		return 0, RuleRange
	}
	return int32(value), ""
}

// boxed checks that tenths lie in the network's box.
func boxed(lon, lat int) (lon10, lat10 int16, rule Rule) {
	if lon < int(tile.MinLon10) || lon > int(tile.MaxLon10) || lat < int(tile.MinLat10) || lat > int(tile.MaxLat10) {
		return 0, 0, RuleBox
	}
	return int16(lon), int16(lat), ""
}
