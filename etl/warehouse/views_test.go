package warehouse_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

func TestSetupTwiceKeepsTheData(t *testing.T) {
	h := newHouse(t)
	mustLoad(t, h.epoch(1), entry("2018", "a"), result("2018", 2000, 1))
	comment := h.query("SELECT obj_description('public.lightning'::regclass)")
	for range 2 {
		if err := h.reading.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.holds("2018", result("2018", 2000, 1))
	h.want("SELECT obj_description('public.lightning'::regclass)", comment)
}

// What the original program left under that name is not ours to replace.
func TestTableOfTheOriginalIsLeftAlone(t *testing.T) {
	h := newBare(t, server)
	mustExec(t, h.admin, `CREATE TABLE public.lightning (index bigint, "Year-Month" text)`)
	h.layout = warehouse.Layout{}
	w := h.open(warehouse.Config{DSN: h.adminDSN(), Force: true})
	err := w.Setup(t.Context())
	wantErr(t, "a table where a view has to be", err, warehouse.ErrChanged)
	if err != nil && !strings.Contains(err.Error(), `"lightning" is not a view`) {
		t.Error(err)
	}
	h.want("SELECT count(*)::text FROM pg_namespace WHERE nspname = 'lightning'", "0")
	w.Close()
	h.setUp(warehouse.Layout{Schema: "show"})
	h.want("SELECT count(*)::text FROM show.lightning", "0")
}

func TestNamesThatNeedQuotesAreRefused(t *testing.T) {
	for _, l := range []warehouse.Layout{{Pipeline: "a b"}, {Schema: `x"; DROP`}, {Pipeline: "Lightning"}, {Pipeline: "duoflow"}, {Pipeline: "public"}, {Pipeline: "x", Schema: "x"}} {
		if _, err := warehouse.SetupSQL(l); err == nil {
			t.Errorf("%+v: accepted", l)
		}
		if _, err := warehouse.Open(t.Context(), warehouse.Config{Layout: l, Identity: warehouse.Identity{Job: job}}); err == nil {
			t.Errorf("%+v: opened", l)
		}
	}
}

// The job's role fills tables and nothing else; a reader sees the views and nothing else.
func TestRights(t *testing.T) {
	h := newBare(t, server)
	reader := "reader_" + h.name
	mustExec(t, h.admin, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'x'", reader))
	l := h.layout
	l.Readers = []string{reader}
	h.setUp(l)
	dsn := h.take(1)
	w := h.open(warehouse.Config{DSN: dsn, Identity: warehouse.Identity{Epoch: 1}})
	mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1))
	jobs, reads := connect(t, dsn), connect(t, server.DSN(reader, "x", h.name))
	for _, text := range []string{"DROP TABLE lightning.day", "ALTER TABLE lightning.day ADD x int", "TRUNCATE lightning.day", "COMMENT ON VIEW public.lightning IS 'x'", "UPDATE duoflow.fence SET epoch = 9"} {
		if _, err := jobs.Exec(t.Context(), text); err == nil {
			t.Errorf("the job may %s", text)
		}
	}
	for _, text := range []string{"SELECT 1 FROM lightning.day", "INSERT INTO public.lightning_daily (day) VALUES ('2018-01-01')", "SELECT lightning.label()", "SELECT 1 FROM duoflow.etl_chunk"} {
		if _, err := reads.Exec(t.Context(), text); err == nil {
			t.Errorf("a reader may %s", text)
		}
	}
	for _, view := range []string{"lightning", "lightning_daily", "lightning_monthly", "lightning_cell_month", "lightning_coverage", "lightning_loads"} {
		var n int
		if err := reads.QueryRow(t.Context(), "SELECT count(*) FROM public."+view).Scan(&n); err != nil || n == 0 {
			t.Errorf("%s: %d rows, %v", view, n, err)
		}
	}
	if err := w.Setup(t.Context()); err == nil || errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("set up by the job: %v", err)
	}
	if err := w.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Done}); err != nil {
		t.Errorf("after a refused set-up: %v", err)
	}
}

func TestViewsShowWhatIsLoaded(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	r := result("2018", 9000, 1, "2018-06-19", "2018-12-02")
	mustLoad(t, w, entry("2018", "a"), r)
	h.want(`SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'lightning'`,
		"Year-Month date, number_of_strikes bigint, year integer, month integer")
	h.want(`SELECT sum(number_of_strikes)::text || ' ' || count(*) || ' ' || min("Year-Month") || ' ' || max(month) FROM public.lightning`, fmt.Sprintf("%d 363 2018-01-01 12", r.Totals.Strikes))
	h.want("SELECT sum(strikes) || ' ' || sum(tiles) FROM public.lightning_daily", fmt.Sprintf("%d %d", r.Totals.Strikes, r.Totals.Rows))
	h.want("SELECT string_agg(days || '/' || days_in_month, ' ' ORDER BY month) FROM public.lightning_monthly", "31/31 28/28 31/31 30/30 31/31 29/30 31/31 31/31 30/30 31/31 30/30 30/31")
	h.want("SELECT sum(strikes)::text FROM public.lightning_cell_month", fmt.Sprint(r.Totals.Strikes))
	h.want("SELECT string_agg(chunk || ' ' || first_day || ' ' || last_day || ' ' || rows || ' ' || strikes || ' ' || synthetic, ', ') FROM public.lightning_loads WHERE loaded > now() - interval '1 hour'",
		fmt.Sprintf("2018 2018-01-01 2018-12-31 %d %d false", r.Totals.Rows, r.Totals.Strikes))
	// Tiles of centres 20.0 to 20.4 make the cell at 20.0; its middle is 20.2.
	h.want("SELECT DISTINCT lat || ' ' || (SELECT DISTINCT lon FROM public.lightning_cell_month WHERE lon10 = -1200) FROM public.lightning_cell_month WHERE lat10 = 200", "20.2 -119.8")
}

func TestCoverage(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	mustLoad(t, w, entry("2012", "a"), result("2012", 8000, 1))
	mustLoad(t, w, entry("2014", "a"), result("2014", 8000, 1, "2014-01", "2014-02", "2014-03", "2014-04", "2014-05", "2014-06", "2014-07", "2014-08", "2014-09", "2014-10", "2014-11"))
	mustLoad(t, w, entry("2018", "a"), result("2018", 8000, 1, "2018-06-19", "2018-06-20", "2018-12-01"))
	mustLoad(t, w, entry("2020-01", "a"), result("2020-01", 3000, 1))
	mustLoad(t, w, entry("2020-03", "a"), result("2020-03", 3000, 1, "2020-03-30", "2020-03-31"))
	h.want("SELECT min(day) || ' ' || max(day) || ' ' || count(*) FROM public.lightning_coverage", "2012-01-01 2020-03-29 3011")
	h.want("SELECT string_agg(y, ', ' ORDER BY y) FROM (SELECT DISTINCT year || ' ' || year_state AS y FROM public.lightning_coverage) s",
		"2012 whole, 2013 not loaded, 2014 partial, 2015 not loaded, 2016 not loaded, 2017 not loaded, 2018 whole, 2019 not loaded, 2020 partial")
	h.want("SELECT string_agg(DISTINCT month_state, ' ') FROM public.lightning_coverage WHERE year = 2014 AND month < 12", "missing")
	h.want("SELECT string_agg(m, ', ' ORDER BY m) FROM (SELECT DISTINCT month || ' ' || month_state AS m FROM public.lightning_coverage WHERE day >= '2020-01-01') s", "1 whole, 2 not loaded, 3 partial")
	h.want("SELECT string_agg(day::text || coalesce(strikes::text, ' unknown'), ', ' ORDER BY day) FROM public.lightning_coverage WHERE year = 2018 AND state <> 'present'",
		"2018-06-19 unknown, 2018-06-20 unknown, 2018-12-01 unknown")
	h.want("SELECT month_state FROM public.lightning_coverage WHERE day = '2018-06-19'", "partial")
	h.want("SELECT count(*)::text FROM public.lightning_coverage WHERE state = 'present' AND strikes IS NULL OR state <> 'present' AND strikes IS NOT NULL", "0")
	h.want("SELECT string_agg(e, ', ' ORDER BY e) FROM (SELECT min(day) || ' ' || era || ' ' || era_name AS e FROM public.lightning_coverage GROUP BY era, era_name) s",
		"2012-01-01 1 before the sensors of 2013, 2013-01-01 2 sensors of 2013, 2015-01-01 3 processor of 2015, 2018-11-07 4 classification of 2018-11-07")
}

// An empty warehouse has views that can be read.
func TestViewsOfNothing(t *testing.T) {
	h := newHouse(t)
	for _, view := range []string{"lightning", "lightning_daily", "lightning_monthly", "lightning_cell_month", "lightning_coverage", "lightning_loads"} {
		h.want("SELECT count(*)::text FROM public."+view, "0")
	}
	h.want("SELECT obj_description('lightning.day'::regclass) ", "Lightning strikes and tile-days by day (UTC). A day without a row is unknown, not zero. Source: no data are loaded.")
}

func TestCommentsSaySynthetic(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	source := func(want string) {
		t.Helper()
		for _, rel := range []string{"lightning.day", "lightning.month", "lightning.cell_month", "lightning.chunk", "public.lightning", "public.lightning_daily", "public.lightning_monthly",
			"public.lightning_cell_month", "public.lightning_coverage", "public.lightning_loads"} {
			h.want("SELECT split_part(obj_description($1::text::regclass), ' Source: ', 2)", want, rel)
		}
	}
	made := entry("2017", "a")
	made.Synthetic = true
	mustLoad(t, w, made, result("2017", 2000, 1))
	source("synthetic, made by duoflow and not observed.")
	mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1))
	source("partly synthetic, made by duoflow and not observed: 2017.")
	h.want("SELECT string_agg(DISTINCT year || ' ' || synthetic, ', ') FROM public.lightning_coverage", "2017 true, 2018 false")
	// The same rows, but now said to be measured: the chunk is loaded again.
	if out := mustLoad(t, w, entry("2017", "a"), result("2017", 2000, 1)); out.Unchanged {
		t.Error("synthetic and measured are taken for the same")
	}
	source("NOAA NCEI, lightning tiles of the National Lightning Detection Network.")
	if err := w.Reset(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	source("no data are loaded.")
}

// What the dashboard reads must not need the whole table.
func TestReadsOfTheDashboardUseTheIndex(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	for _, c := range []tile.Chunk{"2015", "2016", "2017", "2018"} {
		mustLoad(t, w, entry(c, "a"), result(c, 60_000, 1))
	}
	mustExec(t, h.admin, "ANALYZE")
	for name, text := range map[string]string{
		"a month's map":    "SELECT lat, lon, strikes FROM public.lightning_cell_month WHERE year = 2017 AND month = 7",
		"a cell's history": "SELECT m.year, m.month, c.strikes FROM lightning.month m JOIN lightning.cell_month c USING (year, month) WHERE c.lat10 = 300 AND c.lon10 = -900",
	} {
		rows, err := h.admin.Query(t.Context(), "EXPLAIN "+text)
		if err != nil {
			t.Fatal(err)
		}
		plan := ""
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan += line + "\n"
		}
		if rows.Err() != nil || !strings.Contains(plan, "cell_month_pkey") || strings.Contains(plan, "Seq Scan on cell_month") {
			t.Errorf("%s: %v\n%s", name, rows.Err(), plan)
		}
	}
}
