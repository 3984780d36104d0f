//go:build mounts

package warehouse_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl/warehouse"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

// These tests mount a file system, so they need root: go test -tags mounts -run Mount ./etl/warehouse

// A real disk that is full, under the table and under what is copied aside: the error says so, what was loaded is as before,
// and when there is space the same load succeeds.
func TestMountServerOutOfSpace(t *testing.T) {
	dir := pgtest.SmallDisk(t, 2)
	own := newServer(t) // after the mount, so that it is stopped before
	for name, way := range map[string]struct{ fill, empty string }{
		"table":   {"ALTER TABLE lightning.cell_month SET TABLESPACE small", "ALTER TABLE lightning.cell_month SET TABLESPACE pg_default"},
		"staging": {"ALTER ROLE {role} SET temp_tablespaces = 'small'", "ALTER ROLE {role} RESET temp_tablespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newBare(t, own)
			h.setUp(h.layout)
			before, big := result("2018", 3000, 1), result("2018", 600_000, 2)
			dsn := h.take(1)
			c := warehouse.Config{DSN: dsn, Identity: warehouse.Identity{Epoch: 1}}
			mustLoad(t, h.open(c), entry("2018", "a"), before)
			if h.query("SELECT count(*)::text FROM pg_tablespace WHERE spcname = 'small'") == "0" {
				mustExec(t, h.admin, "CREATE TABLESPACE small LOCATION '"+dir+"'")
			}
			role := h.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'df\\_' || $1 || '\\_etl\\_e1'", h.group)
			mustExec(t, h.admin, "GRANT CREATE ON TABLESPACE small TO "+h.group)
			mustExec(t, h.admin, strings.ReplaceAll(way.fill, "{role}", role))
			w := h.open(c) // a session that begins after the change
			_, err := w.Load(t.Context(), entry("2018", "b"), big, big.Totals)
			wantErr(t, "full", err, warehouse.ErrFull)
			h.holds("2018", before)
			h.want("SELECT source_hash || state FROM duoflow.etl_chunk", "adone")
			mustExec(t, h.admin, strings.ReplaceAll(way.empty, "{role}", role))
			w = h.open(c)
			mustLoad(t, w, entry("2018", "b"), big)
			h.holds("2018", big)
		})
	}
}
