package nldn_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

// benchRows is what one reading has; a year has 3.3 million.
const benchRows = 1_000_000

// storms are rows as a year has them: by days, in patches, few strikes mostly. Returned are the bytes of a file of NCEI
// and of BigQuery, compressed, and the strikes in it. 1,000,000 rows take 3.5 MB as NCEI spells them; real files take 3.6
// to 4 bytes a row as well.
func storms() (ncei, bigquery []byte, strikes int64) {
	var a, b bytes.Buffer
	za, zb := gzip.NewWriter(&a), gzip.NewWriter(&b)
	wa, wb := bufio.NewWriter(za), bufio.NewWriter(zb)
	_, _ = wa.WriteString("# NLDN\n# tiles\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n")
	_, _ = wb.WriteString("date,number_of_strikes,center_point_geom\n")
	random := rand.New(rand.NewPCG(1, 2))
	r := tile.Row{Day: 17532}
	for n := 0; n < benchRows; {
		r.Lon10, r.Lat10 = int16(-1200+random.IntN(500)), int16(250+random.IntN(200))
		for range 10 + random.IntN(300) { // a patch, along its rows
			if r.Lon10++; random.IntN(12) == 0 {
				r.Lat10, r.Lon10 = r.Lat10+1, r.Lon10-int16(random.IntN(20))
			}
			r.Strikes = int32(1 + math.Exp(random.NormFloat64()*1.3+1))
			strikes += int64(r.Strikes)
			line(wa, wb, r)
			n++
		}
		if n%2740 < 150 {
			r.Day++
		}
	}
	for _, c := range []interface{ Flush() error }{wa, wb} {
		_ = c.Flush()
	}
	_, _ = za.Close(), zb.Close()
	return a.Bytes(), b.Bytes(), strikes
}

func line(ncei, bigquery *bufio.Writer, r tile.Row) {
	lon, lat, n := strconv.FormatFloat(float64(r.Lon10)/10, 'f', 1, 64), strconv.FormatFloat(float64(r.Lat10)/10, 'f', 1, 64), strconv.Itoa(int(r.Strikes))
	_, _ = ncei.WriteString(strings.ReplaceAll(r.Day.String(), "-", "") + "," + lon + "," + lat + "," + n + "\n")
	_, _ = bigquery.WriteString(r.Day.String() + "," + n + ",POINT(" + strings.TrimSuffix(lon, ".0") + " " + strings.TrimSuffix(lat, ".0") + ")\n")
}

// bench reads the same bytes again and again and reports rows a second.
func bench(b *testing.B, input []byte, strikes int64, read func(io.Reader, *tile.Table) error) {
	b.Helper()
	var table tile.Table
	table.Grow(2 * benchRows)
	b.ReportAllocs()
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		table.Truncate(0)
		if err := read(bytes.NewReader(input), &table); err != nil {
			b.Fatal(err)
		}
	}
	if sum := table.Totals(); sum.Strikes != strikes {
		b.Fatalf("%+v, want %d strikes", sum, strikes)
	}
	b.ReportMetric(float64(table.Len())*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
	b.ReportMetric(float64(len(input))/float64(table.Len()), "gzB/row")
}

// BenchmarkCSVGzip is the goal of 5 million rows a second and core, beside what a program of the standard library alone
// would do: these two check nothing but the syntax of numbers.
func BenchmarkCSVGzip(b *testing.B) {
	ncei, bigquery, strikes := storms()
	ours := func(r io.Reader, t *tile.Table) error {
		_, err := nldn.Read(b.Context(), "f", r, nldn.Options{Chunk: "2018", AllowEmpty: true}, t, func(bad nldn.Bad) error { return errors.New(bad.String()) })
		return err
	}
	b.Run("nldn/ncei", func(b *testing.B) { bench(b, ncei, strikes, ours) })
	b.Run("nldn/bigquery", func(b *testing.B) { bench(b, bigquery, strikes, ours) })
	b.Run("std-csv/ncei", func(b *testing.B) { bench(b, ncei, strikes, withCSV) })
	b.Run("std-scanner/ncei", func(b *testing.B) { bench(b, ncei, strikes, withScanner) })
}

func withCSV(r io.Reader, t *tile.Table) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	c := csv.NewReader(z)
	c.Comment, c.ReuseRecord, c.FieldsPerRecord = '#', true, 4
	for {
		f, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := numbers(f, t); err != nil {
			return err
		}
	}
}

func withScanner(r io.Reader, t *tile.Table) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	s := bufio.NewScanner(z)
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if err := numbers(strings.Split(s.Text(), ","), t); err != nil {
			return err
		}
	}
	return s.Err()
}

func numbers(f []string, t *tile.Table) error {
	date, err := strconv.Atoi(f[0])
	if err != nil {
		return err
	}
	lon, err := strconv.ParseFloat(f[1], 64)
	if err != nil {
		return err
	}
	lat, err := strconv.ParseFloat(f[2], 64)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(f[3])
	d, _ := tile.DayOf(date/10000, date/100%100, date%100)
	t.Append(tile.Row{Day: d, Lat10: int16(math.Round(lat * 10)), Lon10: int16(math.Round(lon * 10)), Strikes: int32(n)})
	return err
}
