package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// Table is a table of the BigQuery server: generated years, or the rows of given files.
type Table struct {
	Dataset, Name string
	Format        synth.Format // BigQuery1, 2 or 3: columns and their types

	From, To int     // years to generate; both 0 with Files
	Seed     uint64  // of the years
	Scale    float64 // of the years; 0 is 1

	// Files are read when the table is first used, in any form that nldn knows; lines that it would quarantine are left
	// out, and counted in the log.
	Files []string
}

// Dataset is what the public tables' dataset is called.
const Dataset = "noaa_lightning"

// Synthetic are the tables that generated years are published in: lightning_1987 and so on, or with BigQuery3 the one
// lightning_strikes.
func Synthetic(f synth.Format, from, to int, scale float64) []Table {
	if f == synth.BigQuery3 {
		return []Table{{Dataset: Dataset, Name: "lightning_strikes", Format: f, From: from, To: to, Scale: scale}}
	}
	var tables []Table
	for year := from; year <= to; year++ {
		tables = append(tables, Table{Dataset: Dataset, Name: "lightning_" + strconv.Itoa(year), Format: f, From: year, To: year, Scale: scale})
	}
	return tables
}

func (t *Table) synthetic() bool { return len(t.Files) == 0 }

func (t *Table) description() string {
	if t.synthetic() {
		return fmt.Sprintf("%s (%d..%d, seed %d, scale %v)", synth.Marker, t.From, t.To, t.Seed, t.Scale)
	}
	return fmt.Sprintf("rows of %d given files", len(t.Files))
}

// source hands out a table's rows by day.
type source interface {
	days() []synth.DayTotal // in order
	day(d tile.Day, each func(tile.Row) error) error
}

// loaded is a table with its rows in reach. It may be shared: each use opens a source of its own.
type loaded struct {
	Table
	totals   []synth.DayTotal
	rows     int64
	modified time.Time
	given    *tile.Table // of files
}

// load checks the table and reads its files.
func (t Table) load(ctx context.Context, log *slog.Logger) (*loaded, error) {
	if t.Dataset == "" || t.Name == "" {
		return nil, errors.New("a table has no dataset or no name")
	}
	if !slices.Contains([]synth.Format{synth.BigQuery1, synth.BigQuery2, synth.BigQuery3}, t.Format) {
		return nil, fmt.Errorf("table %s: format %q is not one of BigQuery's", t.Name, t.Format)
	}
	l := &loaded{Table: t, modified: time.Date(2021, 6, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	if t.synthetic() {
		err = l.expect()
	} else {
		err = l.read(ctx, log)
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	for _, d := range l.totals {
		l.rows += d.Rows
	}
	return l, nil
}

func (l *loaded) expect() error {
	if l.From > l.To {
		return fmt.Errorf("years %d..%d", l.From, l.To)
	}
	for year := l.From; year <= l.To; year++ {
		e, err := synth.Expect(l.spec(year))
		if err != nil {
			return err
		}
		l.totals = append(l.totals, e.Days...)
	}
	return nil
}

func (l *loaded) spec(year int) synth.Spec {
	return synth.Spec{Year: year, Seed: l.Seed, Scale: l.Scale}
}

func (l *loaded) read(ctx context.Context, log *slog.Logger) error {
	l.given = &tile.Table{}
	for _, path := range l.Files {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.ModTime().After(l.modified) {
			l.modified = info.ModTime()
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		report, err := nldn.Read(ctx, path, f, nldn.Options{AllowEmpty: true}, l.given, func(nldn.Bad) error { return nil })
		_ = f.Close() // read only
		if err != nil {
			return err
		}
		log.Info("file read", "table", l.Name, "file", path, "rows", report.Rows, "left_out", report.Quarantined)
	}
	l.given.Sort()
	for i := range l.given.Len() {
		r := l.given.Row(i)
		if n := len(l.totals); n == 0 || l.totals[n-1].Day != r.Day {
			l.totals = append(l.totals, synth.DayTotal{Day: r.Day})
		}
		d := &l.totals[len(l.totals)-1]
		d.Rows++
		d.Strikes += int64(r.Strikes)
	}
	return nil
}

func (l *loaded) open() source {
	if l.given != nil {
		return &givenSource{l}
	}
	return &synthSource{loaded: l}
}

type givenSource struct{ *loaded }

func (s *givenSource) days() []synth.DayTotal { return s.totals }

func (s *givenSource) day(d tile.Day, each func(tile.Row) error) error {
	at, _ := slices.BinarySearch(s.given.Day, d)
	for ; at < s.given.Len() && s.given.Day[at] == d; at++ {
		if err := each(s.given.Row(at)); err != nil {
			return err
		}
	}
	return nil
}

// synthSource keeps the year that it made last: days come mostly year by year.
type synthSource struct {
	*loaded
	number int
	year   *synth.Year
}

func (s *synthSource) days() []synth.DayTotal { return s.totals }

func (s *synthSource) day(d tile.Day, each func(tile.Row) error) error {
	number, _, _ := d.Date()
	if s.year == nil || s.number != number {
		year, err := synth.NewYear(s.spec(number))
		if err != nil {
			return err
		}
		s.year, s.number = year, number
	}
	_, err := s.year.Day(d, each)
	return err
}

// scrambled is the days of each year in another order, always the same: an extract job promises none.
func scrambled(days []synth.DayTotal) []synth.DayTotal {
	days = slices.Clone(days)
	r := rand.New(rand.NewPCG(1, uint64(len(days)))) //nolint:gosec // no secret
	for from := 0; from < len(days); {
		year, _, _ := days[from].Day.Date()
		to := from
		for ; to < len(days); to++ {
			if y, _, _ := days[to].Day.Date(); y != year {
				break
			}
		}
		r.Shuffle(to-from, func(i, j int) { days[from+i], days[from+j] = days[from+j], days[from+i] })
		from = to
	}
	return days
}
