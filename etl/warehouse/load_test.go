package warehouse_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

func entry(chunk tile.Chunk, hash string) warehouse.Entry {
	return warehouse.Entry{Chunk: chunk, SourceHash: hash}
}

func TestLoadReplacesAChunk(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	r18, r19 := result("2018", 20_000, 1), result("2019", 20_000, 2)
	if out := mustLoad(t, w, entry("2018", "a"), r18); out.Unchanged || out.Replaced || out.Rows != int64(r18.Day.Len()+r18.Month.Len()+r18.Cell.Len()) {
		t.Errorf("%+v", out)
	}
	mustLoad(t, w, entry("2019", "b"), r19)
	if out := mustLoad(t, w, entry("2018", "a"), r18); !out.Unchanged {
		t.Errorf("the same again: %+v", out)
	}
	again := result("2018", 30_000, 3)
	if out := mustLoad(t, w, entry("2018", "c"), again); out.Unchanged || !out.Replaced {
		t.Errorf("another source: %+v", out)
	}
	h.holds("2018", again)
	h.holds("2019", r19)
	if found, err := w.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	ledger, err := w.Ledger(t.Context())
	if err != nil || len(ledger) != 2 {
		t.Fatalf("%v, %v", ledger, err)
	}
	if e := ledger[0]; e.Chunk != "2018" || e.Step != "load" || e.State != warehouse.Done || e.SourceHash != "c" || e.Epoch != 1 || e.Node != "a" ||
		e.Strikes != again.Totals.Strikes || e.Rows != again.Totals.Rows || e.Hash != again.Hash() || time.Since(e.Updated) > time.Hour {
		t.Errorf("%+v", e)
	}
}

// TestAnErrorOfAnyBytesIsNoted: the ledger is to say failed, whatever the words are made of.
func TestAnErrorOfAnyBytesIsNoted(t *testing.T) {
	w := newHouse(t).epoch(1)
	e := warehouse.Entry{Chunk: "2018", Step: "aggregate", State: warehouse.Failed, Error: "spark said: \x00\xff gro\xc3"}
	if err := w.Note(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	ledger, err := w.Ledger(t.Context())
	if err != nil || len(ledger) != 1 || ledger[0].State != warehouse.Failed || ledger[0].Error != "spark said: \uFFFD\uFFFD gro\uFFFD" {
		t.Errorf("%+v, %v", ledger, err)
	}
}

// What somebody did to the tables is not taken for what was loaded.
func TestSameSourceIsLoadedAgainWhenRowsAreGone(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	r := result("2018", 5000, 1)
	mustLoad(t, w, entry("2018", "a"), r)
	mustExec(t, h.admin, "DELETE FROM lightning.cell_month WHERE month = 7")
	mustExec(t, h.admin, "UPDATE lightning.day SET strikes = strikes + 1, tiles = tiles + 1 WHERE day = '2018-03-01'")
	found, err := w.Verify(t.Context())
	if err != nil || len(found) != 1 || found[0].Chunk != "2018" {
		t.Errorf("%v, %v", found, err)
	}
	if out := mustLoad(t, w, entry("2018", "a"), r); out.Unchanged {
		t.Error("taken for unchanged")
	}
	h.holds("2018", r)
}

func TestMonthsAndYearsOverlap(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	year, may, empty := result("2020", 20_000, 1), result("2020-05", 3000, 2), result("2021-01", 0, 3)
	for _, month := range []tile.Chunk{"2020-05", "2020-06"} {
		mustLoad(t, w, entry(month, "m"), result(month, 2000, 5))
	}
	mustLoad(t, w, entry("2020", "y"), year)
	h.holds("2020", year)
	h.want("SELECT string_agg(chunk, ' ') FROM lightning.chunk", "2020")
	mustLoad(t, w, entry("2020-05", "n"), may)
	h.holds("2020-05", may)
	h.want("SELECT string_agg(chunk || source_hash, ' ' ORDER BY chunk) FROM lightning.chunk", "2020 2020-05n")
	if out := mustLoad(t, w, entry("2020", "y"), year); out.Unchanged {
		t.Error("a year with a foreign month is taken for unchanged")
	}
	h.holds("2020", year)
	mustLoad(t, w, entry("2021-01", "e"), empty)
	h.holds("2021-01", empty)
	if found, err := w.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestShrunkIsRefused(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	before, half, little := result("2018", 20_000, 1), result("2018", 11_000, 2), result("2018", 5000, 3)
	mustLoad(t, w, entry("2018", "a"), before)
	mustLoad(t, w, entry("2018", "b"), half)
	_, err := w.Load(t.Context(), entry("2018", "c"), little, little.Totals)
	wantErr(t, "less than half", err, warehouse.ErrShrunk)
	h.holds("2018", half)
	h.want("SELECT source_hash FROM duoflow.etl_chunk", "b")
	none := result("2018", 0, 1)
	_, err = w.Load(t.Context(), entry("2018", "d"), none, none.Totals)
	wantErr(t, "nothing", err, warehouse.ErrShrunk)
	accepted := entry("2018", "c")
	accepted.Accept = true
	mustLoad(t, w, accepted, little)
	h.holds("2018", little)
}

func TestWrongSumsAreRefused(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	r := result("2018", 5000, 1)
	expect := r.Totals
	expect.Strikes++
	_, err := w.Load(t.Context(), entry("2018", "a"), r, expect)
	wantErr(t, "the parser counted another", err, warehouse.ErrMismatch)
	_, err = w.Load(t.Context(), entry("2017", "a"), r, r.Totals)
	wantErr(t, "another chunk", err, warehouse.ErrMismatch)
	r.Cell.Values("strikes")[0]++
	_, err = w.Load(t.Context(), entry("2018", "a"), r, r.Totals)
	wantErr(t, "frames differ", err, warehouse.ErrMismatch)
	big := result("2018", 5000, 1)
	big.Cell.Values("lat10")[0] = 1 << 20
	_, err = w.Load(t.Context(), entry("2018", "a"), big, big.Totals)
	wantErr(t, "too big for its column", err, warehouse.ErrMismatch)
	if _, err = w.Load(t.Context(), entry("2018", ""), r, r.Totals); err == nil {
		t.Error("loaded without a source hash")
	}
	// Something in the database that eats rows: only counting the table sees it.
	good := result("2018", 5000, 1)
	mustExec(t, h.admin, `CREATE FUNCTION public.eat() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.day = ''2018-07-07'' THEN RETURN NULL; END IF; RETURN new; END';
		CREATE TRIGGER eat BEFORE INSERT ON lightning.day FOR EACH ROW EXECUTE FUNCTION public.eat()`)
	_, err = w.Load(t.Context(), entry("2018", "a"), good, good.Totals)
	wantErr(t, "a trigger", err, warehouse.ErrMismatch)
	h.want("SELECT count(*)::text FROM lightning.day", "0")
	h.want("SELECT count(*)::text FROM duoflow.etl_chunk", "0")
}

func TestCellsOfOneSizeOnly(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	mustLoad(t, w, entry("2018", "a"), result("2018", 1000, 1))
	other := result("2019", 1000, 1)
	other.CellTenths = 10
	_, err := w.Load(t.Context(), entry("2019", "a"), other, other.Totals)
	wantErr(t, "cells of a degree", err, warehouse.ErrCell)
	if err := w.Reset(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, w, entry("2019", "a"), other)
	h.want("SELECT cell10::text FROM public.lightning_cell_month LIMIT 1", "10")
}

func TestReset(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	for _, c := range []tile.Chunk{"2018", "2019-01", "2019-02"} {
		mustLoad(t, w, entry(c, "a"), result(c, 2000, 1))
		if err := w.Note(t.Context(), warehouse.Entry{Chunk: c, Step: "copy", State: warehouse.Done}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Reset(t.Context(), "2019"); err != nil {
		t.Fatal(err)
	}
	h.want("SELECT string_agg(chunk || ' ' || step, ', ' ORDER BY step) FROM duoflow.etl_chunk", "2018 copy, 2018 load")
	h.want("SELECT string_agg(DISTINCT year::text, ',') FROM lightning.cell_month", "2018")
	h.holds("2018", result("2018", 2000, 1))
	if err := w.Reset(t.Context(), "2018-02"); err != nil {
		t.Fatal(err)
	}
	h.want("SELECT source_hash || count(DISTINCT month) FROM lightning.chunk, lightning.month GROUP BY source_hash", "11")
	if out := mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1)); out.Unchanged {
		t.Error("a year without its February is taken for unchanged")
	}
	if err := w.Reset(t.Context(), "18"); err == nil {
		t.Error("reset of no chunk")
	}
}

func TestNoteReadsBack(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(3)
	e := warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Started, SourceHash: "s", Sources: []byte(`[{"name": "it's \" \\ ü"}]`), UploadID: "u",
		Manifests: []string{"a/b", "c"}, Rows: 1, Strikes: 2, Quarantined: 3, Hash: "h", Synthetic: true, Took: 1500 * time.Millisecond, Error: "no\nluck"}
	for range 2 {
		if err := w.Note(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.Ledger(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	e.Pipeline, e.Epoch, e.Node, e.Updated = "lightning", 3, "a", got[0].Updated
	if !reflect.DeepEqual(got[0], e) {
		t.Errorf("got %+v, want %+v", got[0], e)
	}
	if err := w.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: "odd"}); err == nil {
		t.Error("a state of no meaning was written")
	}
}

// The tables are changed by somebody: a clear error, and what was loaded is still there.
func TestTableChangedUnderUs(t *testing.T) {
	for name, change := range map[string]string{
		"column dropped":      "ALTER TABLE lightning.month DROP COLUMN days CASCADE",
		"column added":        "ALTER TABLE lightning.month ADD COLUMN more integer NOT NULL DEFAULT 0; ALTER TABLE lightning.month ALTER COLUMN more DROP DEFAULT",
		"another type":        "DROP VIEW public.lightning_cell_month; ALTER TABLE lightning.cell_month ALTER COLUMN tiles DROP NOT NULL; ALTER TABLE lightning.cell_month DROP CONSTRAINT cell_month_tiles_check; ALTER TABLE lightning.cell_month ALTER COLUMN tiles TYPE text",
		"table became a view": "ALTER TABLE lightning.cell_month RENAME TO away; CREATE VIEW lightning.cell_month AS SELECT 1::smallint AS year, 1::smallint AS month, 0 AS lat10, 0 AS lon10, 1 AS strikes, 1 AS tiles WHERE false",
	} {
		h := newHouse(t)
		w := h.epoch(1)
		mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1))
		before := h.query("SELECT md5(string_agg(d::text, ',' ORDER BY day)) FROM (SELECT day, strikes FROM lightning.day) d")
		for statement := range strings.SplitSeq(change, ";") {
			mustExec(t, h.admin, statement)
		}
		mustExec(t, h.admin, "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA lightning TO "+h.group)
		r := result("2018", 3000, 2)
		_, err := w.Load(t.Context(), entry("2018", "b"), r, r.Totals)
		wantErr(t, name, err, warehouse.ErrChanged)
		h.want("SELECT md5(string_agg(d::text, ',' ORDER BY day)) FROM (SELECT day, strikes FROM lightning.day) d", before)
		h.want("SELECT source_hash FROM duoflow.etl_chunk", "a")
	}
	h := newHouse(t)
	w := h.epoch(1)
	mustExec(t, h.admin, "DROP TABLE lightning.month CASCADE")
	r := result("2018", 2000, 1)
	_, err := w.Load(t.Context(), entry("2018", "b"), r, r.Totals)
	wantErr(t, "table dropped", err, warehouse.ErrNotSetUp)
	err = w.Ready(t.Context())
	wantErr(t, "table dropped", err, warehouse.ErrNotSetUp)
	if err != nil && !strings.Contains(err.Error(), "lightning.month") {
		t.Error(err)
	}
}

// A lock of somebody else is waited for, a try at a time.
func TestLockedTableIsTriedAgain(t *testing.T) {
	h := newHouse(t)
	dsn := h.take(1)
	w := h.open(warehouse.Config{DSN: dsn, Identity: warehouse.Identity{Epoch: 1}, LockTimeout: 20 * time.Millisecond, Patience: patience})
	hasty := h.open(warehouse.Config{DSN: dsn, Identity: warehouse.Identity{Epoch: 1}, LockTimeout: 20 * time.Millisecond, Patience: 100 * time.Millisecond})
	other := connect(t, h.adminDSN())
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec(t.Context(), "LOCK TABLE lightning.day"); err != nil {
		t.Fatal(err)
	}
	r := result("2018", 2000, 1)
	if _, err = hasty.Load(t.Context(), entry("2018", "a"), r, r.Totals); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("locked for longer than patience: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.Load(t.Context(), entry("2018", "a"), r, r.Totals)
		done <- err
	}()
	waits := "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	eventually(t, "a load that waits", func() bool { return h.query(waits) != "0" })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.holds("2018", r)
}

// The server is restarted in the middle of many loads; each is done once, none is lost.
func TestServerRestartsUnderLoads(t *testing.T) {
	own := newServer(t)
	h := newBare(t, own)
	h.setUp(h.layout)
	w := h.open(warehouse.Config{DSN: h.take(1), Identity: warehouse.Identity{Epoch: 1}, Patience: patience})
	chunks := tile.ChunksBetween("2001", "2012")
	done := make(chan error, 1)
	go func() {
		for _, c := range chunks {
			r := result(c, 3000, 1)
			if _, err := w.Load(t.Context(), entry(c, "a"), r, r.Totals); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range 2 {
		watch := connect(t, h.adminDSN())
		eventually(t, "some loads", func() bool {
			var n int
			return watch.QueryRow(t.Context(), "SELECT count(*) FROM lightning.chunk").Scan(&n) == nil && n > 3*i
		})
		if i == 0 {
			if err := own.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := own.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		h.holds(c, result(c, 3000, 1))
	}
}
