package etl_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
)

// scene is one pipeline in a world, with a chunk 2018 that was loaded when all was well, and what happens to it then.
type scene struct {
	*world
	pipeline string
	name     string // of the chunk's object
	config   etl.Config
	p        *etl.Pipeline
}

// scene makes a pipeline over given files; more is YAML of the configuration.
func (w *world) scene(t *testing.T, pipeline, name, more string) *scene {
	t.Helper()
	own := *w
	own.t = t
	s := &scene{world: &own, pipeline: pipeline, name: pipeline + "/" + strings.ReplaceAll(name, "{chunk}", "2018")}
	return s.open(fmt.Sprintf(`source: {kind: gcs, objects: "%s/%s", window: {from: 2018, to: 2018}}`, pipeline, name), more)
}

func (s *scene) open(source, more string) *scene {
	s.t.Helper()
	s.config = s.parse(source, more)
	s.config.Pipeline, s.config.Load.Schema, s.config.Stages.S3.Prefix = s.pipeline, s.pipeline+"_views", s.pipeline
	s.p = s.world.open(s.config)
	return s
}

// run is one run.
func (s *scene) run(selection etl.Selection) (etl.Report, error) {
	s.t.Helper()
	return s.p.Run(s.t.Context(), selection)
}

// good runs, wants all to go well, and returns a hash of the tables.
func (s *scene) good(selection etl.Selection) string {
	s.t.Helper()
	report, err := s.run(selection)
	if err != nil || report.Failed > 0 || report.Done == 0 {
		s.t.Errorf("a good run: %v\n%+v", err, report)
	}
	if findings, err := s.p.Verify(s.t.Context()); err != nil || len(findings) > 0 {
		s.t.Errorf("verify after a good run: %v, %v", findings, err)
	}
	if got := s.ledger("2018", etl.StepLoad); got != "done" {
		s.t.Errorf("the ledger says of load after a good run: %s", got)
	}
	return s.tables()
}

// refusal is what a run over something bad has to come to.
type refusal struct {
	code  int
	step  string   // that the ledger calls failed; "" = none of 2018
	words []string // of the message: what, where, and what to do
}

// refused runs, wants a refusal, and looks that nothing of the chunk was loaded.
func (s *scene) refused(want refusal) {
	s.t.Helper()
	before, load := s.tables(), s.ledger("2018", etl.StepLoad)
	report, err := s.run(etl.Selection{})
	if got := etl.ExitCode(err); got != want.code {
		s.t.Errorf("exit code %d, want %d: %v", got, want.code, err)
	}
	if err == nil {
		return
	}
	for _, word := range want.words {
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("the message lacks %q: %v", word, err)
		}
	}
	if len(report.Chunks) == 0 || report.Failed == 0 {
		s.t.Errorf("report: %+v", report)
	}
	for _, c := range report.Chunks {
		for _, done := range c.Steps {
			if c.State == etl.ChunkFailed && done.Step == want.step {
				s.t.Errorf("the report calls %s of %s done, which failed", done.Step, c.Chunk)
			}
		}
	}
	if after := s.tables(); after != before {
		s.t.Errorf("the tables have changed: %s, before %s", after, before)
	}
	if want.step != etl.StepLoad {
		if now := s.ledger("2018", etl.StepLoad); now != load {
			s.t.Errorf("the ledger says of load %q, before %q", now, load)
		}
	}
	row := s.ledger("2018", want.step)
	if !strings.HasPrefix(row, "failed ") {
		s.t.Errorf("the ledger says of %s: %q", want.step, row)
	}
	for _, word := range want.words {
		if !strings.Contains(row, word) {
			s.t.Errorf("the ledger says of %s, without %q: %s", want.step, word, row)
		}
	}
}

// ledger is the state of a step, and why it failed.
func (s *scene) ledger(chunk, step string) string {
	s.t.Helper()
	return query[string](s.world, "SELECT coalesce((SELECT trim(state || ' ' || error) FROM duoflow.etl_chunk WHERE pipeline = $1 AND chunk = $2 AND step = $3), '')",
		s.pipeline, chunk, step)
}

// tables is a hash of the rows of all tables, in order, by what no change of a table in these tests touches.
func (s *scene) tables() string {
	s.t.Helper()
	return query[string](s.world, fmt.Sprintf(`SELECT coalesce(encode(sha256(convert_to(string_agg(line, E'\n' ORDER BY line), 'UTF8')), 'hex'), 'nothing') FROM (
SELECT concat_ws(' ', 'day', day, strikes, synthetic) AS line FROM %[1]s.day UNION ALL SELECT concat_ws(' ', 'month', year, month, strikes) FROM %[1]s.month
UNION ALL SELECT concat_ws(' ', 'cell', year, month, lat10, lon10, strikes) FROM %[1]s.cell_month
UNION ALL SELECT concat_ws(' ', 'chunk', chunk, hash, rows, strikes) FROM %[1]s.chunk) l`, s.pipeline))
}

// loadedRows is how many tile-days the tables say they hold of 2018.
func (s *scene) loadedRows() int64 {
	s.t.Helper()
	return query[int64](s.world, "SELECT coalesce(sum(rows), 0)::bigint FROM "+s.pipeline+".chunk WHERE chunk = '2018'")
}

// tiles are so many rows of July 2018, each with another tile or day.
func tiles(n int) []tile.Row {
	first, _ := tile.DayOf(2018, 7, 1)
	var out []tile.Row
	for i := range n {
		out = append(out, tile.Row{Day: first + tile.Day(i%28), Lon10: int16(-1000 + i/28%400), Lat10: int16(300 + i/11200), Strikes: int32(1 + i%7)})
	}
	return out
}

const nceiHeader = "#NLDN tiles\n#\n#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n"

// ncei is rows as NCEI's files have them, and lines behind them.
func ncei(rows []tile.Row, lines ...string) string {
	return nceiHeader + spelled(rows, nceiLine, "\n") + strings.Join(append(lines, ""), "\n")
}

func nceiLine(r tile.Row) string {
	return fmt.Sprintf("%s,%s,%s,%d", strings.ReplaceAll(r.Day.String(), "-", ""), tenths(r.Lon10), tenths(r.Lat10), r.Strikes)
}

func spelled(rows []tile.Row, line func(tile.Row) string, end string) string {
	var out strings.Builder
	for _, r := range rows {
		out.WriteString(line(r) + end)
	}
	return out.String()
}

func tenths(x int16) string { return fmt.Sprintf("%.1f", float64(x)/10) }

func zip(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// padded is rows in so many bytes of text or a little more: comments are part of a file.
func padded(rows []tile.Row, size int) []byte {
	text := ncei(rows)
	comment := "#" + strings.Repeat("x", 2000) + "\n"
	return []byte(text + strings.Repeat(comment, max(0, size-len(text))/len(comment)+1))
}
