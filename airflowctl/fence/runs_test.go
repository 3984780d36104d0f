package fence_test

import (
	"testing"
	"time"
)

// TestRuns: the newest first, each epoch's try by itself; what was only seen is none.
func TestRuns(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	if runs, err := f.Runs(t.Context(), 10); err != nil || len(runs) != 0 {
		t.Errorf("before any: %+v, %v", runs, err)
	}
	mustExec(t, b.admin, `INSERT INTO duoflow.run (job, slot, epoch, node, state, began, ended, exit) VALUES
		($1, '2026-11-24 02:00Z', 1, 'a', 'seen', '2026-11-24 02:00:01Z', NULL, NULL),
		($1, '2026-11-25 02:00Z', 1, 'a', 'failed', '2026-11-25 02:00:01Z', '2026-11-25 02:09:01Z', 3),
		($1, '2026-11-25 02:00Z', 2, 'b', 'started', '2026-11-25 02:10:00Z', NULL, NULL),
		('other', '2026-11-26 02:00Z', 9, 'b', 'done', '2026-11-26 02:10:00Z', '2026-11-26 02:11:00Z', 0)`, job)
	runs, err := f.Runs(t.Context(), 10)
	if err != nil || len(runs) != 2 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if r := runs[0]; r.Epoch != 2 || r.Node != "b" || r.State != "started" || !r.Ended.IsZero() {
		t.Errorf("the newest is %+v", r)
	}
	if r := runs[1]; r.State != "failed" || r.Exit != 3 || r.Ended.Sub(r.Began) != 9*time.Minute || r.Slot.UTC().Hour() != 2 {
		t.Errorf("the one before is %+v", r)
	}
	if runs, err := f.Runs(t.Context(), 1); err != nil || len(runs) != 1 {
		t.Errorf("limited: %+v, %v", runs, err)
	}
	mustExec(t, b.admin, "DROP TABLE duoflow.run")
	if runs, err := f.Runs(t.Context(), 1); err != nil || len(runs) != 0 {
		t.Errorf("without the table: %+v, %v", runs, err)
	}
}
