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

// grid is a table for people, with the borders that patronictl and etcdctl have.
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

// printable passes text on without control characters other than the end of a line: what a job or a
// database wrote must not steer the operator's terminal.
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
	widths := g.widths()
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

func (g *grid) widths() []int {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func writeRow(w io.Writer, widths []int, row []string) {
	line := "|"
	for i, cell := range row {
		line += " " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + " |"
	}
	fmt.Fprintln(w, line)
}

// dash stands for what is unknown or does not apply.
const dash = "-"

func orDash(text string) string {
	if text == "" {
		return dash
	}
	return text
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// epochText shows 0, no epoch, as a dash.
func epochText(epoch uint64) string {
	if epoch == 0 {
		return dash
	}
	return fmt.Sprint(epoch)
}

// millisText shows a duration with a precision that fits it; 0 is unknown.
func millisText(millis float64) string {
	switch {
	case millis <= 0:
		return dash
	case millis < 10:
		return fmt.Sprintf("%.1f ms", millis)
	}
	return ageText(uint64(millis + 0.5))
}

// ageText shows a duration with a precision that fits it.
func ageText(millis uint64) string {
	switch {
	case millis < 1000:
		return fmt.Sprintf("%d ms", millis)
	case millis < 120_000:
		return fmt.Sprintf("%.1f s", float64(millis)/1000)
	}
	return (time.Duration(millis) * time.Millisecond).Round(time.Second).String()
}

// optionalAge is ageText of a field that may be absent.
func optionalAge(millis *uint64) string {
	if millis == nil {
		return dash
	}
	return ageText(*millis)
}
