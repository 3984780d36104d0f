package etl_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// These tests are the rows of "bad input" in DESIGN.md in which the target database is not as it was.

// admin runs statements in which {} is the pipeline.
func (s *scene) admin(sql string) {
	s.t.Helper()
	s.exec(s.named(sql))
}

func (s *scene) named(sql string) string { return strings.ReplaceAll(sql, "{}", s.pipeline) }

// TestTableChangedUnderUs changes a table between init and the load, and again during a run, when the file has been fetched: the
// run ends, says what has changed, and nothing was loaded. Mended, and set up again, the next one loads.
func TestTableChangedUnderUs(t *testing.T) {
	w := newWorld(t, nil)
	for name, one := range map[string]struct {
		change, mend   string
		before, during []string // words of the message, when it was changed before the run, and during it
	}{
		"column_dropped": {
			"ALTER TABLE {}.month DROP COLUMN days CASCADE", "ALTER TABLE {}.month ADD COLUMN days smallint NOT NULL DEFAULT 31",
			[]string{"no {}.month.days smallint"}, []string{`column "days" of relation "month" does not exist`},
		},
		"column_renamed": {
			"ALTER TABLE {}.day RENAME COLUMN tiles TO tile_days", "ALTER TABLE {}.day RENAME COLUMN tile_days TO tiles",
			[]string{"no {}.day.tiles integer"}, []string{`column "tiles" does not exist`},
		},
		"type_changed": {
			"DROP VIEW {}_views.lightning_coverage, {}_views.lightning, {}_views.lightning_daily; ALTER TABLE {}.day ALTER COLUMN day TYPE text",
			"ALTER TABLE {}.day ALTER COLUMN day TYPE date USING day::date",
			[]string{"no {}.day.day date"}, []string{"operator does not exist: text >= date"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.scene(t, name, packedName, "")
			s.put(s.name, zip(t, ncei(tiles(100))))
			s.good(etl.Selection{})
			before := s.tables()

			s.put(s.name, zip(t, ncei(tiles(200))))
			s.admin(one.change)
			s.stopped("", one.before...)
			s.admin(one.mend)
			s.mended(before)
			before = s.good(etl.Selection{})

			s.put(s.name, zip(t, ncei(tiles(300))))
			hits := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Name: "/" + name + "/raw/", Times: 1, Do: func() {
				if err := s.tryExec(s.named(one.change)); err != nil {
					t.Error(err)
				}
			}})
			s.stopped(etl.StepLoad, one.during...)
			if hits() != 1 {
				t.Fatalf("the table was changed %d times during the run", hits())
			}
			s.admin(one.mend)
			s.mended(before)
			if after := s.good(etl.Selection{}); after == before || s.loadedRows() != 300 {
				t.Errorf("after all is mended %d rows are loaded", s.loadedRows())
			}
		})
	}
}

// stopped wants a run to end because of the tables; step is what the ledger calls failed, "" when no step was begun.
func (s *scene) stopped(step string, words ...string) {
	s.t.Helper()
	before := query[int64](s.world, "SELECT count(*) FROM duoflow.etl_chunk WHERE pipeline = $1 AND state <> 'done'", s.pipeline)
	_, err := s.run(etl.Selection{})
	if etl.ExitCode(err) != etl.ExitFailed {
		s.t.Fatalf("exit code %d, want %d: %v", etl.ExitCode(err), etl.ExitFailed, err)
	}
	row := s.ledger("2018", step)
	for _, word := range append(words, "the tables were changed", "columns have to be restored by hand") {
		word = s.named(word)
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("the message lacks %q: %v", word, err)
		}
		if step != "" && (!strings.Contains(row, word) || !strings.HasPrefix(row, "failed ")) {
			s.t.Errorf("the ledger says of %s, without %q: %q", step, word, row)
		}
	}
	now := query[int64](s.world, "SELECT count(*) FROM duoflow.etl_chunk WHERE pipeline = $1 AND state <> 'done'", s.pipeline)
	if step == "" && now != before {
		s.t.Errorf("%d steps were begun, though the tables could not have taken anything", now-before)
	}
}

// mended sets up again and looks that the tables are as they were.
func (s *scene) mended(before string) {
	s.t.Helper()
	if err := s.p.Init(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if now := s.tables(); now != before {
		s.t.Errorf("tables hash to %s, before the run that was stopped to %s", now, before)
	}
}
