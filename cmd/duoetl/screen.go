package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// Of a terminal whose size nobody tells.
const (
	usualColumns = 80
	usualRows    = 24
)

// screen draws lines over those that it drew before. What else is written to it, such as warnings, goes above them. Safe for
// use by several goroutines.
type screen struct {
	w     io.Writer
	size  func() (columns, rows int) // asked for each drawing; 0 = unknown
	color bool

	mu    sync.Mutex
	drawn []line
}

// line is one of a drawing; loud ones are set off by colour, if there is any.
type line struct {
	text string
	loud string // SGR parameters, such as 31; "" = as the rest
}

// draw replaces the drawing. A line that is longer than the terminal is cut: if it were broken into two, nobody would know
// where the drawing begins.
func (s *screen) draw(lines []line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	columns, rows := s.measure()
	text := s.erase(columns, rows)
	s.drawn = s.drawn[:0]
	for _, l := range lines[:min(len(lines), max(1, rows-1))] {
		s.drawn = append(s.drawn, line{clip(l.text, columns-1), l.loud})
	}
	fmt.Fprint(s.w, text+s.spell())
}

// Write puts text above the drawing. It has to end a line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.drawn) == 0 {
		return s.w.Write(p)
	}
	columns, rows := s.measure()
	if _, err := io.WriteString(s.w, s.erase(columns, rows)+string(p)+s.spell()); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	return len(p), nil
}

// leave lets the drawing stand: what is written from now on goes below it.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = nil
}

func (s *screen) measure() (columns, rows int) {
	columns, rows = s.size()
	if columns <= 0 {
		columns = usualColumns
	}
	if rows <= 0 {
		rows = usualRows
	}
	return columns, rows
}

// erase goes back to where the drawing begins. A terminal that has become narrower since has broken its lines.
func (s *screen) erase(columns, rows int) string {
	up := 0
	for _, l := range s.drawn {
		up += max(1, (utf8.RuneCountInString(l.text)+columns-1)/columns)
	}
	if up = min(up, rows-1); up <= 0 {
		return "\r\x1b[J"
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", up)
}

func (s *screen) spell() string {
	var out strings.Builder
	for _, l := range s.drawn {
		if s.color && l.loud != "" {
			fmt.Fprintf(&out, "\x1b[%sm%s\x1b[0m\n", l.loud, l.text)
			continue
		}
		out.WriteString(l.text + "\n")
	}
	return out.String()
}

// clip cuts text to so many characters.
func clip(text string, most int) string {
	if most = max(most, 1); utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most])
}
