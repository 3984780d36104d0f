package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/duoflow/duoflow/etl"
)

// terminal is what shows text and obeys the sequences that screen uses. Made narrower, it breaks long lines anew, as most do.
type terminal struct {
	t       *testing.T
	columns int
	lines   []string // not broken
	at      int      // the cursor's line
	column  int
	bold    bool
	colors  int // sequences seen
}

// Write takes text as a terminal does that makes CR LF of LF.
func (v *terminal) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' })
			v.obey(text[2:end], text[end])
			size = end + 1
		case r == '\n':
			v.at, v.column = v.at+1, 0
		case r == '\r':
			v.column = 0
		default:
			v.put(r)
		}
		text = text[size:]
	}
	return len(p), nil
}

func (v *terminal) grow() {
	for len(v.lines) <= v.at {
		v.lines = append(v.lines, "")
	}
}

func (v *terminal) put(r rune) {
	v.grow()
	line := []rune(v.lines[v.at])
	if v.column < len(line) {
		line[v.column] = r
	} else {
		line = append(line, r)
	}
	v.lines[v.at], v.column = string(line), v.column+1
}

// obey follows one sequence.
func (v *terminal) obey(parameters string, name byte) {
	switch name {
	case 'A':
		up, err := strconv.Atoi(parameters)
		if err != nil {
			v.t.Errorf("sequence %sA", parameters)
		}
		for ; up > 0 && v.at > 0; v.at-- {
			if up -= v.rows(v.lines[v.at-1]); up < 0 {
				v.t.Errorf("the cursor stops within the broken line %q", v.lines[v.at-1])
			}
		}
	case 'J':
		v.grow()
		v.lines = v.lines[:v.at+1]
		v.lines[v.at] = string([]rune(v.lines[v.at])[:min(v.column, utf8.RuneCountInString(v.lines[v.at]))])
	case 'm':
		v.colors++
		v.bold = parameters != "0"
	default:
		v.t.Errorf("sequence %s%c", parameters, name)
	}
}

// rows is how many a line takes.
func (v *terminal) rows(line string) int {
	return max(1, (utf8.RuneCountInString(line)+v.columns-1)/v.columns)
}

func (v *terminal) String() string { return strings.TrimRight(strings.Join(v.lines, "\n"), "\n") }

func someProgress(done int) etl.Progress {
	p := etl.Progress{Chunks: 34, Done: done, Failed: done / 10}
	for _, step := range etl.Steps() {
		p.Steps = append(p.Steps, etl.StepProgress{Step: step, Done: done, Bytes: 123_456_789, Rows: int64(done) * 2_700_000, Rate: 5_123_456})
	}
	p.Steps[2].Chunk = "2020-05"
	return p
}

// TestScreen draws at many widths, resized between, with warnings between: each time the drawing is there once, cut to the
// terminal, below all warnings, and nothing of an older one.
func TestScreen(t *testing.T) {
	for _, color := range []bool{false, true} {
		v := &terminal{t: t, columns: 120}
		rows := 24
		s := &screen{w: v, size: func() (int, int) { return v.columns, rows }, color: color}
		fmt.Fprintln(s, "before")
		above := "before"
		for i, columns := range []int{120, 80, 60, 40, 20, 7, 3, 30, 120, 50, 80, 80} {
			v.columns = columns
			if i%3 == 2 {
				warning := fmt.Sprintf("warning %d", i)
				fmt.Fprintln(s, warning)
				above += "\n" + warning
			}
			p := someProgress(i)
			s.draw(drawing(p))
			var want []string
			for _, l := range drawing(p) {
				want = append(want, clip(l.text, columns-1))
			}
			if got := v.String(); got != strings.TrimRight(above+"\n"+strings.Join(want, "\n"), "\n") {
				t.Errorf("%d columns: on the terminal stands\n%s\nwant below %q\n%s", columns, got, above, strings.Join(want, "\n"))
			}
		}
		s.leave()
		fmt.Fprintln(s, "after")
		if got := v.String(); !strings.HasSuffix(got, "\nafter") || !strings.Contains(got, "publish") {
			t.Errorf("afterwards:\n%s", got)
		}
		if v.bold || color != (v.colors > 0) {
			t.Errorf("colour %v: %d sequences of colour, left on: %v", color, v.colors, v.bold)
		}
	}
}

// TestScreenOnFewRows draws no more lines than there is room for, or the terminal would scroll under it.
func TestScreenOnFewRows(t *testing.T) {
	for rows, want := range map[int]int{1: 1, 2: 1, 4: 3, 8: 7, 24: 7, 0: 7} {
		v := &terminal{t: t, columns: 80}
		s := &screen{w: v, size: func() (int, int) { return 0, rows }}
		for i := range 3 {
			s.draw(drawing(someProgress(i)))
		}
		if got := len(strings.Split(v.String(), "\n")); rows != 1 && got != want {
			t.Errorf("on %d rows: %d lines, want %d\n%s", rows, got, want, v)
		}
	}
}
