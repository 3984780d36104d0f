package sandbox

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// column is one of a table.
type column struct {
	name, kind string // kind as the REST API names it: DATE, TIMESTAMP, INTEGER, GEOGRAPHY, STRING
	bytes      int64  // of a value, as BigQuery bills it
	csv        func(dst []byte, r tile.Row) []byte
	value      func(r tile.Row, micros bool) string // in tabledata.list
}

// columnsOf are the columns of a generation of tables.
func columnsOf(f synth.Format) []column {
	date := column{name: "date", kind: "DATE", bytes: 8, csv: appendDate, value: func(r tile.Row, _ bool) string { return r.Day.String() }}
	strikes := column{
		name: "number_of_strikes", kind: "INTEGER", bytes: 8,
		csv:   func(dst []byte, r tile.Row) []byte { return strconv.AppendInt(dst, int64(r.Strikes), 10) },
		value: func(r tile.Row, _ bool) string { return strconv.Itoa(int(r.Strikes)) },
	}
	point := column{
		name: "center_point_geom", kind: "GEOGRAPHY", bytes: 16, csv: synth.AppendPoint,
		value: func(r tile.Row, _ bool) string { return string(synth.AppendPoint(nil, r)) },
	}
	if f == synth.BigQuery1 {
		date.name, point.name = "day", "center_point"
	}
	if f != synth.BigQuery3 {
		return []column{date, strikes, point}
	}
	when := stamp("date", func(r tile.Row) int64 { return r.Day.Time().Unix() })
	url := column{
		name: "source_url", kind: "STRING", bytes: 2 + int64(len(synth.SourceURL)),
		csv:   func(dst []byte, _ tile.Row) []byte { return append(dst, synth.SourceURL...) },
		value: func(tile.Row, bool) string { return synth.SourceURL },
	}
	return []column{when, strikes, point, url, stamp("etl_timestamp", func(tile.Row) int64 { return etlTime })}
}

const etlTime = 1622505600 // synth.ETLTime

// stamp is a column of type TIMESTAMP that has whole seconds.
func stamp(name string, seconds func(tile.Row) int64) column {
	return column{
		name: name, kind: "TIMESTAMP", bytes: 8,
		csv: func(dst []byte, r tile.Row) []byte {
			d := tile.Day(seconds(r) / 86400)
			return append(appendDate(dst, tile.Row{Day: d}), " 00:00:00 UTC"...)
		},
		value: func(r tile.Row, micros bool) string {
			if micros { // the Go client asks for them
				return strconv.FormatInt(seconds(r)*1e6, 10)
			}
			return strconv.FormatFloat(float64(seconds(r)), 'E', -1, 64)
		},
	}
}

func appendDate(dst []byte, r tile.Row) []byte {
	year, month, day := r.Day.Date()
	dst = strconv.AppendInt(dst, int64(year), 10)
	return append(dst, '-', byte('0'+month/10), byte('0'+month%10), '-', byte('0'+day/10), byte('0'+day%10))
}

func schemaOf(columns []column) *bq.TableSchema {
	var s bq.TableSchema
	for _, c := range columns {
		s.Fields = append(s.Fields, &bq.TableFieldSchema{Name: c.name, Type: c.kind, Mode: "NULLABLE"})
	}
	return &s
}

// find is the column of a name, in any case, as BigQuery takes it.
func find(columns []column, name string) (column, bool) {
	for _, c := range columns {
		if strings.EqualFold(c.name, name) {
			return c, true
		}
	}
	return column{}, false
}

// order compares two rows of one day.
type order func(a, b tile.Row) int

// orderOf is an ORDER BY over columns and, because BigQuery does not order by places, ST_X, ST_Y and ST_ASTEXT of one.
func orderOf(columns []column, term string) (order, error) {
	function, inner, called := strings.Cut(strings.TrimSuffix(term, ")"), "(")
	name := term
	if called {
		name = strings.TrimSpace(inner)
	}
	c, known := find(columns, strings.Trim(name, "`"))
	switch {
	case !known:
		return nil, fmt.Errorf("Unrecognized name: %s", name) //nolint:revive,staticcheck // BigQuery's words
	case !called && c.kind == "GEOGRAPHY":
		return nil, fmt.Errorf("ORDER BY does not support expressions of type GEOGRAPHY") //nolint:revive,staticcheck // BigQuery's words
	case !called && c.kind == "INTEGER":
		return func(a, b tile.Row) int { return cmp.Compare(a.Strikes, b.Strikes) }, nil
	case !called:
		return func(tile.Row, tile.Row) int { return 0 }, nil // of one day, or the same in all rows
	case c.kind == "GEOGRAPHY" && strings.EqualFold(function, "ST_X"):
		return func(a, b tile.Row) int { return cmp.Compare(a.Lon10, b.Lon10) }, nil
	case c.kind == "GEOGRAPHY" && strings.EqualFold(function, "ST_Y"):
		return func(a, b tile.Row) int { return cmp.Compare(a.Lat10, b.Lat10) }, nil
	case c.kind == "GEOGRAPHY" && strings.EqualFold(function, "ST_ASTEXT"):
		return func(a, b tile.Row) int {
			return cmp.Compare(string(synth.AppendPoint(nil, a)), string(synth.AppendPoint(nil, b)))
		}, nil
	}
	return nil, fmt.Errorf("the sandbox does not order by %s", term)
}
