package nldn_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

// chunk reads files into one table and finishes it.
func chunk(t *testing.T, files ...string) outcome {
	t.Helper()
	var table tile.Table
	var out outcome
	quarantine := func(b nldn.Bad) error {
		out.bad = append(out.bad, b)
		return nil
	}
	var reports []nldn.Report
	for i, text := range files {
		r, err := nldn.Read(t.Context(), "f"+strconv.Itoa(i), strings.NewReader(text), nldn.Options{Chunk: "2018"}, &table, quarantine)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
	}
	out.report, out.err = nldn.Finish(&table, reports, quarantine)
	out.rows = rows(&table)
	if out.err == nil {
		balanced(t, out.report)
		sum := table.Totals()
		if sum.Rows != out.report.Rows || sum.Strikes != out.report.Strikes || int64(len(out.bad)) != out.report.Quarantined {
			t.Errorf("totals %+v, %d bad, report %+v", sum, len(out.bad), out.report)
		}
	}
	return out
}

func TestFinishSorts(t *testing.T) {
	later, earlier, _ := strings.Cut(strings.TrimPrefix(ncei, ncei[:strings.Index(ncei, "2018")]), "\n")
	head := ncei[:strings.Index(ncei, "2018")]
	if got := chunk(t, head+earlier+later+"\n"); got.err != nil || !reflect.DeepEqual(got.rows, two()) {
		t.Errorf("%+v", got)
	}
}

func TestDuplicateTileDaySameCount(t *testing.T) {
	for name, files := range map[string][]string{
		"within a file": {ncei + ncei}, "across files": {ncei, rest}, "across forms": {bq, ncei, rest}, "three times": {ncei, bq + bq[strings.Index(bq, "2018"):]},
	} {
		got := chunk(t, files...)
		if got.err != nil || !reflect.DeepEqual(got.rows, two()) || len(got.bad) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if lines := got.report.Rows + got.report.Duplicates; got.report.Duplicates == 0 || lines%2 != 0 {
			t.Errorf("%s: %+v", name, got.report)
		}
	}
}

func TestDuplicateTileDayDifferentCounts(t *testing.T) {
	first := ncei + "# a comment\n20180831,-80,30,4\nrubbish\n20180830,-75.0,27,4\n"
	second := bq + "\n2018-08-31,4,POINT(-80 30)\n2018-09-01,5,POINT(-80 30)\n"
	got := chunk(t, first, second)
	want := []nldn.Bad{
		{File: "f0", Line: 8, Rule: nldn.RuleFields, Text: "rubbish"},
		{File: "f0", Line: 5, Rule: nldn.RuleConflict, Text: "2018-08-30,3,POINT(-75 27)"},
		{File: "f0", Line: 9, Rule: nldn.RuleConflict, Text: "2018-08-30,4,POINT(-75 27)"},
		{File: "f1", Line: 3, Rule: nldn.RuleConflict, Text: "2018-08-30,3,POINT(-75 27)"},
	}
	if got.err != nil || !reflect.DeepEqual(got.bad, want) {
		t.Errorf("%v: %v, want %v", got.err, got.bad, want)
	}
	kept := []tile.Row{two()[0], {Day: day("2018-08-31"), Lat10: 300, Lon10: -800, Strikes: 4}, {Day: day("2018-09-01"), Lat10: 300, Lon10: -800, Strikes: 5}}
	if !reflect.DeepEqual(got.rows, kept) {
		t.Errorf("kept %v, want %v", got.rows, kept)
	}
	if r := got.report; r.Lines != 15 || r.Rows != 3 || r.Duplicates != 2 || r.Quarantined != 4 || r.ByRule[nldn.RuleConflict] != 3 || r.Strikes != 21 {
		t.Errorf("%+v", r)
	}
}

func TestConflictInASortedFile(t *testing.T) {
	got := chunk(t, ncei+"20180830,-75,27,4\n")
	if len(got.bad) != 2 || got.bad[0].Line != 5 || got.bad[1].Line != 6 || len(got.rows) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestTheTextOfAConflictReadsBack(t *testing.T) {
	got := chunk(t, bq+"2018-08-29,7,POINT(-95.5 28.1)\n")
	if len(got.bad) != 2 {
		t.Fatalf("%+v", got)
	}
	again := read(t, "date,number_of_strikes,center_point_geom\n"+got.bad[1].Text, nldn.Options{})
	if want := (tile.Row{Day: day("2018-08-29"), Lat10: 281, Lon10: -955, Strikes: 7}); again.err != nil || again.rows[0] != want {
		t.Errorf("%+v, want %+v", again, want)
	}
}

func TestFinishRefusesWhatWasNotRead(t *testing.T) {
	var table tile.Table
	r, err := nldn.Read(t.Context(), "f", strings.NewReader(ncei), nldn.Options{}, &table, nil)
	if err != nil {
		t.Fatal(err)
	}
	table.Append(tile.Row{})
	if _, err := nldn.Finish(&table, []nldn.Report{r}, nil); err == nil {
		t.Error("a row of nobody was taken")
	}
	table.Truncate(2)
	full := errors.New("quarantine is full")
	other, err := nldn.Read(t.Context(), "g", strings.NewReader(ncei[:strings.LastIndex(ncei, ",")]+",9"), nldn.Options{}, &table, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nldn.Finish(&table, []nldn.Report{r, other}, func(nldn.Bad) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
}

// The result of a chunk depends on its rows, not on how they are spread over files and lines.
func TestFinishOfShuffledFiles(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	var lines []string
	for range 3000 { // few tiles: many duplicates and conflicts
		lines = append(lines, "201808"+strconv.Itoa(10+random.IntN(3))+",-"+strconv.Itoa(60+random.IntN(20))+","+strconv.Itoa(20+random.IntN(30))+","+strconv.Itoa(1+random.IntN(2)))
	}
	head := ncei[:strings.Index(ncei, "2018")]
	var first outcome
	for round := range 5 {
		at := random.IntN(len(lines))
		got := chunk(t, head+strings.Join(lines[:at], "\n"), head+strings.Join(lines[at:], "\n"), head+"20180101,-60,20,1\n")
		for _, b := range got.bad {
			text := append(append(strings.Split(strings.TrimSuffix(head, "\n"), "\n"), lines[:at]...), "")
			if b.File == "f1" {
				text = append(append(strings.Split(strings.TrimSuffix(head, "\n"), "\n"), lines[at:]...), "")
			}
			line := read(t, head+text[b.Line-1], nldn.Options{}).rows[0]
			if again := read(t, "date,number_of_strikes,center_point\n"+b.Text, nldn.Options{}).rows[0]; again != line {
				t.Fatalf("%v: that line says %v", b, line)
			}
		}
		if round == 0 {
			first = got
		}
		if !reflect.DeepEqual(got.rows, first.rows) || got.report.Duplicates != first.report.Duplicates || len(got.bad) != len(first.bad) || got.report.Duplicates == 0 || len(got.bad) == 0 {
			t.Fatalf("round %d: %d rows, %+v, first %+v", round, len(got.rows), got.report, first.report)
		}
		random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	}
}
