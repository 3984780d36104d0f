package fence_test

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

func ago(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// TestANoteIsWrittenOnceAndAtItsTime: also in a database of before there were notes, for the rights are those of the take.
func TestANoteIsWrittenOnceAndAtItsTime(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	take(t, f, claim(3, "a"))
	for range 2 {
		for _, moment := range []fence.Moment{fence.Started, fence.Stopped} {
			if err := f.Note(t.Context(), fence.Note{Epoch: 3, Node: "a", Moment: moment, Ago: ago(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := b.query(`SELECT string_agg(epoch || node || kind || ' ' || (at < clock_timestamp() - interval '59 min' AND at > clock_timestamp() - interval '61 min'), ', ' ORDER BY id)
		FROM duoflow.event`); got != "3atake false, 3astart true, 3astop true" {
		t.Errorf("ledger %s", got)
	}
}

// TestANoteMayNotSayWhatTheFenceSays: take and release are written in their own transactions only.
func TestANoteMayNotSayWhatTheFenceSays(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	for _, moment := range []fence.Moment{fence.Taken, fence.Released, "", "begin"} {
		if err := f.Note(t.Context(), fence.Note{Epoch: 3, Node: "a", Moment: moment, Ago: ago(0)}); err == nil {
			t.Errorf("%q was noted", moment)
		}
	}
	if got := b.query("SELECT count(*)::text FROM duoflow.event"); got != "0" {
		t.Errorf("%s lines", got)
	}
}

// TestANoteThatHangsHoldsUpNoTake: its session is its own, and takes no lock that a take wants.
func TestANoteThatHangsHoldsUpNoTake(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	mustExec(t, b.admin, `CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.kind = 'start' THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$`)
	mustExec(t, b.admin, "CREATE TRIGGER hang AFTER INSERT ON duoflow.event FOR EACH ROW EXECUTE FUNCTION public.hang()")
	noted := make(chan error, 1)
	go func() {
		noted <- f.Note(t.Context(), fence.Note{Epoch: 1, Node: "a", Moment: fence.Started, Ago: ago(0)})
	}()
	eventually(t, "the note hangs", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == "1"
	})
	take(t, f, claim(2, "a"))
	take(t, b.fencer(b.b), claim(3, "b"))
	if err := f.Release(t.Context(), claim(2, "a")); err == nil {
		t.Error("released an epoch that was over")
	}
	if got := b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"); got != "1" {
		t.Error("the note does not hang any more: nothing was tested")
	}
	mustExec(t, b.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
	if err := <-noted; err == nil {
		t.Error("noted")
	}
}
