package etl_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/synth"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Of the sandbox's libraries: one is started once a process, the other sees that its pool is gone within ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

const scale = 0.01

const givenSource = `source: {kind: gcs, objects: "nldn-tiles-{chunk}.csv.gz", window: {from: 2017, to: 2018}, synthetic: true}`

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
	report, err = p.Run(t.Context(), etl.Selection{})
	if err != nil || report.Unchanged != 2 || report.Done != 0 {
		t.Errorf("second run: %+v, %v; want two chunks unchanged", report, err)
	}
}
