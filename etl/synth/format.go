package synth

import (
	"fmt"
	"strconv"

	"github.com/duoflow/duoflow/etl/tile"
)

// Format is a text form in which the tiles are published.
type Format string

// The formats. BigQuery's tables have had three generations.
const (
	NCEI      Format = "ncei"       // #ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT
	BigQuery1 Format = "bigquery-1" // day DATE, number_of_strikes, center_point
	BigQuery2 Format = "bigquery-2" // date DATE, number_of_strikes, center_point_geom
	BigQuery3 Format = "bigquery-3" // date TIMESTAMP, number_of_strikes, center_point_geom, source_url, etl_timestamp
)

// Formats are all of them.
func Formats() []Format { return []Format{NCEI, BigQuery1, BigQuery2, BigQuery3} }

// SourceURL and ETLTime are in every row of the third generation: it has a place to say where a row is from.
const (
	SourceURL = "synthetic:duoflow/etl/synth"
	ETLTime   = "2021-06-01 00:00:00 UTC"
)

// Header is what stands before the rows, the end of its last line included.
func (f Format) Header() string {
	switch f {
	case NCEI:
		return "#" + Marker + "\n#lightning tile summaries of 0.1 degree, cloud-to-ground strikes a day (UTC)\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n"
	case BigQuery1:
		return "day,number_of_strikes,center_point\n"
	case BigQuery2:
		return "date,number_of_strikes,center_point_geom\n"
	case BigQuery3:
		return "date,number_of_strikes,center_point_geom,source_url,etl_timestamp\n"
	}
	return ""
}

// Encoder spells rows. The zero value is of no format; it is for one goroutine.
type Encoder struct {
	format Format
	day    tile.Day
	date   []byte // of day, with what follows it
}

// NewEncoder spells rows in a format.
func NewEncoder(f Format) (*Encoder, error) {
	if f.Header() == "" {
		return nil, fmt.Errorf("format %q is none of %v", f, Formats())
	}
	return &Encoder{format: f, day: -1}, nil
}

// Append adds a row's line to dst.
func (e *Encoder) Append(dst []byte, r tile.Row) []byte {
	if r.Day != e.day {
		e.turn(r.Day)
	}
	dst = append(dst, e.date...)
	if e.format == NCEI {
		dst = AppendTenths(dst, r.Lon10, true)
		dst = append(dst, ',')
		dst = AppendTenths(dst, r.Lat10, true)
		dst = append(dst, ',')
		dst = strconv.AppendInt(dst, int64(r.Strikes), 10)
		return append(dst, '\n')
	}
	dst = strconv.AppendInt(dst, int64(r.Strikes), 10)
	dst = append(dst, ',')
	dst = AppendPoint(dst, r)
	if e.format == BigQuery3 {
		dst = append(dst, ","+SourceURL+","+ETLTime...)
	}
	return append(dst, '\n')
}

func (e *Encoder) turn(d tile.Day) {
	e.day = d
	year, month, day := d.Date()
	switch e.format {
	case NCEI:
		e.date = fmt.Appendf(e.date[:0], "%04d%02d%02d,", year, month, day)
	case BigQuery3:
		e.date = fmt.Appendf(e.date[:0], "%s 00:00:00 UTC,", d)
	default:
		e.date = fmt.Appendf(e.date[:0], "%s,", d)
	}
}

// AppendPoint spells a tile's centre as BigQuery does a GEOGRAPHY: POINT(-75 27.1), whole numbers without a decimal.
func AppendPoint(dst []byte, r tile.Row) []byte {
	dst = append(dst, "POINT("...)
	dst = AppendTenths(dst, r.Lon10, false)
	dst = append(dst, ' ')
	dst = AppendTenths(dst, r.Lat10, false)
	return append(dst, ')')
}

// AppendTenths spells tenths of a degree as degrees; always says whether whole numbers get a decimal too.
func AppendTenths(dst []byte, tenths int16, always bool) []byte {
	n := int(tenths)
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	dst = strconv.AppendInt(dst, int64(n/10), 10)
	if n%10 != 0 || always {
		dst = append(dst, '.', byte('0'+n%10))
	}
	return dst
}
