//go:build mounts

package etl_test

import (
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

// This test mounts a file system, so it needs root: go test -tags mounts -run Mount ./etl

// TestMountOutOfSpace: the disk under a table is full. What was loaded stays, the error says so, and with room the next run loads.
func TestMountOutOfSpace(t *testing.T) {
	dir := pgtest.SmallDisk(t, 2)
	own, err := pg.Start(t.Context(), pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the mount goes
		if err := stopServer(own); err != nil {
			t.Error(err)
		}
	})
	w := newWorldOn(t, own, nil)
	s := w.scene(t, "small", packedName, "")
	s.put(s.name, zip(t, ncei(tiles(1000))))
	before := s.good(etl.Selection{})
	s.admin("CREATE TABLESPACE small LOCATION '" + dir + "'")
	s.admin("ALTER TABLE {}.cell_month SET TABLESPACE small")
	s.put(s.name, zip(t, ncei(manyCells())))
	s.refused(refusal{etl.ExitFailed, etl.StepLoad, []string{"the database server is out of disk space", "No space left on device", "make room for it"}})
	if now := s.tables(); now != before {
		t.Errorf("tables hash to %s, before to %s", now, before)
	}
	s.admin("ALTER TABLE {}.cell_month SET TABLESPACE pg_default")
	if after := s.good(etl.Selection{}); after == before || s.loadedRows() != int64(len(manyCells())) {
		t.Errorf("with room %d rows are loaded", s.loadedRows())
	}
}

// manyCells are rows that are cells of their own: 60,000, which are 3 MB of a table.
func manyCells() []tile.Row {
	var out []tile.Row
	for month := 1; month <= 12; month++ {
		day, _ := tile.DayOf(2018, month, 1)
		for lat := range 50 {
			for lon := range 100 {
				out = append(out, tile.Row{Day: day, Lat10: int16(250 + 5*lat), Lon10: int16(-1200 + 5*lon), Strikes: 1})
			}
		}
	}
	return out
}
