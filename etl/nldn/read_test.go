package nldn_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

// The same two tiles in every form.
const (
	ncei = "# NLDN\n# tiles\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n20180829,-95.5,28.1,12\n20180830,-75,27,3\n"
	rest = "DAY,CENTERLAT,CENTERLON,FCOUNT\n20180829,28.1,-95.5,12\n20180830,27.0,-75.0,3\n"
	bq   = "date,number_of_strikes,center_point_geom\n2018-08-29,12,POINT(-95.5 28.1)\n2018-08-30,3,POINT(-75 27)\n"
)

// Pieces of the tables below.
var (
	tabs     = strings.ReplaceAll(bq, ",", "\t")
	at30     = strings.Index(bq, "2018-08-30")
	aRow     = "20180829,-95.5,28.1,12\n"
	aYear    = ncei[:strings.Index(ncei, "2018")] + "20170829,-95.5,28.1,12\n" // begins with a row of another
	none     nldn.Options
	longLine = "#" + strings.Repeat("a", 4095) // the longest that is allowed
)

func day(s string) tile.Day {
	d, err := tile.ParseDay(s)
	if err != nil {
		panic(err)
	}
	return d
}

func two() []tile.Row {
	return []tile.Row{
		{Day: day("2018-08-29"), Lat10: 281, Lon10: -955, Strikes: 12},
		{Day: day("2018-08-30"), Lat10: 270, Lon10: -750, Strikes: 3},
	}
}

func rows(t *tile.Table) []tile.Row {
	out := make([]tile.Row, t.Len())
	for i := range out {
		out[i] = t.Row(i)
	}
	return out
}

// outcome is all that a reading gives.
type outcome struct {
	report nldn.Report
	rows   []tile.Row
	bad    []nldn.Bad
	err    error
}

func read(t *testing.T, input string, o nldn.Options) outcome {
	t.Helper()
	var table tile.Table
	var out outcome
	out.report, out.err = nldn.Read(t.Context(), "f.csv", strings.NewReader(input), o, &table, func(b nldn.Bad) error {
		out.bad = append(out.bad, b)
		return nil
	})
	out.rows = rows(&table)
	if out.err == nil {
		balanced(t, out.report)
	} else if len(out.rows) != 0 {
		t.Errorf("%d rows count in spite of %v", len(out.rows), out.err)
	}
	return out
}

func balanced(t *testing.T, r nldn.Report) {
	t.Helper()
	if r.Lines != r.Rows+r.Duplicates+r.Quarantined+r.Comments+r.Headers {
		t.Errorf("a line is lost: %+v", r)
	}
	var byRule int64
	for _, n := range r.ByRule {
		byRule += n
	}
	if byRule != r.Quarantined {
		t.Errorf("rules do not add up: %+v", r)
	}
}

func zipped(members ...string) string {
	var b bytes.Buffer
	for _, m := range members {
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, m)
		_ = z.Close()
	}
	return b.String()
}

func wide(s string, little bool) string {
	var b bytes.Buffer
	for _, u := range utf16.Encode([]rune("\uFEFF" + s)) {
		if little {
			b.WriteByte(byte(u))
		}
		b.WriteByte(byte(u >> 8))
		if !little {
			b.WriteByte(byte(u))
		}
	}
	return b.String()
}

// sames are all that reads as the same two tiles.
var sames = []struct {
	name, input, encoding string
}{
	{"ncei", ncei, ""},
	{"ncei with its header taken for a header", "#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n20180829,-95.5,28.1,12\n20180830,-75.0,27.0,3\n", ""},
	{"ncei without the sign", "ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n20180829,-95.5,28.1,12\n20180830,-75.0,27.0,3\n", ""},
	{"rest, latitude first", rest, ""},
	{"bigquery 1, per year", strings.NewReplacer("date", "day", "_geom", "").Replace(bq), ""},
	{"bigquery 2, per year", bq, ""},
	{"bigquery 3, one table", "date,number_of_strikes,center_point_geom,source_url,etl_timestamp\n" +
		"2018-08-29 00:00:00 UTC,12,POINT(-95.5 28.1),https://www.ncei.noaa.gov/x.csv.gz,2021-07-16 20:05:31.123 UTC\n" +
		"2018-08-30 00:00:00 UTC,3,POINT(-75 27),,\n", ""},
	{"bigquery 3, json", `{"date":"2018-08-29 00:00:00 UTC","number_of_strikes":"12","center_point_geom":"POINT(-95.5 28.1)","source_url":"a\"b"}` + "\n" +
		`{ "date": "2018-08-30 00:00:00 UTC", "number_of_strikes": 3, "center_point_geom": "POINT(-75 27)", "etl_timestamp": null }` + "\n", ""},
	{"a course's file, place told twice", "date,center_point_geom,longitude,latitude,number_of_strikes\n" +
		"2018-08-29,POINT(-95.5 28.1),-95.5,28.1,12\n2018-08-30,POINT(-75 27),-75.0,27.0,3\n", ""},
	{"quoted", "\"date\",\"number_of_strikes\",\"center_point_geom\"\n\"2018-08-29\",12,\"POINT(-95.5 28.1)\"\n2018-08-30 , 3,\"POINT (-75.00 27)\"\n", ""},
	{"other order, extra columns", "x,center_point_geom,y,number_of_strikes,date\n,POINT(-95.5 28.1),\"a,\"\"b\",12,2018-08-29\n,POINT(-75 27),,3,2018-08-30\n", ""},

	{"comments", "\n# a\n" + strings.Replace(ncei, "20180830", "# among the rows\n  \n\t\n20180830", 1) + "# b", ""},
	{"mark", "\uFEFF" + bq, ""},
	{"carriage returns", strings.ReplaceAll(ncei, "\n", "\r\n"), ""},
	{"mixed", strings.Replace(strings.Replace(bq, "\n", "\r\n", 1), ")\n", ")\r\r\n", 1), ""},
	{"no final newline", strings.TrimSuffix(rest, "\n"), ""},
	{"appended", bq[:at30] + "\uFEFF" + bq[:strings.Index(bq, "2018-08-29")] + bq[at30:], ""},

	{"zipped", zipped(bq), ""},
	{"zipped in two, cut within a line", zipped(bq[:at30-4], bq[at30-4:]), ""},
	{"zipped, empty member", zipped(bq, ""), ""},

	{"tabs", tabs, "utf-8+tab"},
	{"little", wide(bq, true), "utf-16le"},
	{"big", wide(bq, false), "utf-16be"},
	{"little, tabs", wide(tabs, true), "utf-16le+tab"},
	{"little, no mark", wide(bq, true)[2:], "utf-16le"},
	{"big, no mark", wide(bq, false)[2:], "utf-16be"},
	{"little, zipped, tabs", zipped(wide(tabs, true)), "utf-16le+tab"},
	{"a character of two halves", wide(strings.Replace(bq, "2018-08-30", "# \U0001F329\n2018-08-30", 1), false), "utf-16be"},
	{"by its mark", wide(bq, true), "UTF-16"},
}

// TestSame: and what has an encoding is refused without it, with the hint that helps.
func TestSame(t *testing.T) {
	for _, c := range sames {
		t.Run(c.name, func(t *testing.T) {
			got := read(t, c.input, nldn.Options{Chunk: "2018", Encoding: c.encoding})
			if got.err != nil || len(got.bad) > 0 || !reflect.DeepEqual(got.rows, two()) {
				t.Fatalf("%+v", got)
			}
			zip, wide := strings.HasPrefix(c.input, "\x1f\x8b"), strings.HasPrefix(strings.ToLower(c.encoding), "utf-16")
			if got.report.Strikes != 15 || got.report.Rows != 2 || got.report.Compressed != zip {
				t.Errorf("%+v", got.report)
			}
			if !zip && !wide && got.report.Bytes != int64(len(c.input)) {
				t.Errorf("%d bytes of %d", got.report.Bytes, len(c.input))
			}
			unsaid := read(t, c.input, nldn.Options{})
			hint := "set source.encoding to " + strings.Replace(c.encoding, "UTF-16", "utf-16le", 1)
			if c.encoding != "" && (!errors.Is(unsaid.err, nldn.ErrEncoding) || !strings.HasSuffix(unsaid.err.Error(), hint)) {
				t.Errorf("without its encoding: %v", unsaid.err)
			}
		})
	}
}

// refusals are inputs of which nothing is read, by the rows of the specification of bad input.
var refusals = []struct {
	name, input string
	options     nldn.Options
	want        error
}{
	{"header/none", "20180829,-95.5,28.1,12\n", none, nldn.ErrHeader},
	{"header/renamed", "ZDAY,CENTERLON,CENTERLAT,HOW_MANY\n20180829,-95.5,28.1,12\n", none, nldn.ErrHeader},
	{"header/half a place", "ZDAY,CENTERLON,TOTAL_COUNT\n20180829,-95.5,12\n", none, nldn.ErrHeader},
	{"header/no place", "ZDAY,TOTAL_COUNT\n20180829,12\n", none, nldn.ErrHeader},
	{"header/no day", "CENTERLON,CENTERLAT,TOTAL_COUNT\n-95.5,28.1,12\n", none, nldn.ErrHeader},
	{"header/two days", "date,day,number_of_strikes,center_point\n", none, nldn.ErrHeader},
	{"header/changes on the way", ncei + "#ZDAY,CENTERLAT,CENTERLON,TOTAL_COUNT\n20180829,28.2,-95.5,12\n", none, nldn.ErrHeader},
	{"header/changes, no sign", ncei + rest, none, nldn.ErrHeader},
	{"header/json without count", `{"date":"2018-08-29","center_point":"POINT(-95.5 28.1)"}`, none, nldn.ErrHeader},
	{"header/json broken", `{"date":"2018-08-29",`, none, nldn.ErrHeader},
	{"header/among json", `{"date":"2018-08-29","strikes":1,"center_point":"POINT(-95.5 28.1)"}` + "\n" + rest, none, nldn.ErrHeader},

	{"encoding/unknown", bq, nldn.Options{Encoding: "latin-9"}, nldn.ErrEncoding},
	{"encoding/tab alone", bq, nldn.Options{Encoding: "+tab"}, nldn.ErrEncoding},
	{"encoding/no mark", bq, nldn.Options{Encoding: "utf-16"}, nldn.ErrEncoding},
	{"encoding/ends within", wide(bq, true) + "x", nldn.Options{Encoding: "utf-16"}, nldn.ErrEncoding},
	{"encoding/semicolons", strings.ReplaceAll(bq, ",", ";"), none, nldn.ErrEncoding},
	{"encoding/zip", "PK\x03\x04....", none, nldn.ErrEncoding},
	{"encoding/zipped twice", zipped(zipped(bq)), none, nldn.ErrEncoding},
	{"encoding/parquet", "PAR1....", none, nldn.ErrEncoding},

	{"empty/nothing", "", none, nldn.ErrEmpty},
	{"empty/newline", "\n", none, nldn.ErrEmpty},
	{"empty/comments", "# a\n# b", none, nldn.ErrEmpty},
	{"empty/header", "#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n", none, nldn.ErrEmpty},
	{"empty/zipped", zipped(""), none, nldn.ErrEmpty},

	{"limit/zeros", zipped(strings.Repeat("\x00", 16<<20)), none, nldn.ErrLimit},
	{"limit/newlines", zipped(strings.Repeat("\n", 4<<20)), nldn.Options{MaxRows: 1 << 20}, nldn.ErrLimit},
	{"limit/bytes", zipped(strings.Repeat("# a\n", 1<<20)), nldn.Options{MaxBytes: 1 << 20}, nldn.ErrLimit},
	{"limit/long line", ncei + longLine + "a", none, nldn.ErrLimit},
	{"limit/long line, ended", ncei + longLine + "a\n", none, nldn.ErrLimit},
	{"limit/lines", ncei, nldn.Options{MaxRows: 4}, nldn.ErrLimit},

	{"year/of 99 rows", aYear + strings.Repeat(aRow, 98), nldn.Options{Chunk: "2018"}, nldn.ErrForeign},
}

func TestRefused(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			if got := read(t, c.input, c.options); !errors.Is(got.err, c.want) {
				t.Errorf("got %v, want %v", got.err, c.want)
			}
			if !errors.Is(c.want, nldn.ErrEmpty) {
				return
			}
			if got := read(t, c.input, nldn.Options{AllowEmpty: true}); got.err != nil || got.report.Rows != 0 {
				t.Errorf("allowed: %+v", got)
			}
		})
	}
	got := read(t, "ZDAY,CENTERLON,CENTERLAT,HOW_MANY\n", none)
	if got.err == nil || !strings.Contains(got.err.Error(), `found "ZDAY,CENTERLON,CENTERLAT,HOW_MANY"`) || !strings.Contains(got.err.Error(), "expected") {
		t.Errorf("does not say what was found and expected: %v", got.err)
	}
}

// TestJustWithin: one less of what is refused.
func TestJustWithin(t *testing.T) {
	for name, c := range map[string]struct {
		input   string
		options nldn.Options
		rows    int
	}{
		"a long line":        {ncei + longLine, none, 2},
		"a long line, ended": {ncei + longLine + "\n", none, 2},
		"lines":              {ncei, nldn.Options{MaxRows: 5}, 2},
		"two files in one":   {zipped(ncei, ncei), none, 4},
		"1 in 100":           {aYear + strings.Repeat(aRow, 99), nldn.Options{Chunk: "2018"}, 99},
	} {
		if got := read(t, c.input, c.options); got.err != nil || len(got.rows) != c.rows {
			t.Errorf("%s: %d rows, %v", name, len(got.rows), got.err)
		}
	}
	if got := read(t, zipped(ncei, ncei), none); got.report.Headers != 2 {
		t.Errorf("two files in one: %+v", got.report)
	}
}

// rules are fields of one row that break a rule, or break none.
var rules = []struct {
	day, lon, lat, strikes string
	rule                   nldn.Rule
}{
	{"20180829", "-95.5", "28.1", "12", ""},
	{"2018-08-29", "-95.5", "28.1", "12", ""},
	{"2018-08-29 00:00:00", "-95.5", "28.1", "12", ""},
	{"2018-08-29 00:00:00 UTC", "-95.5", "28.1", "12", ""},
	{"2018-08-29T00:00:00Z", "-95.5", "28.1", "12", ""},
	{"2018-08-29 00:00:00.000000 UTC", "-95.5", "28.1", "12", ""},
	{"2018-08-29 00:00:00+00:00", "-95.5", "28.1", "12", ""},
	{"2018-08-29 00:00:01 UTC", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29 12:00:00", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29 00:00:00.5", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29 00:00:00.", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29 00:00:00 EST", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29 00:00:00-05:00", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-08-29x", "-95.5", "28.1", "12", nldn.RuleMidnight},
	{"2018-02-29", "-95.5", "28.1", "12", nldn.RuleDate},
	{"20181301", "-95.5", "28.1", "12", nldn.RuleDate},
	{"2018-8-29", "-95.5", "28.1", "12", nldn.RuleDate},
	{"08/29/2018", "-95.5", "28.1", "12", nldn.RuleDate},
	{"2018082", "-95.5", "28.1", "12", nldn.RuleDate},
	{"", "-95.5", "28.1", "12", nldn.RuleDate},
	{"2018-08-29", "-95.50", "28.100", "12", ""},
	{"2018-08-29", "-95", "28", "12", ""},
	{"2018-08-29", "west", "28.1", "12", nldn.RuleNumber},
	{"2018-08-29", "-95.5", "", "12", nldn.RuleNumber},
	{"2018-08-29", "-95.5", "28.", "12", nldn.RuleNumber},
	{"2018-08-29", "-.5", "28.1", "12", nldn.RuleNumber},
	{"2018-08-29", "-9.55e1", "28.1", "12", nldn.RuleNumber},
	{"2018-08-29", "NaN", "28.1", "12", nldn.RuleNumber},
	{"2018-08-29", "-95.55", "28.1", "12", nldn.RuleGrid},
	{"2018-08-29", "-95.5", "28.10001", "12", nldn.RuleGrid},
	{"2018-08-29", "95.5", "28.1", "12", nldn.RuleBox},
	{"2018-08-29", "28.1", "-95.5", "12", nldn.RuleBox},
	{"2018-08-29", "-160.1", "28.1", "12", nldn.RuleBox},
	{"2018-08-29", "-29.9", "28.1", "12", nldn.RuleBox},
	{"2018-08-29", "-95.5", "9.9", "12", nldn.RuleBox},
	{"2018-08-29", "-95.5", "65.1", "12", nldn.RuleBox},
	{"2018-08-29", "-95.5", "123456789", "12", nldn.RuleBox},
	{"2018-08-29", "-160.0", "65", "12", ""},
	{"2018-08-29", "-30.0", "10", "12", ""},
	{"2018-08-29", "-95.5", "28.1", "3.0", ""},
	{"2018-08-29", "-95.5", "28.1", "3.5", nldn.RuleCount},
	{"2018-08-29", "-95.5", "28.1", "3.", nldn.RuleCount},
	{"2018-08-29", "-95.5", "28.1", "", nldn.RuleCount},
	{"2018-08-29", "-95.5", "28.1", "many", nldn.RuleCount},
	{"2018-08-29", "-95.5", "28.1", "1e3", nldn.RuleCount},
	{"2018-08-29", "-95.5", "28.1", "0", nldn.RuleRange},
	{"2018-08-29", "-95.5", "28.1", "-1", nldn.RuleRange},
	{"2018-08-29", "-95.5", "28.1", "100000", ""},
	{"2018-08-29", "-95.5", "28.1", "100001", nldn.RuleRange},
	{"2018-08-29", "-95.5", "28.1", "99999999999999999999", nldn.RuleRange},
	{"2018-08-29", "-95.5", "28.1", "1,2", nldn.RuleFields},
	{"2018-08-29,", "-95.5", "28.1", "12", nldn.RuleFields},
	{"2018-08-29", "-95.5", "\"28.1", "12", nldn.RuleQuote},
	{"2018-08-29", "-95.5", "28\".1\"", "12", nldn.RuleQuote},
	{"2018-08-29", "-95.5", "\"28.1\"x", "12", nldn.RuleQuote},
	{"2018-08-29", "-95.5", "28.1\x00", "12", nldn.RuleNumber},
}

func TestRulesOfALine(t *testing.T) {
	for _, c := range rules {
		line := fmt.Sprintf("%s,%s,%s,%s", c.day, c.lon, c.lat, c.strikes)
		got := read(t, ncei+line+"\n", nldn.Options{})
		point := read(t, bq+fmt.Sprintf("%s,%s,POINT(%s %s)\n", c.day, c.strikes, c.lon, c.lat), nldn.Options{})
		if got.err != nil || point.err != nil {
			t.Errorf("%q: %v, %v", line, got.err, point.err)
			continue
		}
		if c.rule == "" {
			if len(got.rows) != 3 || len(point.rows) != 3 || got.rows[2] != point.rows[2] {
				t.Errorf("%q: %v, as a point %v", line, got, point)
			}
			continue
		}
		want := nldn.Bad{File: "f.csv", Line: 6, Rule: c.rule, Text: strings.ReplaceAll(line, "\x00", "\uFFFD")}
		if len(got.bad) != 1 || got.bad[0] != want || len(got.rows) != 2 || got.report.ByRule[c.rule] != 1 {
			t.Errorf("%q: %+v, want %v", line, got, want)
		}
		if len(point.bad) != 1 || len(point.rows) != 2 {
			t.Errorf("%q as a point: %+v", line, point)
		}
	}
}

func TestDates(t *testing.T) {
	for _, c := range rules {
		got := read(t, ncei+c.day+",-95.5,28.1,12\n", nldn.Options{})
		good := c.rule != nldn.RuleDate && c.rule != nldn.RuleMidnight && !strings.Contains(c.day, ",")
		if good != (len(got.rows) == 3) {
			t.Errorf("%q: %+v", c.day, got)
		}
		if good && got.rows[2].Day != day("2018-08-29") {
			t.Errorf("%q is %v", c.day, got.rows[2].Day)
		}
	}
}

func TestTruncatedGzipAndCRCMismatch(t *testing.T) {
	var long strings.Builder
	long.WriteString(ncei)
	for i := range 60000 {
		fmt.Fprintf(&long, "20180829,-%d.%d,%d.%d,%d\n", 60+i/1000, i%10, 20+i/10%40, i%10, 1+i*7919%2000)
	}
	whole := zipped(long.String())
	if got := read(t, whole, nldn.Options{}); got.err != nil || len(got.rows) != 60002 || !got.report.Compressed {
		t.Fatalf("whole: %d rows, %v", len(got.rows), got.err)
	}
	for n := 2; n < len(whole); n += 1 + len(whole)/50 {
		if got := read(t, whole[:n], nldn.Options{}); !errors.Is(got.err, nldn.ErrDamaged) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(whole), got.err)
		}
	}
	if got := read(t, whole[:len(whole)-1], nldn.Options{}); !errors.Is(got.err, nldn.ErrDamaged) {
		t.Errorf("all but one byte: %v", got.err)
	}
	for _, at := range []int{len(whole) - 8, len(whole) - 1, len(whole) / 2} {
		flipped := []byte(whole)
		flipped[at] ^= 1
		got := read(t, string(flipped), nldn.Options{})
		if got.err == nil {
			t.Errorf("a bit of byte %d is wrong: accepted", at)
		}
	}
	checksum := []byte(whole)
	checksum[len(checksum)-8] ^= 1
	if got := read(t, string(checksum), nldn.Options{}); !errors.Is(got.err, nldn.ErrDamaged) {
		t.Errorf("wrong checksum: %v", got.err)
	}
	if got := read(t, whole+"rubbish behind it", nldn.Options{}); !errors.Is(got.err, nldn.ErrDamaged) {
		t.Errorf("rubbish behind: %v", got.err)
	}
}

func TestAFailureOfTheReaderIsNotDamage(t *testing.T) {
	broken := errors.New("connection lost")
	for _, whole := range []string{ncei, zipped(ncei)} {
		var table tile.Table
		table.Append(two()[0])
		r := io.MultiReader(strings.NewReader(whole[:len(whole)-9]), iotest.ErrReader(broken))
		_, err := nldn.Read(t.Context(), "f", r, nldn.Options{}, &table, nil)
		if !errors.Is(err, broken) || errors.Is(err, nldn.ErrDamaged) || table.Len() != 1 {
			t.Errorf("%v, %d rows", err, table.Len())
		}
	}
}

func TestRowOfAnotherChunk(t *testing.T) {
	got := read(t, aYear+strings.Repeat(aRow, 99), nldn.Options{Chunk: "2018"})
	if len(got.bad) != 1 || got.bad[0].Rule != nldn.RuleChunk || got.bad[0].Line != 4 {
		t.Errorf("1 in 100: %+v", got.bad)
	}
	month := strings.Repeat("20180831,-95.5,28.1,12\n", 200) + "20180901,-95.5,28.1,12\n"
	if got := read(t, ncei+month, nldn.Options{Chunk: "2018-08"}); got.report.ByRule[nldn.RuleChunk] != 1 {
		t.Errorf("a row of another month: %+v", got.report)
	}
	if got := read(t, ncei, nldn.Options{Chunk: "soon"}); got.err == nil {
		t.Error("a chunk called soon was read")
	}
}

func TestQuarantineMayStopTheReading(t *testing.T) {
	full := errors.New("quarantine is full")
	var table tile.Table
	_, err := nldn.Read(t.Context(), "f", strings.NewReader(ncei+"x\n"), nldn.Options{}, &table, func(nldn.Bad) error { return full })
	if !errors.Is(err, full) || table.Len() != 0 {
		t.Errorf("%v, %d rows", err, table.Len())
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var table tile.Table
	if _, err := nldn.Read(ctx, "f", strings.NewReader(ncei), nldn.Options{}, &table, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := nldn.Read(t.Context(), "f", stuck{}, nldn.Options{}, &table, nil); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestTextOfBadLinesIsClipped(t *testing.T) {
	got := read(t, ncei+strings.Repeat("\xff", 3000)+"\n"+strings.Repeat("ä", 300)+"\n", nldn.Options{})
	if len(got.bad) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, b := range got.bad {
		if len(b.Text) > 200 || len(b.Text) == 0 || strings.ToValidUTF8(b.Text, "") != b.Text {
			t.Errorf("%d bytes: %q", len(b.Text), b.Text)
		}
	}
	if s := got.bad[0].String(); !strings.HasPrefix(s, "f.csv:6: fields: ") {
		t.Error(s)
	}
}

func TestRealRows(t *testing.T) {
	text, err := os.ReadFile("testdata/real-rows.csv")
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, string(text), nldn.Options{})
	if got.err != nil || len(got.bad) > 0 || got.report.Rows != 42 || got.report.Strikes != 21395 {
		t.Fatalf("%+v", got.report)
	}
	highest := slices.MaxFunc(got.rows, func(a, b tile.Row) int { return int(a.Strikes - b.Strikes) })
	if want := (tile.Row{Day: day("2018-08-20"), Lat10: 355, Lon10: -925, Strikes: 2211}); highest != want {
		t.Errorf("the highest of 2018 is %+v, want %+v", highest, want)
	}
	if got := read(t, string(text), nldn.Options{Chunk: "2018"}); !errors.Is(got.err, nldn.ErrForeign) {
		t.Errorf("five of 42 are of 2016: %v", got.err)
	}
}
