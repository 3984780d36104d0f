package etl_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

const scale = 0.01

const givenSource = `source: {kind: gcs, objects: "nldn-tiles-{chunk}.csv.gz", window: {from: 2017, to: 2018}, synthetic: true}`

// TestTablesReachTheViews is the whole way: a BigQuery job, Google Cloud Storage, S3, Postgres, for each generation of tables.
func TestTablesReachTheViews(t *testing.T) {
	tables := sandbox.Synthetic(synth.BigQuery1, 2017, 2017, scale)
	tables = append(tables, sandbox.Synthetic(synth.BigQuery2, 2018, 2018, scale)...)
	tables = append(tables, sandbox.Synthetic(synth.BigQuery3, 2017, 2018, scale)...)
	w := newWorld(t, tables)
	for pipeline, table := range map[string]string{"one": "lightning_%d", "other": "lightning_strikes"} {
		c := w.parse(fmt.Sprintf(`source: {kind: bigquery, project: payer, table: bigquery-public-data.%s.%s, endpoint: %q, window: {from: 2017, to: 2018}, synthetic: true}`,
			sandbox.Dataset, table, w.cloud.Endpoints().BigQuery), "")
		c.Pipeline, c.Load.Schema, c.Stages.S3.Prefix = pipeline, pipeline+"_views", pipeline
		p := w.open(c)
		report, err := p.Run(t.Context(), etl.Selection{})
		if err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		for i, year := range []int{2017, 2018} {
			want := expect(t, year, scale).Totals
			if got := report.Chunks[i]; got.State != etl.ChunkDone || got.Rows != want.Rows || got.Strikes != want.Strikes || got.Quarantined != 0 {
				t.Errorf("%s: %+v, want %+v", table, got, want)
			}
			if got := query[int64](w, "SELECT sum(strikes)::bigint FROM "+pipeline+"_views.lightning_daily WHERE year = $1", year); got != want.Strikes {
				t.Errorf("%s: %d strikes in the view of %d, the generator says %d", table, got, year, want.Strikes)
			}
		}
		if report, err = p.Run(t.Context(), etl.Selection{}); err != nil || report.Unchanged != 2 {
			t.Errorf("%s, again: %+v, %v; want two chunks unchanged", table, report, err)
		}
	}
	one := query[string](w, "SELECT string_agg(hash, ' ' ORDER BY chunk) FROM one.chunk")
	if other := query[string](w, "SELECT string_agg(hash, ' ' ORDER BY chunk) FROM other.chunk"); one != other {
		t.Errorf("tables a year and the one table give different results: %s, %s", one, other)
	}
}

// TestFilesReachTheViews brings two years from Google Cloud Storage through S3 into the views, and finds nothing to do then.
func TestFilesReachTheViews(t *testing.T) {
	w := newWorld(t, nil)
	w.seed(synth.NCEI, scale, 2017, 2018)
	p := w.open(w.parse(givenSource, ""))
	report, err := p.Run(t.Context(), etl.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Done != 2 || report.Failed != 0 || report.Unchanged != 0 {
		t.Fatalf("report %+v, want 2 chunks done", report)
	}
	for i, year := range []int{2017, 2018} {
		want := expect(t, year, scale)
		if got := report.Chunks[i]; got.Rows != want.Totals.Rows || got.Strikes != want.Totals.Strikes || len(got.Steps) != 6 {
			t.Errorf("%d: report %+v, want %+v and six steps", year, got, want.Totals)
		}
		if got := query[int64](w, "SELECT sum(number_of_strikes)::bigint FROM lightning WHERE year = $1", year); got != want.Totals.Strikes {
			t.Errorf("%d: view lightning sums up to %d, the generator says %d", year, got, want.Totals.Strikes)
		}
		if got := query[int](w, "SELECT count(*) FROM lightning_daily WHERE year = $1", year); got != want.Totals.Days {
			t.Errorf("%d: %d days in the view, the generator made %d", year, got, want.Totals.Days)
		}
		for month, total := range want.Months {
			if got := query[int64](w, "SELECT coalesce(sum(strikes), 0)::bigint FROM lightning_cell_month WHERE year = $1 AND month = $2", year, month+1); got != total.Strikes {
				t.Errorf("%d-%02d: cells sum up to %d, the generator says %d", year, month+1, got, total.Strikes)
			}
		}
	}
	heads := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "HeadObject", Do: func() {}})
	others := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Do: func() {}}) // the first that matches is hit
	report, err = p.Run(t.Context(), etl.Selection{})
	if err != nil || report.Unchanged != 2 || report.Done != 0 {
		t.Errorf("second run: %+v, %v; want two chunks unchanged", report, err)
	}
	if got, want := report.Chunks[1], expect(t, 2018, scale).Totals; got.Rows != want.Rows || got.Strikes != want.Strikes {
		t.Errorf("second run: %+v, loaded are %+v", got, want)
	}
	if heads() != 2 || others() != 0 {
		t.Errorf("a run with nothing new asked S3 for %d heads and made %d other calls; want one HEAD for each of two chunks", heads(), others())
	}
}

// TestRealRowsReachTheViews brings the published rows, which are real, the same way. Their sums were counted with awk. The two years
// in one file are refused: five of 42 rows are of another chunk.
func TestRealRowsReachTheViews(t *testing.T) {
	text, err := os.ReadFile("nldn/testdata/real-rows.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	w := newWorld(t, nil)
	s := w.scene(t, "real", "tiles-{chunk}.csv", "")
	for _, one := range []struct {
		year          string
		rows, strikes int64
		days          int
	}{{"2016", 5, 190, 2}, {"2018", 37, 21205, 9}} {
		file := lines[0] + "\n"
		for _, line := range lines {
			if strings.HasPrefix(line, one.year) {
				file += line + "\n"
			}
		}
		s.put("real/tiles-"+one.year+".csv", []byte(file))
		report, err := s.run(etl.Selection{Chunks: []tile.Chunk{tile.Chunk(one.year)}})
		if err != nil || report.Chunks[0].Rows != one.rows || report.Chunks[0].Strikes != one.strikes || report.Chunks[0].Quarantined != 0 {
			t.Errorf("%s: %+v, %v; want %d rows and %d strikes", one.year, report.Chunks[0], err, one.rows, one.strikes)
		}
		strikes := query[int64](w, "SELECT sum(strikes)::bigint FROM real_views.lightning_daily WHERE year = $1::int", one.year)
		days := query[int](w, "SELECT count(*) FROM real_views.lightning_daily WHERE year = $1::int", one.year)
		if strikes != one.strikes || days != one.days {
			t.Errorf("%s: %d strikes on %d days in the view, want %d on %d", one.year, strikes, days, one.strikes, one.days)
		}
	}
	if got := query[int64](w, "SELECT strikes FROM real_views.lightning_daily WHERE day = '2018-08-20'"); got != 2211 {
		t.Errorf("2018-08-20 has the largest tile of its year and no other row, 2211; the view says %d", got)
	}
	s.put(s.name, text)
	s.refused(refusal{etl.ExitQuality, etl.StepIngest, []string{"rows of another chunk", "5 of 42 do not lie in 2018"}})
}
