package schedule_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/schedule"
)

// reconnect is for after a restart of the server.
func (b *bench) reconnect() {
	b.t.Helper()
	_ = b.admin.Close(context.Background())
	var err error
	b.admin, err = pgx.Connect(b.t.Context(), server.Superuser())
	must(b.t, err)
}

// TestPast is what the next epoch is told after each way a run can go.
func TestPast(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	table := b.table(1, b.take(1))
	expect := func(what string, want schedule.Past) {
		t.Helper()
		got, err := table.Past(ctx)
		must(t, err)
		if age := time.Since(got.Now).Abs(); age > time.Minute {
			t.Errorf("%s: the server's clock says %s", what, got.Now)
		}
		if got.Ended.IsZero() == (got.Failures > 0) || got.Failures > 0 && got.Now.Sub(got.Ended).Abs() > time.Minute {
			t.Errorf("%s: the last failure was at %s, it is %s", what, got.Ended, got.Now)
		}
		got.Now, got.Ended, got.Slot = time.Time{}, time.Time{}, got.Slot.UTC()
		if got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	one, two := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), time.Date(2026, 11, 25, 11, 0, 0, 0, time.UTC)
	expect("never seen", schedule.Past{Slot: time.Time{}.UTC()})
	must(t, table.See(ctx, one.Add(-time.Minute)))
	expect("seen", schedule.Past{Slot: one.Add(-time.Minute), Settled: true, Seen: true, Tries: 1})
	must(t, table.Begin(ctx, one))
	must(t, table.Begin(ctx, one)) // the answer was lost
	expect("begun", schedule.Past{Slot: one, Tries: 1})
	must(t, table.End(ctx, one, 4))
	must(t, table.End(ctx, one, 4))
	expect("failed", schedule.Past{Slot: one, Failed: true, Tries: 1, Failures: 1, Exit: 4})
	table = b.table(2, b.take(2))
	must(t, table.Begin(ctx, one))
	expect("begun again", schedule.Past{Slot: one, Tries: 2, Failures: 1})
	must(t, table.End(ctx, one, 0))
	expect("done", schedule.Past{Slot: one, Settled: true, Tries: 2, Failures: 1})
	must(t, table.Begin(ctx, two))
	expect("the next one begun", schedule.Past{Slot: two, Tries: 1})
}

// TestASlotIsDoneOnce: the database itself refuses the second time.
func TestASlotIsDoneOnce(t *testing.T) {
	b, slot := newBench(t), time.Now().Truncate(time.Second)
	for epoch := uint64(1); epoch <= 2; epoch++ {
		table := b.table(epoch, b.take(epoch))
		must(t, table.Begin(t.Context(), slot))
		if err := table.End(t.Context(), slot, 0); (err == nil) != (epoch == 1) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
	if got := b.rows(); got != "1 done 0, 2 started -" {
		t.Errorf("rows %q", got)
	}
}

// TestAFencedEpochNotesNothing, over the session it had and over a new one.
func TestAFencedEpochNotesNothing(t *testing.T) {
	b, slot := newBench(t), time.Now().Truncate(time.Second)
	old := b.table(1, b.take(1))
	must(t, old.Begin(t.Context(), slot))
	b.take(2)
	var last error
	for range 3 { // the first may only find its session gone
		last = errors.Join(old.End(t.Context(), slot, 0), old.Begin(t.Context(), slot.Add(time.Second)))
	}
	if !errors.Is(last, schedule.ErrFenced) {
		t.Errorf("a fenced epoch: %v", last)
	}
	if got := b.rows(); got != "1 started -" {
		t.Errorf("rows %q", got)
	}
}

func TestOldRunsAreForgotten(t *testing.T) {
	b := newBench(t)
	_, err := b.admin.Exec(t.Context(), `INSERT INTO duoflow.run (job, slot, epoch, node, state)
		SELECT $1, now() - i * interval '1 hour', 1, 'a', 'failed' FROM generate_series(1, 1200) i`, b.job)
	must(t, err)
	table, slot := b.table(2, b.take(2)), time.Now().Truncate(time.Second)
	must(t, table.Begin(t.Context(), slot))
	must(t, table.End(t.Context(), slot, 0))
	if got := b.query(`SELECT count(*)::text FROM duoflow.run WHERE job = $1`, b.job); got != "1001" {
		t.Errorf("%s rows are left", got)
	}
}

// TestMissingTable is an installation from before there were schedules: Check says it, and the set-up mends it.
func TestMissingTable(t *testing.T) {
	b := newBench(t)
	credentials := b.take(1)
	_, err := b.admin.Exec(t.Context(), `DROP TABLE duoflow.run`)
	must(t, err)
	if _, err := b.table(1, credentials).Past(t.Context()); !errors.Is(err, schedule.ErrFenced) || !strings.Contains(err.Error(), "duoflow.run") {
		t.Errorf("without the table: %v", err)
	}
	if found := b.finding(); found.OK || !strings.Contains(found.Detail, "duoflow.run is missing") || !strings.Contains(found.Mend, "metastore init") {
		t.Errorf("without the table: %+v", found)
	}
	setup := fence.Setup{Jobs: []string{b.job}, Group: group}
	must(t, fence.Init(t.Context(), server.Superuser(), setup))
	must(t, fence.Init(t.Context(), server.Superuser(), setup))
	if found := b.finding(); !found.OK {
		t.Errorf("after the set-up: %+v", found)
	}
	if _, err := b.table(1, credentials).Past(t.Context()); err != nil {
		t.Errorf("after the set-up: %v", err)
	}
}

func (b *bench) finding() fence.Finding {
	b.t.Helper()
	report, err := b.fencer.Check(b.t.Context())
	must(b.t, err)
	for _, f := range report.Findings {
		if f.Name == "job can note its scheduled runs" {
			return f
		}
	}
	b.t.Fatal("nothing was found about scheduled runs")
	return fence.Finding{}
}
