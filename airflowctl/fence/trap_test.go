package fence_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// On Postgres >= 16 a REVOKE leaves another grantor's grant alone and only warns. A take that
// believed it would leave two epochs with rights.
func TestARevokeThatDoesNothingIsNotBelieved(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, b.admin, fmt.Sprintf("GRANT %s TO %q", b.group, b.role(1))) // grantor: the superuser
	_, err := f.Take(t.Context(), claim(2, "a"))
	if setOptions() {
		wantCode(t, "take over a foreign grant", err, "DF003")
		if got := b.query("SELECT epoch::text FROM duoflow.fence WHERE job = $1", job); got != "1" {
			t.Errorf("the row moved to %s though the old role kept its rights", got)
		}
		mustExec(t, b.admin, fmt.Sprintf("REVOKE %s FROM %q", b.group, b.role(1)))
		mustTake(t, f, claim(2, "a"))
	} else if err != nil {
		t.Errorf("take: %v", err) // there is one grant only, whoever gave it
	}
	_, err = old.Exec(t.Context(), insertW, 1)
	wantCode(t, "write of the old role", err, "42501")
}

// The other node's fencer has another login; it must be able to fence what this one granted.
func TestEitherFencerCanFenceTheOthersGrant(t *testing.T) {
	b := newBench(t)
	fencers := []*fence.Fencer{b.fencer(b.a), b.fencer(b.b)}
	var last *pgx.Conn
	for epoch := uint64(1); epoch <= 4; epoch++ {
		next := login(t, mustTake(t, fencers[epoch%2], claim(epoch, "a")))
		if last != nil {
			_, err := last.Exec(t.Context(), insertW, epoch-1)
			wantCode(t, "write of the epoch before", err, "42501")
		}
		last = next
	}
}

// Postgres <= 15: a session that became the group before the REVOKE keeps the group's rights.
func TestASessionHiddenBehindTheGroupIsDrained(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	hidden := login(t, take(t, f, claim(1, "a")))
	_, err := hidden.Exec(t.Context(), "SET ROLE "+b.group)
	if setOptions() {
		wantCode(t, "SET ROLE", err, "42501")
		return
	}
	wantCode(t, "SET ROLE", err, "")
	c := claim(2, "a")
	mustTake(t, f, c)
	mustExec(t, hidden, insertW, 1) // the hole: REVOKE does not reach it
	thaw := freeze(t, hidden.PgConn().PID())
	done := startDrain(t, f, c)
	stillWaiting(t, done, "an idle session had the group's rights")
	thaw()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_, err = hidden.Exec(t.Context(), insertW, 1)
	wantCode(t, "write after the drain", err, "57P01", "closed")
}

// lateLogin begins a login that passes the check of NOLOGIN at once and comes alive a second later.
// It returns when the server is in between.
func lateLogin(t *testing.T, b *bench, credentials fence.Credentials, options string) <-chan *pgx.Conn {
	t.Helper()
	dsn := credentials.DSN() + fmt.Sprintf(" options='-c post_auth_delay=1 %s'", options)
	alive := make(chan *pgx.Conn, 1)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		conn, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Logf("late login: %v", err)
			conn = nil
		}
		alive <- conn
	}()
	t.Cleanup(func() { <-joined })
	eventually(t, "login under way", func() bool {
		return len(alive) > 0 || b.query(`SELECT count(*)::text FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
			WHERE l.classid = 'pg_database'::regclass AND d.datname = current_database() AND l.pid <> pg_backend_pid()`) == "1"
	})
	return alive
}

func TestALateLoginFindsItsRightsGone(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	alive := lateLogin(t, b, take(t, f, claim(1, "a")), "")
	mustTake(t, f, claim(2, "a")) // the drain would end it on Postgres <= 15
	conn := <-alive
	if conn == nil {
		t.Fatal("the login did not come alive, so nothing was shown")
	}
	defer closeConn(conn)
	_, err := conn.Exec(t.Context(), insertW, 1)
	wantCode(t, "write of the late login", err, "42501")
}

// Postgres <= 15: a late login that asked for the group in its options became the group before the
// REVOKE, and no list shows it until it is alive. REVOKE alone does not stop it; the drain does.
func TestALateLoginHiddenBehindTheGroupIsDrained(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	first := take(t, f, claim(1, "a"))
	if setOptions() {
		conn, err := pgx.Connect(t.Context(), first.DSN()+fmt.Sprintf(" options='-c role=%s'", b.group))
		if err == nil {
			closeConn(conn)
		}
		wantCode(t, "login as the group", err, "42501")
		return
	}
	alive := lateLogin(t, b, first, "-c role="+b.group)
	second := claim(2, "a")
	mustTake(t, f, second)
	conn := <-alive
	if conn == nil {
		t.Fatal("the login did not come alive, so the hole was not shown")
	}
	mustExec(t, conn, insertW, 1) // the hole
	closeConn(conn)

	alive = lateLogin(t, b, take(t, f, claim(3, "a")), "-c role="+b.group)
	began := time.Now()
	take(t, f, claim(4, "a"))
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("drain took %s: it waited for the login instead of ending it", took)
	}
	if conn = <-alive; conn != nil {
		defer closeConn(conn)
		_, err := conn.Exec(t.Context(), insertW, 3)
		wantCode(t, "write of the late login", err, "57P01", "closed")
	}
	if got := b.rows(3); got != "0" {
		t.Error("the late login wrote")
	}
}

// Logins that never stop must not keep a drain from ending: only those from before it count.
func TestDrainEndsUnderAStormOfLogins(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	stop := make(chan struct{})
	stopped := make(chan struct{}, 4)
	for range 4 {
		go func() {
			defer func() { stopped <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if conn, err := pgx.Connect(context.Background(), b.adminDSN()); err == nil {
					closeConn(conn)
				}
			}
		}()
	}
	for epoch := uint64(1); epoch <= 20; epoch++ {
		take(t, f, claim(epoch, "a"))
	}
	close(stop)
	for range 4 {
		<-stopped
	}
}

// Who began to log in after the drain's first look has seen the REVOKE: a drain that goes on must leave it alone, the job's
// own login first of all.
func TestDrainSparesLoginsThatBeganLater(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	mustExec(t, old, insertW, 1)
	mustExec(t, old, "PREPARE TRANSACTION 'spare"+b.database+"'") // the drain goes on until it is gone
	c := claim(2, "a")
	credentials := mustTake(t, f, c)
	done := startDrain(t, f, c)
	stillWaiting(t, done, "a prepared transaction could still commit") // and ends logins under way from now on
	conn := <-lateLogin(t, b, credentials, "")
	if conn == nil {
		t.Fatal("the drain ended a login that began after its first look")
	}
	defer closeConn(conn)
	mustExec(t, conn, insertW, 2)
	mustExec(t, b.admin, "ROLLBACK PREPARED 'spare"+b.database+"'")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A plain read of the row under REPEATABLE READ shows the past. FOR SHARE does not, and members of
// the group may use it.
func TestTheRowMustBeReadForShare(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	mustExec(t, b.admin, fmt.Sprintf("CREATE ROLE member_%s LOGIN PASSWORD 'pw' IN ROLE %s", b.group, b.group))
	member := open(t, server.DSN("member_"+b.group, "pw", b.database))
	mustExec(t, member, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	read := func(lock string) (epoch int, err error) {
		err = member.QueryRow(t.Context(), "SELECT epoch FROM duoflow.fence WHERE job = 'scheduler' "+lock).Scan(&epoch)
		return epoch, err
	}
	if epoch, err := read("FOR SHARE"); epoch != 1 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	mustExec(t, member, "COMMIT")
	mustExec(t, member, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	if epoch, err := read(""); epoch != 1 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	mustTake(t, f, claim(2, "a"))
	if epoch, err := read(""); epoch != 1 || err != nil {
		t.Errorf("plain read: epoch %d, %v: the trap is gone?", epoch, err)
	}
	_, err := read("FOR SHARE")
	wantCode(t, "read for share", err, "40001")
	mustExec(t, member, "ROLLBACK")
	_, err = member.Exec(t.Context(), "UPDATE duoflow.fence SET epoch = 99")
	wantCode(t, "a member moves the row", err, "42501")
}

// The functions see what is committed when each of their statements begins; a snapshot from before would show them the past.
func TestATakeRefusesASnapshotOfThePast(t *testing.T) {
	b := newBench(t)
	take(t, b.fencer(b.a), claim(1, "a"))
	careless := open(t, b.b)
	mustExec(t, careless, "SET ROLE duoflow")
	mustExec(t, careless, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	_, err := careless.Exec(t.Context(), "SELECT duoflow.take($1, $2, 2, 'b', $3, 'SCRAM-SHA-256$')", job, b.group, claim(2, "b").Token)
	wantCode(t, "take under REPEATABLE READ", err, "DF001")
}

// Who may create a function in the job's schema must not get the fencer's rights: one that fits better than the server's
// own would be called in its place.
func TestNoFunctionOfTheJobIsCalledWithTheFencersRights(t *testing.T) {
	b := newBench(t)
	mustExec(t, b.admin, "CREATE FUNCTION public.starts_with(name, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$")
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	take(t, f, claim(2, "a"))
	if report, err := f.Check(t.Context()); err != nil || report.Mode != fence.ModeFenced {
		t.Errorf("check says %+v, %v", report, err)
	}
}

func TestTheFencersRightsAreNotTheJobs(t *testing.T) {
	b := newBench(t)
	session := login(t, take(t, b.fencer(b.a), claim(1, "a")))
	for _, sql := range []string{
		"UPDATE duoflow.fence SET epoch = 99", "DELETE FROM duoflow.fence", "SET ROLE duoflow", "CREATE ROLE df_x",
		"SELECT duoflow.release('scheduler', 'g', 1, '')", "INSERT INTO duoflow.event (job, epoch, node, kind) VALUES ('', 1, '', '')",
	} {
		_, err := session.Exec(t.Context(), sql)
		wantCode(t, sql, err, "42501")
	}
	// And the fencer has no use of the job's tables.
	fencer := open(t, b.a)
	_, err := fencer.Exec(t.Context(), "SELECT * FROM public.w")
	wantCode(t, "fencer reads the job's table", err, "42501")
}

func TestTakeOutlivesACrashOfTheServer(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	take(t, f, claim(1, "a"))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	c := claim(2, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.Take(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("take on a dead server: err = %v", err)
	}
	taken := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := f.Take(ctx, c)
		taken <- err
	}()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	mustDrain(t, f, c)
}
