package fence_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// inLife makes a fencer one of a later life of its cluster.
func inLife(number uint64) func(*fence.Config) {
	return func(c *fence.Config) { c.Life = func() uint64 { return number } }
}

// TestALaterLifeShutsOutTheOnesBefore: nodes of a life that is over take nothing, whatever epoch they claim, and change nothing.
func TestALaterLifeShutsOutTheOnesBefore(t *testing.T) {
	b := newBench(t)
	before, after := b.fencer(b.a), b.fencer(b.b, inLife(1))
	old := claim(1, "a")
	take(t, before, old)
	renewed := claim(2, "b")
	login(t, take(t, after, renewed))
	for _, epoch := range []uint64{2, 3, 1_000_000} {
		if _, err := before.Take(t.Context(), claim(epoch, "a")); !errors.Is(err, fence.ErrReplaced) {
			t.Errorf("take of epoch %d: err = %v", epoch, err)
		}
	}
	if got := b.query("SELECT format('%s %s %s', epoch, node, life) FROM duoflow.fence WHERE job = $1", job); got != "2 b 1" {
		t.Errorf("the row is %s", got)
	}
	if got := b.query("SELECT string_agg(name, ' ' ORDER BY epoch) FROM duoflow.epoch_roles($1, $2)", job, b.group); got != b.role(1)+" "+b.role(2) {
		t.Errorf("roles: %s", got)
	}
	mustTake(t, after, renewed) // a lost answer is asked for again
	take(t, b.fencer(b.a, inLife(2)), claim(3, "a"))
	if _, err := after.Take(t.Context(), claim(4, "b")); !errors.Is(err, fence.ErrReplaced) {
		t.Errorf("take of the second life: err = %v", err)
	}
}

// TestTheDoctorKnowsNoLives: what it leaves on its own row shuts nobody out.
func TestTheDoctorKnowsNoLives(t *testing.T) {
	b := newBench(t)
	for _, f := range []*fence.Fencer{b.fencer(b.a, inLife(3)), b.fencer(b.b)} {
		if report := checked(t, f.Doctor); report.Mode != fence.ModeFenced {
			t.Errorf("doctor: %+v", report)
		}
	}
}

// TestTheTakeOfBeforeThereWereLivesIsReplaced: a set-up that is run again leaves no way around the rule.
func TestTheTakeOfBeforeThereWereLivesIsReplaced(t *testing.T) {
	b := before(t)
	if err := b.upgrade(); err != nil {
		t.Fatal(err)
	}
	take(t, b.fencer(b.a, inLife(1)), claim(1, "a"))
	const asBefore = "SELECT outcome FROM duoflow.take($1, $2, 2, 'b', 'x', 'SCRAM-SHA-256$x')"
	if got := b.query(asBefore, job, b.group); got != "replaced" {
		t.Errorf("a daemon of a version before has %s", got)
	}
}

// restored is a job at epoch 5 whose server is put back to epoch 2, and the credentials of epoch 2.
func restored(t *testing.T) (*bench, fence.Credentials) {
	t.Helper()
	b := newBenchOn(t, newServer(t, nil))
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	stolen := take(t, f, claim(2, "b"))
	if err := b.server.Copy(t.Context(), "week-old"); err != nil {
		t.Fatal(err)
	}
	for epoch := uint64(3); epoch <= 5; epoch++ {
		take(t, f, claim(epoch, "a"))
	}
	if err := b.server.PutBack(t.Context(), "week-old"); err != nil {
		t.Fatal(err)
	}
	was, is := strconv.Itoa(int(stolen.Port)), strconv.Itoa(b.server.Port())
	stolen.Port, b.a = uint16(b.server.Port()), strings.Replace(b.a, ":"+was+"/", ":"+is+"/", 1)
	b.admin = open(t, b.adminDSN())
	if got := b.query("SELECT epoch::text FROM duoflow.fence WHERE job = $1", job); got != "2" {
		t.Fatalf("the restored row is at epoch %s", got)
	}
	if got := b.query("SELECT string_agg(name, ' ' ORDER BY epoch) FROM duoflow.epoch_roles($1, $2)", job, b.group); got != b.role(1)+" "+b.role(2) {
		t.Fatalf("the restored roles are %s", got)
	}
	return b, stolen
}

// TestARestoredServerIsSealed: a server that comes back a week older lets in who had the epoch then. Seal shuts that, before the server is
// opened to anybody, and the next epoch works.
func TestARestoredServerIsSealed(t *testing.T) {
	b, stolen := restored(t)
	thief := login(t, stolen)
	mustExec(t, thief, insertW, 2) // that is what Seal is for
	sealed, err := fence.Seal(t.Context(), b.adminDSN(), job, b.group)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(sealed.Roles) != fmt.Sprint([]string{b.role(2)}) || sealed.Row.Epoch != 2 || sealed.Ended != 1 {
		t.Errorf("sealed %+v", sealed)
	}
	_, err = thief.Exec(t.Context(), insertW, 2)
	wantCode(t, "the session of the old epoch", err, "57P01", "42501", "closed")
	wantShut(t, stolen)
	again, err := fence.Seal(t.Context(), b.adminDSN(), job, b.group)
	if err != nil || len(again.Roles) != 0 || again.Ended != 0 {
		t.Errorf("sealed again: %+v, %v", again, err)
	}
	next := claim(6, "a") // the nodes know of epoch 5
	fresh := login(t, take(t, b.fencer(b.a), next))
	mustExec(t, fresh, insertW, 6)
	wantShut(t, stolen)
	if got := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY id) FROM public.w"); got != "2 6" {
		t.Errorf("written by epochs %s", got)
	}
}

// TestARestoredServerIsFencedByTheNextTake: without Seal what the restore revived ends with the take, and all that it wrote comes before.
func TestARestoredServerIsFencedByTheNextTake(t *testing.T) {
	b, stolen := restored(t)
	thief := login(t, stolen)
	mustExec(t, thief, insertW, 2)
	f := b.fencer(b.a)
	var stale *fence.StaleError
	if _, err := f.Take(t.Context(), claim(2, "a")); !errors.As(err, &stale) || stale.Row.Epoch != 2 {
		t.Errorf("the restored epoch was granted to another: %v", err)
	}
	take(t, f, claim(6, "a"))
	_, err := thief.Exec(t.Context(), insertW, 2)
	wantCode(t, "the session of the old epoch", err, "57P01", "42501", "closed")
	wantShut(t, stolen)
}

// TestASealForgetsTheLife: when all nodes were lost, and no backup is left, new ones are of the first life, and the fence must be had for them.
func TestASealForgetsTheLife(t *testing.T) {
	b := newBench(t)
	take(t, b.fencer(b.a, inLife(2)), claim(1, "a"))
	fresh := b.fencer(b.b)
	if _, err := fresh.Take(t.Context(), claim(2, "b")); !errors.Is(err, fence.ErrReplaced) || !strings.Contains(err.Error(), "duoctl metastore seal") {
		t.Errorf("before: %v", err)
	}
	if _, err := fence.Seal(t.Context(), b.adminDSN(), job, b.group); err != nil {
		t.Fatal(err)
	}
	take(t, fresh, claim(2, "b"))
}

// TestASealOfASetUpOfBefore: an old backup has a set-up of before there were lives.
func TestASealOfASetUpOfBefore(t *testing.T) {
	b := before(t)
	if got := oldTake(t, b, oldDaemon(t, b), claim(1, "b")); got != "taken" {
		t.Fatal(got)
	}
	if sealed, err := fence.Seal(t.Context(), b.adminDSN(), job, b.group); err != nil || len(sealed.Roles) != 1 {
		t.Errorf("sealed %+v, %v", sealed, err)
	}
}

// TestSealNeedsTheSetUp: it says what is missing and does nothing by halves.
func TestSealNeedsTheSetUp(t *testing.T) {
	b := newBench(t)
	if _, err := fence.Seal(t.Context(), b.adminDSN(), "unknown", b.group); err == nil {
		t.Error("a job without a row is sealed")
	}
	if _, err := fence.Seal(t.Context(), b.adminDSN(), "Bad Name", b.group); err == nil {
		t.Error("a bad name is sealed")
	}
	if sealed, err := fence.Seal(t.Context(), b.a, job, b.group); err != nil || len(sealed.Roles) != 0 {
		t.Errorf("a fencer's own login cannot seal: %+v, %v", sealed, err)
	}
}

func wantShut(t *testing.T, stolen fence.Credentials) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), stolen.DSN())
	if err == nil {
		closeConn(conn)
	}
	wantCode(t, "a login with the credentials of the old epoch", err, "28000", "28P01")
}
