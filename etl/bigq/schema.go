package bigq

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/bigquery"
)

// ErrSchema: the table has other columns than any that are known.
var ErrSchema = errors.New("unknown schema")

// Schema says which columns of the table mean what. There have been three generations of it.
type Schema struct {
	Generation int      // 1: day and center_point; 2: date and center_point_geom; 3: that with source_url and etl_timestamp
	Day        string   // "day" or "date"
	DayType    string   // DATE or TIMESTAMP
	Strikes    string   // "number_of_strikes"
	Point      string   // "center_point" or "center_point_geom"
	PointType  string   // STRING or GEOGRAPHY; both are spelled POINT(lon lat) when exported
	Extra      []string // columns that nobody knows; they are no error
}

// wanted is what a schema must have: one column of each line.
var wanted = []struct {
	names []string
	types []bigquery.FieldType
}{
	{[]string{"day", "date"}, []bigquery.FieldType{bigquery.DateFieldType, bigquery.TimestampFieldType}},
	{[]string{"number_of_strikes"}, []bigquery.FieldType{bigquery.IntegerFieldType}},
	{[]string{"center_point", "center_point_geom"}, []bigquery.FieldType{bigquery.StringFieldType, bigquery.GeographyFieldType}},
}

// ours are columns of the third generation that are of no use here.
var ours = []string{"source_url", "etl_timestamp"}

const expected = "day or date DATE or TIMESTAMP, number_of_strikes INTEGER, center_point or center_point_geom STRING or GEOGRAPHY"

// understand maps a table's columns.
func understand(table string, found bigquery.Schema) (Schema, error) {
	var picked []*bigquery.FieldSchema
	var s Schema
	known := 0
	for _, w := range wanted {
		var fits []*bigquery.FieldSchema
		for _, f := range found {
			if slices.Contains(w.names, strings.ToLower(f.Name)) && slices.Contains(w.types, f.Type) && !f.Repeated {
				fits = append(fits, f)
			}
		}
		if len(fits) != 1 {
			return Schema{}, fmt.Errorf("table %s: %w: found %s; expected %s", table, ErrSchema, spell(found), expected)
		}
		picked = append(picked, fits[0])
	}
	for _, f := range found {
		switch {
		case slices.Contains(picked, f):
		case slices.Contains(ours, f.Name):
			known++
		default:
			s.Extra = append(s.Extra, f.Name)
		}
	}
	s.Day, s.DayType, s.Strikes = picked[0].Name, string(picked[0].Type), picked[1].Name
	s.Point, s.PointType = picked[2].Name, string(picked[2].Type)
	switch {
	case s.Point == "center_point":
		s.Generation = 1
	case known == 0:
		s.Generation = 2
	default:
		s.Generation = 3
	}
	return s, nil
}

func spell(found bigquery.Schema) string {
	var columns []string
	for _, f := range found {
		text := f.Name + " " + string(f.Type)
		if f.Repeated {
			text += " REPEATED"
		}
		columns = append(columns, text)
	}
	if columns == nil {
		return "no columns"
	}
	return strings.Join(columns, ", ")
}
