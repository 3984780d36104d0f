package nldn

import (
	"bytes"
	"compress/gzip"
	"reflect"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/tile"
)

// seeds are files that lead the fuzzer into every branch.
var seeds = []string{
	"# NLDN\n# tiles\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n20180829,-95.5,28.1,12\n20180830,-75,27,3\r\n\n# end",
	"DAY,CENTERLAT,CENTERLON,FCOUNT\n20180829,28.1,-95.5,12\n20180829,28.1,-95.5,13\n20180829,28.1,-95.5,12",
	"\uFEFFdate,number_of_strikes,center_point_geom,source_url,etl_timestamp\n2018-08-29 00:00:00 UTC,12,POINT(-95.5 28.1),,\n\"2018-08-29\",3.0,\"POINT (-95.5 28.1)\",\"\"\"\",x\n",
	"{\"date\":\"2018-08-29\",\"number_of_strikes\":\"12\",\"center_point\":\"POINT(-95.5 28.1)\"}\n{\"date\":null}\n{\"da\\u0074e\":\"2018-08-29\",\"number_of_strikes\":1,\"center_point\":\"POINT(-75 27)\"}\n{}\nx",
	"date,lon,lat,center_point,strikes\n2018-08-29,-95.5,28.1,POINT(-95.5 28.1),1\n2018-08-29,-95.5,28.1,POINT(-95.6 28.1),1\n",
	"source_url,day,lon,lat,strikes\n#x,2018-08-29,-95.5,28.1,1\nx,2018-08-29,-95.5,28.1,1\n",
	"\xff\xfed\x00a\x00", "\x00", "a\tb", "PK\x03\x04",
}

// FuzzRead proves that no input makes Read panic or lose a line: every one is a row, a duplicate, bad, a comment or a
// header, and every row lies where rows may lie. zip sends it through gzip.
func FuzzRead(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), true, "")
		f.Add([]byte(s), false, "")
	}
	f.Add([]byte("\xff\xfed\x00a\x00"), false, "utf-16")
	f.Add([]byte(strings.ReplaceAll(seeds[0], ",", "\t")), false, "utf-8+tab")
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), false, "")
	f.Fuzz(func(t *testing.T, input []byte, zip bool, encoding string) {
		file := input
		if zip {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(input)
			_ = z.Close()
			file = b.Bytes()
		}
		var bad int64
		quarantine := func(b Bad) error {
			bad++
			if b.File != "f" || b.Line < 1 || b.Rule == "" || len(b.Text) > maxText || strings.ToValidUTF8(b.Text, "") != b.Text || strings.Contains(b.Text, "\x00") {
				t.Fatalf("%#v", b)
			}
			return nil
		}
		var table tile.Table
		r, err := Read(t.Context(), "f", bytes.NewReader(file), Options{Encoding: encoding, AllowEmpty: true}, &table, quarantine)
		if err != nil {
			if table.Len() != 0 || !reflect.DeepEqual(r, Report{}) {
				t.Fatalf("%v, but %d rows, %+v", err, table.Len(), r)
			}
			return
		}
		lines := int64(bytes.Count(input, []byte("\n")))
		if len(input) > 0 && input[len(input)-1] != '\n' {
			lines++
		}
		if (zip || !r.Compressed) && !strings.HasPrefix(strings.ToLower(encoding), "utf-16") && r.Lines != lines {
			t.Fatalf("%d lines, the report says %d", lines, r.Lines)
		}
		check(t, &table, r, bad)
		sum, err := Finish(&table, []Report{r}, quarantine)
		if err != nil || sum.Lines != r.Lines || !settled(&table) {
			t.Fatalf("%v: %+v, before %+v", err, sum, r)
		}
		check(t, &table, sum, bad)
	})
}

func check(t *testing.T, table *tile.Table, r Report, bad int64) {
	t.Helper()
	sum := table.Totals()
	if r.Lines != r.Rows+r.Duplicates+r.Quarantined+r.Comments+r.Headers || r.Rows != sum.Rows || r.Strikes != sum.Strikes || r.Quarantined != bad {
		t.Fatalf("%+v, totals %+v, %d bad", r, sum, bad)
	}
	for i := range table.Len() {
		row := table.Row(i)
		if row.Strikes < 1 || row.Strikes > tile.MaxStrikes || row.Lat10 < tile.MinLat10 || row.Lat10 > tile.MaxLat10 || row.Lon10 < tile.MinLon10 || row.Lon10 > tile.MaxLon10 {
			t.Fatalf("%+v", row)
		}
	}
}

// FuzzQuick proves that what quick reads, careful reads the same way: quick may only be faster.
func FuzzQuick(f *testing.F) {
	headers := []string{
		"ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT", "DAY,CENTERLAT,CENTERLON,FCOUNT", "date,number_of_strikes,center_point_geom",
		"date,number_of_strikes,center_point_geom,source_url,etl_timestamp", "x,center_point,y,strikes,date",
	}
	for i, line := range []string{
		"20180829,-95.5,28.1,12", "20180829,28.1,-95.5,12", "2018-08-29,12,POINT(-95.5 28.1)", "2018-08-29 00:00:00 UTC,12,POINT(-95.50 28),a,b",
		"a,POINT(-95.5 28.1),,12,2018-08-29", "#,POINT(-95.5 28.1),,12,2018-08-29", ",-95.5,28.1,12",
	} {
		f.Add(byte(i), []byte(line), []byte(line))
	}
	f.Fuzz(func(t *testing.T, header byte, before, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 || bytes.IndexByte(before, '\n') >= 0 {
			return // lines have none
		}
		p := &parser{comma: ','}
		if err := p.expect(""); err != nil {
			t.Fatal(err)
		}
		l, why := headerOf([]byte(headers[int(header)%len(headers)]), ',')
		if why != "" {
			t.Fatal(why)
		}
		p.learn(l)
		p.quick(before) // leaves its day
		row, ok := p.quick(line)
		if !ok {
			return
		}
		if slow, rule := p.careful(line); rule != "" || slow != row || line[0] == '#' || len(bytes.TrimSpace(line)) == 0 {
			t.Fatalf("%q: quick %v, careful %v, %s", line, row, slow, rule)
		}
	})
}
