package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// grid is a table for people, with the borders that duoctl's have.
type grid struct {
	head []string
	rows [][]string
}

// add makes every cell one line: error texts of a database have several.
func (g *grid) add(cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.Join(strings.Fields(cell), " ")
	}
	g.rows = append(g.rows, cells)
}

// printable passes text on without control characters other than the end of a line: what a server wrote must not steer the
// operator's terminal.
type printable struct{ w io.Writer }

func (p printable) Write(text []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, text)
	if _, err := p.w.Write(clean); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	return len(text), nil
}

func (g *grid) write(w io.Writer) {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	rule := "+"
	for _, width := range widths {
		rule += strings.Repeat("-", width+2) + "+"
	}
	fmt.Fprintln(w, rule)
	writeRow(w, widths, g.head)
	fmt.Fprintln(w, rule)
	for _, row := range g.rows {
		writeRow(w, widths, row)
	}
	fmt.Fprintln(w, rule)
}

func writeRow(w io.Writer, widths []int, row []string) {
	line := "|"
	for i, cell := range row {
		line += " " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + " |"
	}
	fmt.Fprintln(w, line)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// amount shows a number with a unit that fits it.
func amount(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f G", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", n/1e3)
	case n == 0:
		return "-"
	}
	return fmt.Sprintf("%.0f", n)
}

// duration shows a time with a precision that fits it; 0 is unknown.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
