package spark

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// described is the first line of a file of columns.
type described struct {
	Frames []struct {
		Name    string   `json:"name"`
		Columns []string `json:"columns"`
		Rows    int64    `json:"rows"`
	} `json:"frames"`
}

// Names of the queries.
const (
	nameTotals = "totals"
	nameDay    = "day"
	nameMonth  = "month"
	nameCell   = "cell"
)

const maxHeader = 1 << 20

// readResult reads a file of columns, as job.py writes it. The file has to be just as long as its first line says.
func readResult(file string, cell int) (aggregate.Result, error) {
	f, err := os.Open(file)
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("read spark's result: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("read spark's result: %w", err)
	}
	r, err := decode(f, info.Size())
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("read spark's result: %w", err)
	}
	r.CellTenths = cell
	return r, nil
}

func decode(file io.Reader, size int64) (aggregate.Result, error) {
	in := bufio.NewReaderSize(file, 256<<10)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("first line: %w", err)
	}
	size -= int64(len(line))
	var d described
	if len(line) > maxHeader {
		return aggregate.Result{}, errors.New("first line: too long")
	}
	if err := json.Unmarshal(line, &d); err != nil {
		return aggregate.Result{}, fmt.Errorf("first line: %w", err)
	}
	totals := aggregate.Frame{Columns: []aggregate.Column{{Name: "tiles"}, {Name: "strikes"}, {Name: "days"}}}
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell()}
	frames := []struct {
		name string
		into aggregate.Frame
	}{{nameTotals, totals}, {nameDay, r.Day}, {nameMonth, r.Month}, {nameCell, r.Cell}}
	if len(d.Frames) != len(frames) {
		return aggregate.Result{}, fmt.Errorf("%d results, not %d", len(d.Frames), len(frames))
	}
	for i, f := range frames {
		got := d.Frames[i]
		if got.Name != f.name || !slices.Equal(got.Columns, names(f.into)) {
			return aggregate.Result{}, fmt.Errorf("columns %v of %s are not those of the frame", got.Columns, got.Name)
		}
		bytes := 8 * got.Rows * int64(len(got.Columns))
		if got.Rows < 0 || got.Rows > size || bytes > size {
			return aggregate.Result{}, fmt.Errorf("%d rows of %s do not fit into what is left of the file, %d bytes", got.Rows, got.Name, size)
		}
		size -= bytes
		if err := fill(in, f.into, int(got.Rows)); err != nil {
			return aggregate.Result{}, fmt.Errorf("%s: %w", got.Name, err)
		}
	}
	if size != 0 {
		return aggregate.Result{}, fmt.Errorf("%d bytes too many", size)
	}
	return r, total(&r, totals)
}

func names(f aggregate.Frame) []string {
	var out []string
	for _, c := range f.Columns {
		out = append(out, c.Name)
	}
	return out
}

func fill(in io.Reader, f aggregate.Frame, rows int) error {
	for i := range f.Columns {
		f.Columns[i].Values = nil
		if rows == 0 {
			continue
		}
		f.Columns[i].Values = make([]int64, rows)
		if err := binary.Read(in, binary.LittleEndian, f.Columns[i].Values); err != nil {
			return err
		}
	}
	return nil
}

// total takes the one row about the input.
func total(r *aggregate.Result, totals aggregate.Frame) error {
	if totals.Len() != 1 {
		return fmt.Errorf("%d rows of totals, not 1", totals.Len())
	}
	r.Totals = tile.Totals{Rows: totals.Sum("tiles"), Strikes: totals.Sum("strikes"), Days: int(totals.Sum("days"))}
	if days := r.Day.Values("day"); len(days) > 0 {
		r.Totals.First, r.Totals.Last = tile.Day(days[0]), tile.Day(days[len(days)-1])
	}
	return nil
}
