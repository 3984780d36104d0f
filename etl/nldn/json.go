package nldn

import (
	"bytes"
	"encoding/json"
	"strings"
)

// cutJSON puts the values of one flat object into p.fields. BigQuery writes INT64 as strings and leaves out nulls.
func (p *parser) cutJSON(line []byte) Rule {
	p.fields = [columnStrikes + 1][]byte{}
	var seen [columnStrikes + 1]bool
	rule := walk(line, func(key, value []byte) Rule {
		c := columnNames[string(key)]
		if c == columnOther {
			c = columnNames[strings.ToLower(string(key))]
		}
		if c == columnOther {
			return ""
		}
		if seen[c] {
			return RuleJSON
		}
		seen[c], p.fields[c] = true, value
		return ""
	})
	if rule != "" {
		return rule
	}
	for c := columnDay; c <= columnStrikes; c++ {
		if p.layout.has[c] != (p.fields[c] != nil) {
			return RuleFields
		}
	}
	return ""
}

// layoutOfJSON takes the keys of the first object as the header.
func layoutOfJSON(line []byte) (layout, string) {
	var names []string
	if rule := walk(line, func(key, _ []byte) Rule {
		names = append(names, string(key))
		return ""
	}); rule != "" {
		return layout{}, "no JSON object in a line"
	}
	return layoutOf(names)
}

// walk calls each for the members of a flat object: strings without quotes, numbers as they stand, nil for null.
func walk(s []byte, each func(key, value []byte) Rule) Rule {
	s, ok := bytes.CutPrefix(blank(s), []byte("{"))
	if !ok {
		return RuleJSON
	}
	if s = blank(s); len(s) > 0 && s[0] == '}' {
		return ended(s[1:])
	}
	for {
		key, rest, ok := quotedJSON(blank(s))
		if !ok {
			return RuleJSON
		}
		if rest = blank(rest); len(rest) == 0 || rest[0] != ':' {
			return RuleJSON
		}
		value, rest, ok := valueJSON(blank(rest[1:]))
		if !ok {
			return RuleJSON
		}
		if rule := each(key, value); rule != "" {
			return rule
		}
		if rest = blank(rest); len(rest) == 0 {
			return RuleJSON
		}
		if rest[0] == '}' {
			return ended(rest[1:])
		}
		if rest[0] != ',' {
			return RuleJSON
		}
		s = rest[1:]
	}
}

func ended(rest []byte) Rule {
	if len(blank(rest)) > 0 {
		return RuleJSON
	}
	return ""
}

func blank(s []byte) []byte { return bytes.TrimLeft(s, " \t") }

// quotedJSON takes a string off s.
func quotedJSON(s []byte) (value, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			return escapedJSON(s)
		case s[i] < ' ':
			return nil, nil, false
		case s[i] == '"':
			return s[1:i], s[i+1:], true
		}
	}
	return nil, nil, false
}

// escapedJSON leaves strings with escapes, which tiles have no use for, to the standard library.
func escapedJSON(s []byte) (value, rest []byte, ok bool) {
	d := json.NewDecoder(bytes.NewReader(s))
	var text string
	if err := d.Decode(&text); err != nil {
		return nil, nil, false
	}
	return []byte(text), s[d.InputOffset():], true
}

// valueJSON takes a string, a number or a word off s; objects and arrays are no values of a tile.
func valueJSON(s []byte) (value, rest []byte, ok bool) {
	if len(s) > 0 && s[0] == '"' {
		return quotedJSON(s)
	}
	n := bytes.IndexAny(s, ",} \t")
	if n <= 0 || !json.Valid(s[:n]) {
		return nil, nil, false
	}
	if s[0] == 'n' {
		return nil, s[n:], true
	}
	return s[:n], s[n:], true
}
