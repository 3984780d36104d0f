package aggregate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
)

// ReadCSV reads the three frames that Result.WriteCSV has written; CellTenths and Totals, which are not in the text, stay empty. Any
// other text is an error, which names the line.
func ReadCSV(in io.Reader) (Result, error) {
	out := Result{Day: NewDay(), Month: NewMonth(), Cell: NewCell()}
	r := reader{lines: bufio.NewScanner(in)}
	for _, f := range out.frames() {
		if err := r.frame(f); err != nil {
			return Result{}, fmt.Errorf("read csv: line %d: %w", r.line, err)
		}
	}
	if err := r.lines.Err(); err != nil {
		return Result{}, fmt.Errorf("read csv: after line %d: %w", r.line, err)
	}
	if r.held {
		return Result{}, fmt.Errorf("read csv: line %d: want the end", r.line)
	}
	return out, nil
}

// reader goes through the lines; one that was read and belongs to the next frame is held.
type reader struct {
	lines *bufio.Scanner
	line  int
	held  bool
}

func (r *reader) next() (string, bool) {
	if r.held {
		r.held = false
		return r.lines.Text(), true
	}
	if !r.lines.Scan() {
		return "", false
	}
	r.line++
	return r.lines.Text(), true
}

// frame reads the line of names and the rows up to what cannot be one: no row begins with a letter.
func (r *reader) frame(f Frame) error {
	var names []string
	for _, c := range f.Columns {
		names = append(names, c.Name)
	}
	if head, ok := r.next(); !ok || head != strings.Join(names, ",") {
		return fmt.Errorf("want the names %s", strings.Join(names, ","))
	}
	row := make([]int64, len(f.Columns))
	for {
		text, ok := r.next()
		if !ok {
			return nil
		}
		if text != "" && text[0] >= 'a' {
			r.held = true
			return nil
		}
		if err := f.parse(text, row); err != nil {
			return err
		}
		f.Append(row...)
	}
}

// parse reads a row into values.
func (f Frame) parse(text string, values []int64) (err error) {
	for i, c := range f.Columns {
		field, rest, more := strings.Cut(text, ",")
		if more != (i < len(f.Columns)-1) {
			return errors.New("want a value for each column")
		}
		if values[i], err = c.parse(field); err != nil {
			return fmt.Errorf("column %s: %w", c.Name, err)
		}
		text = rest
	}
	return nil
}

func (c Column) parse(field string) (int64, error) {
	if !c.Date {
		return strconv.ParseInt(field, 10, 64)
	}
	at, err := time.Parse(time.DateOnly, field)
	if err != nil {
		return 0, err
	}
	day, ok := tile.DayOf(at.Year(), int(at.Month()), at.Day())
	if !ok {
		return 0, fmt.Errorf("%s is no day of the calendar", field)
	}
	return int64(day), nil
}
