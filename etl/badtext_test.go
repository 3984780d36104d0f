package etl_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/tile"
)

// These tests are the rows of "bad input" in DESIGN.md that a file can have, from Google Cloud Storage to the tables. What
// each form of a line means in detail is tested in package nldn.

const packedName = "tiles-{chunk}.csv.gz"

// TestTextThatIsTaken: whatever is only another way to say the same rows gives the same tables.
func TestTextThatIsTaken(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "taken", packedName, "")
	rows := tiles(1000)
	s.put(s.name, zip(t, ncei(rows)))
	want := s.good(etl.Selection{})
	point := func(r tile.Row) string { return fmt.Sprintf("POINT(%s %s)", tenths(r.Lon10), tenths(r.Lat10)) }
	dated := func(after string) func(tile.Row) string {
		return func(r tile.Row) string { return fmt.Sprintf("%s%s,%d,%s", r.Day, after, r.Strikes, point(r)) }
	}
	body := spelled(rows, nceiLine, "\n")
	for _, one := range []struct {
		name    string
		content []byte
	}{
		{"comments anywhere, BOM, CRLF mix, no final newline", []byte("\uFEFF" + strings.TrimSpace(strings.Replace(ncei(rows), "\n2018", "\r\n# a remark\r\n2018", 500)))},
		{"columns day and center_point", zip(t, "day,number_of_strikes,center_point\n"+spelled(rows, dated(""), "\n"))},
		{"columns date and center_point_geom, midnight", zip(t, "date,number_of_strikes,center_point_geom\n"+spelled(rows, dated(" 00:00:00"), "\n"))},
		{"midnight in UTC", zip(t, "date,number_of_strikes,center_point_geom\n"+spelled(rows, dated(" 00:00:00 UTC"), "\n"))},
		{"REST: latitude first", zip(t, "DAY,CENTERLAT,CENTERLON,FCOUNT\n"+spelled(rows, func(r tile.Row) string {
			return fmt.Sprintf("%s,%s,%s,%d", r.Day, tenths(r.Lat10), tenths(r.Lon10), r.Strikes)
		}, "\n"))},
		{"counts such as 3.0", zip(t, nceiHeader+strings.ReplaceAll(body, "\n", ".0\n"))},
		{"a tile-day twice, same count", zip(t, ncei(rows, nceiLine(rows[0]), nceiLine(rows[999])))},
		{"gzip of two members", append(zip(t, nceiHeader+body[:len(body)/2]), zip(t, body[len(body)/2:])...)},
		{"plain, named .gz", []byte(ncei(rows))},
	} {
		t.Run(one.name, func(t *testing.T) {
			s.t = t
			s.put(s.name, one.content)
			if got := s.good(etl.Selection{}); got != want {
				t.Errorf("tables hash to %s, those of the plain file to %s", got, want)
			}
		})
	}
	s.t = t
	csv := w.scene(t, "taken_csv", "tiles-{chunk}.csv", "")
	csv.put(csv.name, zip(t, ncei(rows)))
	if csv.good(etl.Selection{}); csv.loadedRows() != 1000 {
		t.Errorf("gzip that is named .csv: %d rows are loaded", csv.loadedRows())
	}
}

// TestTextThatIsRefused: files of which nothing is loaded. A good file of the same name is, afterwards.
func TestTextThatIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "refused", packedName, "")
	rows := tiles(1000)
	whole := zip(t, ncei(rows))
	s.put(s.name, whole)
	want := s.good(etl.Selection{})
	flipped := slices.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	tabs := "date\tnumber_of_strikes\tcenter_point_geom\n2018-07-01\t3\tPOINT(-80 30)\n"
	other := nceiLine(tile.Row{Day: rows[0].Day - 365, Lon10: -800, Lat10: 300, Strikes: 1})
	conflict := rows[0]
	conflict.Strikes++
	where := "raw/2018/"
	for _, one := range []struct {
		name    string
		content []byte
		want    refusal
	}{
		{"truncated gzip", whole[:len(whole)/2], refusal{etl.ExitFailed, etl.StepIngest, []string{"damaged gzip", "ends in the middle", where, "put a whole file at the source"}}},
		{"wrong checksum of gzip", flipped, refusal{etl.ExitFailed, etl.StepIngest, []string{"damaged gzip", "checksum", where, "put a whole file at the source"}}},
		{"unknown columns", zip(t, "when,where,how_many\n1,2,3\n"), refusal{etl.ExitQuality, etl.StepIngest, []string{"unknown columns", "when,where,how_many", "expected", "line 1", where}}},
		{"UTF-16 with tabs", wide(tabs), refusal{etl.ExitQuality, etl.StepIngest, []string{"other encoding", "utf-16le", "set source.encoding to utf-16le+tab", where}}},
		{"tabs", []byte(tabs), refusal{etl.ExitQuality, etl.StepIngest, []string{"other encoding", "set source.encoding to utf-8+tab", where}}},
		{"zip archive", []byte("PK\x03\x04 and more"), refusal{etl.ExitQuality, etl.StepIngest, []string{"a zip archive", where}}},
		{"empty file", nil, refusal{etl.ExitQuality, etl.StepIngest, []string{"no rows", "chunk 2018", "quality.allow_empty takes it"}}},
		{"header only", zip(t, nceiHeader), refusal{etl.ExitQuality, etl.StepIngest, []string{"no rows", "chunk 2018", "quality.allow_empty takes it"}}},
		{"rows of another year", zip(t, ncei(rows, slices.Repeat([]string{other}, 11)...)),
			refusal{etl.ExitQuality, etl.StepIngest, []string{"rows of another chunk", "11 of 1011", "2018", where, "another chunk lie under this one's name"}}},
		{"a line of more than 4 KiB", zip(t, ncei(rows, strings.Repeat("9", 5000))), refusal{etl.ExitQuality, etl.StepIngest, []string{"limit exceeded", "line 1004", where, "look at the source"}}},
		{"more than 50 M lines in 50 KiB", bomb(t), refusal{etl.ExitQuality, etl.StepIngest, []string{"limit exceeded", "50000000 lines", where, "look at the source"}}},
		{"different counts of a tile-day", zip(t, ncei(rows, nceiLine(conflict))),
			refusal{etl.ExitQuality, etl.StepIngest, []string{"quality gate", "2 of 1001 rows are in quarantine", "quality.max_bad_rows", "duoetl quarantine --chunk 2018"}}},
		{"too many bad lines", zip(t, ncei(rows, "20180701,-80.05,30.0,1", "20180701,-80.1,30.0,3.5")),
			refusal{etl.ExitQuality, etl.StepIngest, []string{"quality gate", "2 of 1002 rows are in quarantine", "quality.max_bad_rows allows 0.1 %", "duoetl quarantine --chunk 2018"}}},
	} {
		t.Run(one.name, func(t *testing.T) {
			s.t = t
			s.put(s.name, one.content)
			fetched := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: "/refused/raw/"})
			s.refused(one.want)
			if again := strings.Contains(one.want.words[0], "damaged"); again && fetched() != 2 || !again && fetched() > 1 {
				t.Errorf("the file was fetched %d times: a damaged one is to be fetched twice, others once", fetched())
			}
			w.faults.Clear()
			s.put(s.name, whole)
			if got := s.good(etl.Selection{}); got != want {
				t.Errorf("after a good file the tables hash to %s, want %s", got, want)
			}
		})
	}
	s.t = t
}

// wide is UTF-16, little end first, with its mark.
func wide(text string) []byte {
	out := []byte{0xff, 0xfe}
	for _, r := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, r)
	}
	return out
}

// bomb is 50 KiB of gzip in which there are more lines than 50 M.
func bomb(t *testing.T) []byte {
	t.Helper()
	return append(zip(t, nceiHeader), bytes.Repeat(zip(t, strings.Repeat("\n", 5_000_000)), 11)...)
}

// TestLinesInQuarantine: each with its file, line and rule; the good ones are loaded.
func TestLinesInQuarantine(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "lines", packedName, "quality: {max_bad_rows: 0.01}")
	rows := tiles(2000)
	s.put(s.name, zip(t, ncei(rows)))
	want := s.good(etl.Selection{})
	conflict := rows[1999]
	conflict.Strikes++
	bad := []struct {
		line string
		rule nldn.Rule
	}{
		{"20180701,-80.1,30.0", nldn.RuleFields}, {"20180701,-80.1,30.0,1,1", nldn.RuleFields}, {"20180701,-80.1,3o.0,1", nldn.RuleNumber},
		{"20180701,-80.1,30.0,-1", nldn.RuleRange}, {"20180701,-80.1,30.0,0", nldn.RuleRange}, {"20180701,-80.1,30.0,100001", nldn.RuleRange},
		{"20180701,-80.1,30.0,3.5", nldn.RuleCount}, {"20180701,-80.05,30.0,1", nldn.RuleGrid}, {"20180701,20.0,30.0,1", nldn.RuleBox},
		{"20180731 12:00:00,-80.1,30.0,1", nldn.RuleMidnight}, {"2018-07-31 00:00:00+02,-80.1,30.0,1", nldn.RuleMidnight}, {"20180732,-80.1,30.0,1", nldn.RuleDate},
		{"20170701,-80.1,30.0,1", nldn.RuleChunk}, {"20180701,\"-80.1,30.0,1", nldn.RuleQuote},
	}
	var lines []string
	for _, b := range bad {
		lines = append(lines, b.line)
	}
	lines = append(lines, nceiLine(conflict))
	s.put(s.name, zip(t, ncei(rows, lines...)))
	s.good(etl.Selection{})
	if got := s.loadedRows(); got != 1999 {
		t.Errorf("%d rows are loaded, want all 2000 but the one that is contradicted", got)
	}
	for _, step := range []string{etl.StepIngest, etl.StepLoad} {
		got := query[int64](w, "SELECT quarantined FROM duoflow.etl_chunk WHERE pipeline = 'lines' AND step = $1", step)
		if got != int64(len(bad)+2) {
			t.Errorf("the ledger counts %d lines in quarantine at %s, want %d", got, step, len(bad)+2)
		}
	}
	list, err := s.p.Quarantine(t.Context(), "2018")
	if err != nil || len(list) != 1 || len(list[0].Bad) != len(bad)+2 {
		t.Fatalf("quarantine: %+v, %v", list, err)
	}
	for i, b := range bad {
		if got := list[0].Bad[i]; got.Rule != b.rule || got.Line != int64(2004+i) || got.Text != b.line || !strings.Contains(got.File, "raw/2018/") {
			t.Errorf("line %q: in quarantine as %v, want line %d and rule %s", b.line, got, 2004+i, b.rule)
		}
	}
	first, second := list[0].Bad[len(bad)], list[0].Bad[len(bad)+1]
	if first.Rule != nldn.RuleConflict || first.Line != 2003 || second.Rule != nldn.RuleConflict || second.Line != int64(2004+len(bad)) {
		t.Errorf("the contradiction is in quarantine as %v and %v", first, second)
	}
	s.put(s.name, zip(t, ncei(rows)))
	if got := s.good(etl.Selection{}); got != want {
		t.Errorf("after a good file the tables hash to %s, want %s", got, want)
	}
}

// TestWhatTheHintsSayHelps: the encoding is read as configured, an empty chunk is taken, and so is one that has shrunk.
func TestWhatTheHintsSayHelps(t *testing.T) {
	w := newWorld(t, nil)
	rows := tiles(1000)
	s := w.scene(t, "hints", packedName, "")
	s.put(s.name, zip(t, ncei(rows)))
	want := s.good(etl.Selection{})
	t.Run("encoding", func(t *testing.T) {
		u := w.scene(t, "hints_wide", packedName, "")
		u.p.Close()
		u.open(`source: {kind: gcs, objects: "hints_wide/tiles-{chunk}.csv.gz", window: {from: 2018, to: 2018}, encoding: utf-16le+tab}`, "")
		u.put(u.name, wide("date\tnumber_of_strikes\tcenter_point_geom\n"+spelled(rows, func(r tile.Row) string {
			return fmt.Sprintf("%s\t%d\tPOINT(%s %s)", r.Day, r.Strikes, tenths(r.Lon10), tenths(r.Lat10))
		}, "\n")))
		if got := u.good(etl.Selection{}); got != want {
			t.Errorf("tables hash to %s, those of the plain file to %s", got, want)
		}
	})
	t.Run("allow_empty", func(t *testing.T) {
		e := w.scene(t, "hints_empty", packedName, "quality: {allow_empty: true}")
		e.put(e.name, zip(t, nceiHeader))
		if e.good(etl.Selection{}); e.loadedRows() != 0 || query[string](w, "SELECT chunk FROM hints_empty.chunk") != "2018" {
			t.Errorf("%d rows are loaded of an empty chunk", e.loadedRows())
		}
		if report, err := e.run(etl.Selection{}); err != nil || report.Unchanged != 1 {
			t.Errorf("again: %+v, %v; want nothing new", report, err)
		}
	})
	t.Run("accept", func(t *testing.T) {
		s.t = t
		s.put(s.name, zip(t, ncei(rows[:499])))
		s.refused(refusal{etl.ExitQuality, etl.StepLoad, []string{"shrunk by more than half", "1000 tiles are loaded, this has", "499", "duoetl run --chunk 2018 --accept"}})
		if s.good(etl.Selection{Accept: true}); s.loadedRows() != 499 {
			t.Errorf("accepted: %d rows are loaded", s.loadedRows())
		}
	})
}
