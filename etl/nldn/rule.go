package nldn

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Errors of a whole file. Nothing of the file counts then.
var (
	// ErrDamaged: the gzip stream is truncated or fails its checksum. A fresh download may help.
	ErrDamaged = errors.New("damaged gzip")
	// ErrHeader: no line names the columns, or a later one names them differently.
	ErrHeader = errors.New("unknown columns")
	// ErrEncoding: the text is not UTF-8 separated by commas, or not what Options.Encoding says.
	ErrEncoding = errors.New("other encoding")
	// ErrEmpty: not one row, good or bad.
	ErrEmpty = errors.New("no rows")
	// ErrLimit: a limit of Options is exceeded.
	ErrLimit = errors.New("limit exceeded")
	// ErrForeign: more than 1 % of the rows belong to another chunk.
	ErrForeign = errors.New("rows of another chunk")
)

// Rule is what a quarantined line breaks.
type Rule string

// The rules, in the order in which a line is held against them.
const (
	RuleQuote    Rule = "quote"    // a quote is not closed, or stands within a field
	RuleJSON     Rule = "json"     // not one flat JSON object
	RuleFields   Rule = "fields"   // too few or too many fields, or one of them null
	RuleDate     Rule = "date"     // no date of the calendar
	RuleMidnight Rule = "midnight" // a time of day, or another zone than UTC
	RulePoint    Rule = "point"    // not POINT(longitude latitude)
	RuleNumber   Rule = "number"   // a coordinate is no decimal number
	RuleGrid     Rule = "grid"     // off the grid of 0.1 degree
	RuleBox      Rule = "box"      // outside the network's box
	RulePlaces   Rule = "places"   // the point and the separate coordinates differ
	RuleCount    Rule = "count"    // the count is no whole number
	RuleRange    Rule = "range"    // the count is below 1 or above tile.MaxStrikes
	RuleChunk    Rule = "chunk"    // a day of another chunk
	RuleConflict Rule = "conflict" // the same tile and day with different counts
)

// Bad is one line in quarantine.
type Bad struct {
	File string `json:"file"`
	Line int64  `json:"line"` // from 1
	Rule Rule   `json:"rule"`
	Text string `json:"text"` // at most 200 bytes of valid UTF-8 without NUL
}

func (b Bad) String() string { return fmt.Sprintf("%s:%d: %s: %s", b.File, b.Line, b.Rule, b.Text) }

// maxText is how much of a bad line is kept.
const maxText = 200

// clip makes text of a line that any database and JSON can hold.
func clip(line []byte) string {
	s := strings.ToValidUTF8(string(line[:min(len(line), maxText)]), "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	for len(s) > maxText || !utf8.ValidString(s) {
		s = s[:min(len(s)-1, maxText)]
	}
	return s
}
