package nldn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/duoflow/duoflow/etl/tile"
)

// Options say what to expect of a file. The zero value takes any day and the limits named below.
type Options struct {
	Chunk      tile.Chunk // days of another chunk go to quarantine; empty: none does
	AllowEmpty bool       // no row at all is no error; some shards of an export have none
	Encoding   string     // utf-8, utf-16 (by its mark), utf-16le, utf-16be, each also with +tab; empty: UTF-8 with commas
	MaxLine    int        // bytes; 0: 4 KiB
	MaxRows    int64      // lines of any kind; 0: 50 million
	MaxBytes   int64      // of text, uncompressed; 0: 8 GiB
}

func (o Options) complete() Options {
	if o.MaxLine <= 0 {
		o.MaxLine = 4 << 10
	}
	if o.MaxRows <= 0 {
		o.MaxRows = 50_000_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 8 << 30
	}
	return o
}

// Report counts what became of the lines of a file, or of a chunk: Lines = Rows + Duplicates + Quarantined + Comments +
// Headers. Duplicates are known after Finish only.
type Report struct {
	Lines       int64          `json:"lines"`
	Rows        int64          `json:"rows"`
	Duplicates  int64          `json:"duplicates"` // rows that say again what another says
	Quarantined int64          `json:"quarantined"`
	Comments    int64          `json:"comments"` // blank lines too
	Headers     int64          `json:"headers"`
	ByRule      map[Rule]int64 `json:"by_rule"` // of the quarantined
	Strikes     int64          `json:"strikes"` // of the rows
	Bytes       int64          `json:"bytes"`   // of text, uncompressed
	Header      string         `json:"header"`  // the columns as the file names them
	Compressed  bool           `json:"compressed"`

	file   string
	origin []origin // where the rows came from, for Finish
}

// origin holds from a row on, until the next: the row's line is its number, counted from the file's first row as 0, plus
// ahead.
type origin struct{ row, ahead uint32 }

// parser is one reading of one file.
type parser struct {
	report Report
	into   *tile.Table
	bad    func(Bad) error

	layout  layout
	known   bool // the columns are
	json    bool
	plain   bool // quick may be asked
	comma   byte
	first   tile.Day // of the chunk
	last    tile.Day
	foreign int64

	day     tile.Day // of the row before, for quick
	dayText []byte
	fields  [columnStrikes + 1][]byte // of the line, for careful
}

// Read appends the rows of a file to into, in the file's order, and hands every bad line to bad. After an error into is
// as it was, and the caller forgets the bad lines of this file. Errors wrap the sentinels of this package; those of r, of
// ctx and of bad come as they are. file is the name for messages and quarantine.
func Read(ctx context.Context, file string, r io.Reader, o Options, into *tile.Table, bad func(Bad) error) (Report, error) {
	before := into.Len()
	p := &parser{report: Report{file: file, ByRule: map[Rule]int64{}}, into: into, bad: bad}
	err := p.run(ctx, r, o.complete())
	if err != nil {
		into.Truncate(before)
		return Report{}, fmt.Errorf("read %s: %w", file, err)
	}
	return p.report, nil
}

func (p *parser) run(ctx context.Context, r io.Reader, o Options) error {
	if err := p.expect(o.Chunk); err != nil {
		return err
	}
	t, err := open(r, o.Encoding)
	if err != nil {
		return err
	}
	p.comma, p.report.Compressed = t.comma, t.compressed
	l := newLines(t, o.MaxLine, o.MaxBytes)
	for {
		line, err := l.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if l.number > o.MaxRows {
			return fmt.Errorf("%w: more than %d lines", ErrLimit, o.MaxRows)
		}
		if p.plain {
			if row, ok := p.quick(line); ok {
				p.keep(row, l.number)
				continue
			}
		}
		if err := p.take(line, l.number); err != nil {
			return err
		}
	}
	p.report.Lines, p.report.Bytes = l.number, l.read
	return p.judge(o)
}

// expect sets the days that rows may have.
func (p *parser) expect(chunk tile.Chunk) error {
	if chunk == "" {
		p.first, _ = tile.DayOf(1, 1, 1)
		p.last, _ = tile.DayOf(9999, 12, 31)
		return nil
	}
	c, err := tile.ParseChunk(string(chunk))
	p.first, p.last = c.First(), c.Last()
	return err
}

// judge decides on the file as a whole.
func (p *parser) judge(o Options) error {
	data := p.report.Rows + p.report.Quarantined
	switch {
	case data == 0 && !o.AllowEmpty:
		return fmt.Errorf("%w in %d lines", ErrEmpty, p.report.Lines)
	case p.foreign*100 > data:
		return fmt.Errorf("%w: %d of %d do not lie in %s", ErrForeign, p.foreign, data, o.Chunk)
	}
	return nil
}

// keep appends a row.
func (p *parser) keep(row tile.Row, number int64) {
	ahead := uint32(number - p.report.Rows)
	if n := len(p.report.origin); n == 0 || p.report.origin[n-1].ahead != ahead {
		p.report.origin = append(p.report.origin, origin{row: uint32(p.report.Rows), ahead: ahead})
	}
	p.report.Rows++
	p.report.Strikes += int64(row.Strikes)
	p.into.Append(row)
}

// take finds out what a line is: nothing, a comment, a header, a row, or bad.
func (p *parser) take(line []byte, number int64) error {
	line = bytes.Trim(bytes.TrimPrefix(line, []byte("\uFEFF")), " \r")
	if len(bytes.Trim(line, "\t")) == 0 {
		p.report.Comments++
		return nil
	}
	if !p.known && line[0] != '{' {
		return p.header(line, number)
	}
	if !p.known {
		if err := p.objects(line, number); err != nil {
			return err
		}
	}
	if line[0] == '#' {
		return p.remark(line, number)
	}
	row, rule := p.careful(line)
	if rule == "" {
		p.keep(row, number)
		return nil
	}
	if h, why := headerOf(line, p.comma); why == "" {
		return p.again(h, number)
	}
	if rule == RuleChunk {
		p.foreign++
	}
	return p.quarantine(line, number, rule)
}

func (p *parser) quarantine(line []byte, number int64, rule Rule) error {
	p.report.Quarantined++
	p.report.ByRule[rule]++
	if p.bad == nil {
		return nil
	}
	return p.bad(Bad{File: p.report.file, Line: number, Rule: rule, Text: clip(line)})
}

// header is for lines before the columns are known.
func (p *parser) header(line []byte, number int64) error {
	l, why := headerOf(line, p.comma)
	if why == "" {
		p.report.Headers++
		p.learn(l)
		return nil
	}
	if line[0] == '#' {
		p.report.Comments++
		return nil
	}
	for _, other := range []byte(",\t;") {
		if _, missing := headerOf(line, other); missing == "" {
			return fmt.Errorf("%w: line %d separates its columns by %q; for tabs set source.encoding to utf-8+tab", ErrEncoding, number, other)
		}
	}
	return fmt.Errorf("%w: line %d has %s: found %q, expected %s", ErrHeader, number, why, clip(line), expected)
}

// objects takes the first JSON object for the header of the file.
func (p *parser) objects(line []byte, number int64) error {
	l, why := layoutOfJSON(line)
	if why != "" {
		return fmt.Errorf("%w: line %d has %s: found %q, expected %s", ErrHeader, number, why, clip(line), expected)
	}
	p.json = true
	p.learn(l)
	return nil
}

func (p *parser) learn(l layout) {
	p.layout, p.known, p.report.Header = l, true, l.header
	p.plain = !p.json && l.has[columnPoint] != l.has[columnLon] // told twice: careful compares
}

// remark is a line with a number sign: a comment, or the header of a file that was appended.
func (p *parser) remark(line []byte, number int64) error {
	if h, why := headerOf(line, p.comma); why == "" {
		return p.again(h, number)
	}
	p.report.Comments++
	return nil
}

// again is for a header among the rows: files were put together. They have to agree.
func (p *parser) again(h layout, number int64) error {
	if p.json || !p.layout.same(h) {
		return fmt.Errorf("%w: line %d changes the columns from %q to %q", ErrHeader, number, p.layout.header, h.header)
	}
	p.report.Headers++
	return nil
}

// add sums two reports up.
func (r Report) add(other Report) Report {
	r.Lines += other.Lines
	r.Rows += other.Rows
	r.Duplicates += other.Duplicates
	r.Quarantined += other.Quarantined
	r.Comments += other.Comments
	r.Headers += other.Headers
	r.Strikes += other.Strikes
	r.Bytes += other.Bytes
	r.Compressed = r.Compressed || other.Compressed
	if r.Header == "" {
		r.Header = other.Header
	}
	byRule := maps.Clone(r.ByRule)
	if byRule == nil {
		byRule = map[Rule]int64{}
	}
	for rule, n := range other.ByRule {
		byRule[rule] += n
	}
	r.ByRule = byRule
	r.origin = nil
	return r
}
