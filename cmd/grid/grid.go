package grid

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Grid is a table for people, with the borders that patronictl and etcdctl have. Head is the names of its columns.
type Grid struct {
	Head []string
	rows [][]string
}

// Add adds a row; it makes every cell one line: error texts of a database have several.
func (g *Grid) Add(cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.Join(strings.Fields(cell), " ")
	}
	g.rows = append(g.rows, cells)
}

// Printable passes text on without control characters other than the end of a line, and without those that turn the direction of a text around:
// what a job or a database wrote must neither steer the operator's terminal nor look like something else there.
type Printable struct{ W io.Writer }

// Write writes what is left of text. n counts what was left out, so that no caller takes it for a short write.
func (p Printable) Write(text []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, text)
	if _, err := p.W.Write(clean); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	return len(text), nil
}

// Write draws the table. A failed write of w is lost, as with fmt.Fprintln.
func (g *Grid) Write(w io.Writer) {
	widths := g.widths()
	rule := "+"
	for _, width := range widths {
		rule += strings.Repeat("-", width+2) + "+"
	}
	fmt.Fprintln(w, rule)
	writeRow(w, widths, g.Head)
	fmt.Fprintln(w, rule)
	for _, row := range g.rows {
		writeRow(w, widths, row)
	}
	fmt.Fprintln(w, rule)
}

func (g *Grid) widths() []int {
	widths := make([]int, len(g.Head))
	for _, row := range append([][]string{g.Head}, g.rows...) {
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
