package synth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

func day(t *testing.T, s string) tile.Day {
	t.Helper()
	d, err := tile.ParseDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func table(t *testing.T, s synth.Spec) *tile.Table {
	t.Helper()
	var out tile.Table
	totals, err := synth.Generate(t.Context(), s, func(r tile.Row) error { out.Append(r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Totals(); got != totals {
		t.Fatalf("%+v are said, %+v are there", totals, got)
	}
	return &out
}

func expect(t *testing.T, s synth.Spec) synth.Expected {
	t.Helper()
	e, err := synth.Expect(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPublishedYears(t *testing.T) {
	for year, want := range map[int]int64{
		1987: 7378836, 2009: 30100585, 2011: 31392058, 2012: 28807552, 2013: 27600898, 2014: 34919173,
		2015: 37894191, 2016: 41582229, 2017: 35095195, 2018: 44600989, 2020: 15620068,
	} {
		for seed := range uint64(3) {
			if got := expect(t, synth.Spec{Year: year, Seed: seed}).Totals.Strikes; got != want {
				t.Errorf("%d, seed %d: %d strikes, published are %d", year, seed, got, want)
			}
		}
	}
}

func TestPublishedMonthsAndQuarters(t *testing.T) {
	months := map[int]map[int]int64{
		2016: {1: 313595, 2: 312676, 3: 2057527, 4: 2636427, 5: 5800500, 8: 7250442, 12: 316450},
		2017: {4: 3819075, 8: 6021702},
		2018: {1: 860045, 2: 2071315, 3: 854168, 4: 1524339, 5: 4166726, 6: 6445083, 7: 8320400, 8: 15525255, 9: 3018336, 10: 1093962, 11: 409263, 12: 312097},
		2019: {12: 209166},
	}
	for year, known := range months {
		e := expect(t, synth.Spec{Year: year, Seed: 5})
		for month, want := range known {
			if got := e.Months[month-1].Strikes; got != want {
				t.Errorf("%d-%02d: %d strikes, published are %d", year, month, got, want)
			}
		}
	}
	e := expect(t, synth.Spec{Year: 2009})
	for q, want := range []int64{1028056, 12364522, 15139666, 1568341} {
		if got := e.Months[3*q].Strikes + e.Months[3*q+1].Strikes + e.Months[3*q+2].Strikes; got != want {
			t.Errorf("quarter %d of 2009: %d strikes, published are %d", q+1, got, want)
		}
	}
}

func TestMeanAndMedianOfAllYears(t *testing.T) {
	var years []int64
	var sum int64
	for year := synth.FirstYear; year <= synth.LastYear; year++ {
		e := expect(t, synth.Spec{Year: year})
		n := e.Totals.Strikes
		if year == 2019 {
			n = e.Months[11].Strikes // all that the published mean had of it
		}
		sum += n
		years = append(years, n)
		if lead := e.Totals.First; lead != day(t, fmt.Sprintf("%d-01-01", year)) {
			t.Errorf("%d begins on %s", year, lead)
		}
	}
	slices.Sort(years)
	if mean := float64(sum) / 34e6; len(years) != 34 || mean < 26.7 || mean > 26.9 {
		t.Errorf("mean %.2f million of %d years, published is 26.8 of 34", mean, len(years))
	}
	if median := float64(years[16]+years[17]) / 2e6; median < 28.2 || median > 28.4 {
		t.Errorf("median %.2f million, published is 28.3", median)
	}
}

func TestDaysOf2018(t *testing.T) {
	strikes := map[tile.Day]int64{}
	var all []int64
	for _, d := range expect(t, synth.Spec{Year: 2018, Seed: 1}).Days {
		strikes[d.Day] = d.Strikes
		all = append(all, d.Strikes)
	}
	top := map[string]int64{
		"2018-08-29": 1070457, "2018-08-17": 969774, "2018-08-28": 917199, "2018-08-27": 824589, "2018-08-30": 802170,
		"2018-08-19": 786225, "2018-08-18": 741180, "2018-08-16": 734475, "2018-08-31": 723624, "2018-08-15": 673455,
	}
	for name, want := range top {
		if got := strikes[day(t, name)]; got != want {
			t.Errorf("%s: %d strikes, published are %d", name, got, want)
		}
	}
	slices.Sort(all)
	if highest := all[len(all)-len(top)-1]; highest >= 673455 {
		t.Errorf("a day that is none of the top ten has %d", highest)
	}
	for _, missing := range []string{"2018-06-19", "2018-06-20", "2018-06-21", "2018-06-22", "2018-09-18", "2018-09-19", "2018-12-01", "2018-12-02"} {
		if n, there := strikes[day(t, missing)]; there {
			t.Errorf("%s is missing in what is published, here it has %d", missing, n)
		}
	}
	if len(strikes) != 357 {
		t.Errorf("%d days", len(strikes))
	}
}

func TestTheRunningYearEnds(t *testing.T) {
	e := expect(t, synth.Spec{Year: 2020})
	if e.Totals.Last != day(t, "2020-07-12") || e.Months[7].Rows != 0 || e.Totals.Days != 194 {
		t.Errorf("%+v", e.Totals)
	}
}

func TestShapeOf2018(t *testing.T) {
	all := table(t, synth.Spec{Year: 2018})
	type place struct{ lat, lon int16 }
	tiles := map[place]bool{}
	var august int
	for i := range all.Len() {
		r := all.Row(i)
		tiles[place{r.Lat10, r.Lon10}] = true
		if _, month, _ := r.Day.Date(); month == 8 {
			august++
		}
		if i > 0 && tile.Compare(all.Row(i-1), tile.Row{Day: r.Day, Lat10: r.Lat10, Lon10: r.Lon10}) >= 0 {
			t.Fatalf("row %d: %v after %v", i, r, all.Row(i-1))
		}
	}
	near := func(what string, got, want, percent int) {
		if max(got-want, want-got) > want/100*percent {
			t.Errorf("%s: %d, published are %d", what, got, want)
		}
	}
	near("rows", all.Len(), 3401012, 1)
	near("rows of August", august, 717530, 2)
	near("tiles", len(tiles), 170855, 1)
	near("hundredths of the mean", int(int64(4460098900)/int64(all.Len())), 1311, 1)
	if low, high := slices.Min(all.Lat10), slices.Max(all.Lat10); low != 166 || high != 517 {
		t.Errorf("latitude %d..%d", low, high)
	}
	if low, high := slices.Min(all.Lon10), slices.Max(all.Lon10); low != -1418 || high != -432 {
		t.Errorf("longitude %d..%d", low, high)
	}
	slices.Sort(all.Strikes)
	n := all.Len()
	if got := []int32{all.Strikes[0], all.Strikes[n/4], all.Strikes[n/2], all.Strikes[3*n/4], all.Strikes[n-3], all.Strikes[n-2], all.Strikes[n-1]}; !slices.Equal(got, []int32{1, 2, 4, 12, 2061, 2142, 2211}) {
		t.Errorf("least, quartiles and highest: %v", got)
	}
}

func TestExpectIsWhatComes(t *testing.T) {
	for _, s := range []synth.Spec{{Year: 2018, Scale: 0.01}, {Year: 2020, Seed: 7, Scale: 0.02}, {Year: 1987}} {
		e := expect(t, s)
		all := table(t, s)
		if e.Totals != all.Totals() {
			t.Errorf("%+v: %+v expected, %+v came", s, e.Totals, all.Totals())
		}
		days := map[tile.Day]synth.DayTotal{}
		for i := range all.Len() {
			r := all.Row(i)
			d := days[r.Day]
			days[r.Day] = synth.DayTotal{Day: r.Day, Rows: d.Rows + 1, Strikes: d.Strikes + int64(r.Strikes)}
		}
		var months synth.DayTotal
		for _, d := range e.Days {
			if days[d.Day] != d {
				t.Errorf("%+v: %+v expected, %+v came", s, d, days[d.Day])
			}
		}
		for _, m := range e.Months {
			months.Rows, months.Strikes = months.Rows+m.Rows, months.Strikes+m.Strikes
		}
		if len(days) != len(e.Days) || months.Rows != e.Totals.Rows || months.Strikes != e.Totals.Strikes {
			t.Errorf("%+v: %d days of %d, months %+v", s, len(e.Days), len(days), months)
		}
	}
}

func TestScaleKeepsTheShape(t *testing.T) {
	whole, small := expect(t, synth.Spec{Year: 2018}), expect(t, synth.Spec{Year: 2018, Scale: 0.01})
	if len(small.Days) != len(whole.Days) {
		t.Errorf("%d days of %d", len(small.Days), len(whole.Days))
	}
	for i, m := range small.Months {
		if m.Strikes != whole.Months[i].Strikes/100 {
			t.Errorf("month %d: %d of %d", i+1, m.Strikes, whole.Months[i].Strikes)
		}
	}
	if rows, want := small.Totals.Rows, whole.Totals.Rows/100; max(rows-want, want-rows) > want/20 {
		t.Errorf("%d rows of %d", rows, whole.Totals.Rows)
	}
	if one := expect(t, synth.Spec{Year: 2018, Scale: 1}); !reflect.DeepEqual(one, whole) {
		t.Error("scale 1 is not the whole")
	}
	for _, bad := range []synth.Spec{{Year: 1986}, {Year: 2021}, {Year: 2018, Scale: -1}, {Year: 2018, Scale: 1.5}, {Year: 2018, Scale: 1e-9}} {
		if _, err := synth.Expect(bad); err == nil {
			t.Errorf("%+v is made", bad)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	a, b := table(t, synth.Spec{Year: 2011, Scale: 0.01}), table(t, synth.Spec{Year: 2011, Seed: 1, Scale: 0.01})
	if reflect.DeepEqual(a, b) {
		t.Error("two seeds give the same rows")
	}
	if again := table(t, synth.Spec{Year: 2011, Scale: 0.01}); !reflect.DeepEqual(a, again) {
		t.Error("a seed gives other rows")
	}
}

// TestBytes holds what a file is, on every machine and with every version of Go. If it fails after a new version of the
// packer, the packed forms differ and the unpacked must not.
func TestBytes(t *testing.T) {
	packed := map[synth.Format]string{}
	plain := map[synth.Format]string{}
	for _, f := range synth.Formats() {
		var file bytes.Buffer
		if _, err := (synth.File{Spec: synth.Spec{Year: 2018, Scale: 0.01}, Format: f}).Write(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		packed[f] = digest(file.Bytes())
		plain[f] = digest(unpack(t, file.Bytes()))
	}
	if want := (map[synth.Format]string{synth.NCEI: "5706555739fb2957", synth.BigQuery1: "866c865ad0909fa7", synth.BigQuery2: "0b60043c265d96cb", synth.BigQuery3: "78600c5dd986b785"}); !reflect.DeepEqual(plain, want) {
		t.Errorf("unpacked: %v", plain)
	}
	if want := (map[synth.Format]string{synth.NCEI: "2a17d2e195a29d98", synth.BigQuery1: "47793f64e0f70af1", synth.BigQuery2: "a0190627b4f3f2bf", synth.BigQuery3: "462458e7a59b87fd"}); !reflect.DeepEqual(packed, want) {
		t.Errorf("packed: %v", packed)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func unpack(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Comment, "synthetic") {
		t.Errorf("the file's comment is %q", r.Comment)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTheReaderReadsEveryFormat(t *testing.T) {
	s := synth.Spec{Year: 2018, Scale: 0.02}
	want := table(t, s)
	for _, f := range synth.Formats() {
		var file bytes.Buffer
		totals, err := synth.File{Spec: s, Format: f}.Write(t.Context(), &file)
		if err != nil || totals != want.Totals() {
			t.Fatalf("%s: %+v, %v", f, totals, err)
		}
		var got tile.Table
		report, err := nldn.Read(t.Context(), string(f), &file, nldn.Options{Chunk: "2018"}, &got, func(b nldn.Bad) error { t.Errorf("%+v", b); return nil })
		if err != nil || report.Rows != totals.Rows || !reflect.DeepEqual(&got, want) {
			t.Errorf("%s: %+v, %v", f, report, err)
		}
	}
}

func TestAMonthIsThatOfTheYear(t *testing.T) {
	s := synth.Spec{Year: 2020, Scale: 0.02}
	e := expect(t, s)
	for month, want := range map[int]int64{5: e.Months[4].Strikes, 11: 0} {
		var file bytes.Buffer
		f := synth.File{Spec: s, Format: synth.NCEI, Month: month}
		totals, err := f.Write(t.Context(), &file)
		if err != nil || totals.Strikes != want || f.Name() != fmt.Sprintf("nldn-tiles-2020%02d.csv.gz", month) {
			t.Errorf("%s: %+v, %v, want %d", f.Name(), totals, err, want)
		}
		if text := unpack(t, file.Bytes()); !bytes.HasPrefix(text, []byte("#synthetic")) || bytes.Count(text, []byte("\n")) != int(totals.Rows)+3 {
			t.Errorf("%s: %.100s", f.Name(), text)
		}
	}
}

func TestLines(t *testing.T) {
	r := tile.Row{Day: day(t, "2018-08-29"), Lat10: 270, Lon10: -755, Strikes: 12}
	for f, want := range map[synth.Format]string{
		synth.NCEI:      "20180829,-75.5,27.0,12\n",
		synth.BigQuery1: "2018-08-29,12,POINT(-75.5 27)\n",
		synth.BigQuery2: "2018-08-29,12,POINT(-75.5 27)\n",
		synth.BigQuery3: "2018-08-29 00:00:00 UTC,12,POINT(-75.5 27),synthetic:duoflow/etl/synth,2021-06-01 00:00:00 UTC\n",
	} {
		e, err := synth.NewEncoder(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(e.Append(nil, r)); got != want {
			t.Errorf("%s: %q, want %q", f, got, want)
		}
	}
	if got := string(synth.AppendTenths(nil, -5, false)); got != "-0.5" {
		t.Errorf("%s", got)
	}
	if _, err := synth.NewEncoder("xml"); err == nil {
		t.Error("a format called xml is known")
	}
}

func TestGenerateEnds(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	if _, err := synth.Generate(t.Context(), synth.Spec{Year: 2018}, func(tile.Row) error {
		if n++; n == 1000 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || n != 1000 {
		t.Errorf("%v after %d rows", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (synth.File{Spec: synth.Spec{Year: 2018}, Format: synth.NCEI}).Write(ctx, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkGenerate(b *testing.B) {
	var rows int64
	for b.Loop() {
		totals, err := synth.Generate(b.Context(), synth.Spec{Year: 2018}, func(tile.Row) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		rows += totals.Rows
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

func BenchmarkWrite(b *testing.B) {
	for _, f := range synth.Formats() {
		b.Run(string(f), func(b *testing.B) {
			var rows int64
			for b.Loop() {
				totals, err := synth.File{Spec: synth.Spec{Year: 2018}, Format: f}.Write(b.Context(), nothing{})
				if err != nil {
					b.Fatal(err)
				}
				rows += totals.Rows
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}
