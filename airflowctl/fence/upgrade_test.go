package fence_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// before sets a bench back to the set-up of the version before there were lives, of which testdata has the text.
func before(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	mustExec(t, b.admin, "DROP SCHEMA duoflow CASCADE")
	b.setUpAsBefore()
	return b
}

// setUpAsBefore runs the set-up of the version before.
func (b *bench) setUpAsBefore() {
	b.t.Helper()
	text, err := os.ReadFile("testdata/before-lives.sql")
	if err != nil {
		b.t.Fatal(err)
	}
	setup := strings.NewReplacer("'GROUP'", "'"+b.group+"'", `"GROUP"`, b.group, "'JOB'", "'"+job+"'").Replace(string(text))
	if _, err := b.admin.PgConn().Exec(b.t.Context(), setup).ReadAll(); err != nil {
		b.t.Fatal(err)
	}
}

// TestASetUpOfBeforeRunAgainServesBoth: who goes back to the version before runs its set-up, under daemons of now, and starts its daemons.
func TestASetUpOfBeforeRunAgainServesBoth(t *testing.T) {
	b := before(t)
	if err := b.upgrade(); err != nil {
		t.Fatal(err)
	}
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	b.setUpAsBefore()
	take(t, f, claim(2, "a"))
	if got := oldTake(t, b, oldDaemon(t, b), claim(3, "b")); got != "taken" {
		t.Errorf("a daemon of before: %s", got)
	}
	take(t, f, claim(4, "a"))
	if err := b.upgrade(); err != nil {
		t.Fatal(err)
	}
	take(t, f, claim(5, "a"))
}

// upgrade runs the set-up of now, as an administrator does it.
func (b *bench) upgrade() error {
	return fence.Init(b.t.Context(), b.adminDSN(), fence.Setup{Jobs: []string{job}, Group: b.group})
}

// oldDaemon is a fencer's session of the version before, with its statement prepared.
func oldDaemon(t *testing.T, b *bench) *pgx.Conn {
	t.Helper()
	conn := open(t, b.b)
	mustExec(t, conn, "SET ROLE duoflow")
	const take = "SELECT t.outcome FROM duoflow.take($1::text, $2::text, $3::bigint, $4::text, $5::text, $6::text) t"
	if _, err := conn.Prepare(t.Context(), "take", take); err != nil {
		t.Fatal(err)
	}
	return conn
}

func oldTake(t *testing.T, b *bench, daemon *pgx.Conn, c fence.Claim) (outcome string) {
	t.Helper()
	verifier, err := fence.Verifier("of this epoch")
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.QueryRow(t.Context(), "take", job, b.group, c.Epoch, c.Node, c.Token, verifier).Scan(&outcome); err != nil {
		t.Fatal(err)
	}
	return outcome
}

// checked asks until there is an answer: a busy machine may let a login take longer than a fencer waits for it.
func checked(t *testing.T, ask func(context.Context) (fence.Report, error)) (report fence.Report) {
	t.Helper()
	eventually(t, "the server can be asked", func() (answered bool) {
		var err error
		report, err = ask(t.Context())
		return err == nil
	})
	return report
}

// TestASetUpOfBeforeIsUpgradedInPlace: a daemon of now says what to do, and changes nothing, until the set-up is run; that may be run as
// often as one likes, under a daemon of before, which goes on until a later life begins.
func TestASetUpOfBeforeIsUpgradedInPlace(t *testing.T) {
	b := before(t)
	daemon := oldDaemon(t, b)
	if got := oldTake(t, b, daemon, claim(1, "b")); got != "taken" {
		t.Fatalf("before: %s", got)
	}
	f := b.fencer(b.a)
	if _, err := f.Take(t.Context(), claim(2, "a")); err == nil || !strings.Contains(err.Error(), "duoctl metastore init") {
		t.Errorf("take without the set-up of now: %v", err)
	}
	if report := checked(t, f.Check); report.Mode != fence.ModeLeaseOnly {
		t.Errorf("check without the set-up of now: %+v", report)
	}
	for range 2 {
		if err := b.upgrade(); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.query("SELECT format('%s %s %s', epoch, node, life) FROM duoflow.fence WHERE job = $1", job); got != "1 b 0" {
		t.Errorf("the row is %s", got)
	}
	if report := checked(t, f.Check); report.Mode != fence.ModeFenced {
		t.Errorf("check: %+v", report)
	}
	if got := oldTake(t, b, daemon, claim(2, "b")); got != "taken" {
		t.Errorf("a daemon of before, after the upgrade: %s", got)
	}
	take(t, f, claim(3, "a"))
	take(t, b.fencer(b.a, inLife(1)), claim(4, "a"))
	if got := oldTake(t, b, daemon, claim(5, "b")); got != "replaced" {
		t.Errorf("a daemon of before, and a later life: %s", got)
	}
}

// TestAnUpgradeDoesNotWaitForALongTransaction, behind which everybody would have to wait: it says what to do, and has changed nothing.
func TestAnUpgradeDoesNotWaitForALongTransaction(t *testing.T) {
	b := before(t)
	reader := open(t, b.adminDSN())
	mustExec(t, reader, "BEGIN")
	mustExec(t, reader, "SELECT FROM duoflow.fence FOR SHARE")
	if err := b.upgrade(); err == nil || !strings.Contains(err.Error(), "run it again") {
		t.Fatalf("upgrade: %v", err)
	}
	const left = `SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'duoflow.fence'::regclass AND attname = 'life'`
	if got := b.query(left); got != "0" {
		t.Errorf("a refused upgrade has made %s columns", got)
	}
	mustExec(t, reader, "ROLLBACK")
	if err := b.upgrade(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, reader, "BEGIN")
	mustExec(t, reader, "SELECT FROM duoflow.fence FOR SHARE")
	if err := b.upgrade(); err != nil {
		t.Errorf("where there is nothing to add, nobody is waited for: %v", err)
	}
}
