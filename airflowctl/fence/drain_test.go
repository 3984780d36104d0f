package fence_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// setOptions: Postgres >= 16, where a member without SET cannot hide behind the group.
func setOptions() bool { return server.Version() >= 16 }

func TestDrainEndsEverySessionOfOlderEpochsAndNoOther(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	first := take(t, f, claim(1, "a"))
	var old []*pgx.Conn
	for range 5 {
		old = append(old, login(t, first))
	}
	bystander := b.owner()
	second := claim(2, "a")
	own := login(t, mustTake(t, f, second))
	mustDrain(t, f, second)
	for i, conn := range old {
		_, err := conn.Exec(t.Context(), insertW, 1)
		wantCode(t, fmt.Sprintf("old session %d", i), err, "57P01", "closed")
	}
	mustExec(t, own, insertW, 2)
	mustExec(t, bystander, "SELECT 1")
	if conn, err := pgx.Connect(t.Context(), first.DSN()); err == nil {
		closeConn(conn)
		t.Error("the old role can log in")
	} else {
		wantCode(t, "old role's login", err, "28000")
	}
}

func TestDrainOfASupersededClaimDoesNothing(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	first, second := claim(1, "a"), claim(2, "b")
	mustTake(t, f, first)
	session := login(t, mustTake(t, f, second))
	for what, c := range map[string]fence.Claim{"older": first, "never taken": claim(3, "a"), "other token": claim(2, "b")} {
		if err := f.Drain(t.Context(), c); !errors.Is(err, fence.ErrSuperseded) {
			t.Errorf("%s: err = %v", what, err)
		}
	}
	mustExec(t, session, insertW, 2)
}

func TestAnOpenTransactionOfTheOldRoleCannotCommit(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	mustExec(t, old, insertW, 1)
	take(t, f, claim(2, "a"))
	_, err := old.Exec(t.Context(), "COMMIT")
	wantCode(t, "COMMIT after the drain", err, "57P01", "closed")
	if got := b.rows(1); got != "0" {
		t.Errorf("%s rows of the open transaction are there", got)
	}
}

func TestDrainWaitsForAPreparedTransaction(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	mustExec(t, old, insertW, 1)
	mustExec(t, old, "PREPARE TRANSACTION 'left"+b.database+"'")
	c := claim(2, "a")
	mustTake(t, f, c)
	done := startDrain(t, f, c)
	stillWaiting(t, done, "a prepared transaction could still commit")
	mustExec(t, b.admin, "ROLLBACK PREPARED 'left"+b.database+"'")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// stillWaiting gives a wrong drain the time of many polls to end.
func stillWaiting(t *testing.T, done <-chan error, why string) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("drain ended (%v) though %s", err, why)
	case <-time.After(400 * time.Millisecond):
	}
}

// freeze stops a backend, as a machine does that is paused or swaps.
func freeze(t *testing.T, pid uint32) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = syscall.Kill(int(pid), syscall.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}

// A client that froze with locks in its hands, taken as Airflow's scheduler takes them to queue tasks: who comes after the
// drain gets them at once.
func TestTheLocksOfAFrozenClientGoWithTheDrain(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	frozen := login(t, take(t, f, claim(1, "a")))
	mustExec(t, frozen, insertW, 1)
	mustExec(t, frozen, "BEGIN")
	if !tryAdvisory(t, frozen) {
		t.Fatal("the lock is not free")
	}
	mustExec(t, frozen, "SELECT 1 FROM public.w FOR UPDATE NOWAIT") // and no statement more
	c := claim(2, "a")
	next := login(t, mustTake(t, f, c))
	_, err := next.Exec(t.Context(), "SELECT 1 FROM public.w FOR UPDATE NOWAIT")
	wantCode(t, "row lock before the drain", err, "55P03")
	if tryAdvisory(t, next) {
		t.Error("the advisory lock was free before the drain")
	}
	mustDrain(t, f, c)
	mustExec(t, next, "SELECT 1 FROM public.w FOR UPDATE NOWAIT")
	if !tryAdvisory(t, next) {
		t.Error("the advisory lock is held after the drain")
	}
}

func tryAdvisory(t *testing.T, conn *pgx.Conn) (got bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT pg_try_advisory_xact_lock(7)").Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// A statement that lies unread in the socket of a frozen backend.
func TestAStatementQueuedInAFrozenBackendNeverCommits(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, insertW, 1)
	thaw := freeze(t, old.PgConn().PID())
	queued := make(chan error, 1)
	go func() { // the simple protocol sends it whole at once
		_, err := old.PgConn().Exec(context.Background(), "INSERT INTO public.w (epoch, note) VALUES (1, 'queued')").ReadAll()
		queued <- err
	}()
	c := claim(2, "a")
	mustTake(t, f, c)
	done := startDrain(t, f, c)
	if !setOptions() {
		stillWaiting(t, done, "a backend was only frozen")
		thaw()
	}
	// With SET FALSE an idle session has nothing it could commit: the drain need not wait for it.
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	thaw()
	wantCode(t, "the queued statement", <-queued, "57P01", "closed")
	eventually(t, "frozen session gone", func() bool { return b.sessions(1) == 0 })
	if got := b.query("SELECT count(*)::text FROM public.w WHERE note = 'queued'"); got != "0" {
		t.Error("the queued statement committed")
	}
}

// A statement that a frozen backend has begun: on no version may it be taken for idle.
func TestDrainWaitsForARunningStatementInAFrozenBackend(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	running := make(chan error, 1)
	go func() {
		_, err := old.Exec(context.Background(), "INSERT INTO public.w (epoch) SELECT 1 FROM pg_sleep(0.3)")
		running <- err
	}()
	pid := strconv.Itoa(int(old.PgConn().PID()))
	eventually(t, "statement runs", func() bool {
		return b.query("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $1::text::int", pid) == "PgSleep"
	})
	thaw := freeze(t, old.PgConn().PID())
	c := claim(2, "a")
	mustTake(t, f, c)
	done := startDrain(t, f, c)
	stillWaiting(t, done, "a running statement was only frozen")
	thaw()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantCode(t, "the running statement", <-running, "57P01", "closed")
	if got := b.rows(1); got != "0" {
		t.Error("the running statement committed")
	}
}

// look calls the function that drain polls with and returns how many sessions it says may still commit. The first look
// knows of no suspects.
func (b *bench) look(c fence.Claim, suspects []int32) int {
	b.t.Helper()
	n, err := strconv.Atoi(b.query("SELECT coalesce(cardinality(d.remain), 0)::text FROM duoflow.drain($1, $2, $3, $4, $5, false) d",
		job, b.group, int64(c.Epoch), c.Token, suspects))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// The list of sessions is a picture, and the signals go out after it: one that it shows as idle may have begun a statement
// before its signal came, and may be slow in the middle of it. The model of the fence (node/model) shows the end of that.
func TestTheFirstLookBelievesNobody(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, insertW, 1)
	freeze(t, old.PgConn().PID()) // idle, and stays so
	c := claim(2, "a")
	mustTake(t, f, c)
	if n := b.look(c, nil); n != 1 {
		t.Errorf("%d sessions may commit, says the first look at one that is idle", n)
	}
}

// And on Postgres >= 16 a drain does not wait for the end of a session that is idle and has the signal.
func TestASessionIsHarmlessAtTheSecondLook(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, insertW, 1)
	thaw := freeze(t, old.PgConn().PID())
	c := claim(2, "a")
	mustTake(t, f, c)
	done := startDrain(t, f, c)
	if !setOptions() {
		stillWaiting(t, done, "the session may be the group")
		thaw()
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the drain waits for a session that is idle and has the signal")
	}
}

func (b *bench) sessions(epoch uint64) int {
	b.t.Helper()
	n, err := strconv.Atoi(b.query("SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", b.role(epoch)))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestDrainNeverTakesATimeoutForSuccess(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	thaw := freeze(t, old.PgConn().PID())
	c := claim(2, "a")
	mustTake(t, f, c)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := f.Drain(ctx, c)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), strconv.Itoa(int(old.PgConn().PID()))) {
		t.Errorf("err = %v, want the deadline and the session's pid", err)
	}
	thaw()
	mustDrain(t, f, c)
}

// pg_terminate_backend can wait itself, in steps of 100 ms and for one session after the other.
func TestDrainDoesNotWaitForOneSessionAfterTheOther(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	const sessions = 10
	quickest := patience // of three: the machine may be busy
	for epoch := uint64(1); epoch <= 5; epoch += 2 {
		old := take(t, f, claim(epoch, "a"))
		for range sessions {
			mustExec(t, login(t, old), insertW, epoch)
		}
		c := claim(epoch+1, "a")
		mustTake(t, f, c)
		began := time.Now()
		mustDrain(t, f, c)
		quickest = min(quickest, time.Since(began))
	}
	if quickest > sessions*100*time.Millisecond/2 {
		t.Errorf("the quickest drain of %d sessions took %s", sessions, quickest)
	}
}

// Without pg_read_all_stats the state of a session is NULL: whether it is idle is then not known.
func TestDrainWaitsForWhatItMayNotSee(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	mustExec(t, old, insertW, 1)
	thaw := freeze(t, old.PgConn().PID())
	mustExec(t, b.admin, "REVOKE pg_read_all_stats FROM duoflow")
	t.Cleanup(func() { mustExec(t, b.admin, "GRANT pg_read_all_stats TO duoflow") })
	c := claim(2, "a")
	mustTake(t, f, c)
	done := startDrain(t, f, c)
	stillWaiting(t, done, "an open transaction could not be seen")
	thaw()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Drain finds what could still commit by its role, so a role with something left must stay, old as it may be.
func TestCollectKeepsRolesThatDrainMustFind(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	login(t, mustTake(t, f, claim(1, "a")))
	second := login(t, mustTake(t, f, claim(2, "a")))
	mustExec(t, second, "BEGIN")
	mustExec(t, second, insertW, 2)
	mustExec(t, second, "PREPARE TRANSACTION 'kept"+b.database+"'")
	closeConn(second)
	const last = 12
	var c fence.Claim
	for epoch := uint64(3); epoch <= last; epoch++ { // and no drain
		c = claim(epoch, "a")
		mustTake(t, f, c)
	}
	collect := func(wantDropped int, wantLeft string) {
		t.Helper()
		dropped, err := f.Collect(t.Context())
		left := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM duoflow.epoch_roles($1, $2)", job, b.group)
		if err != nil || dropped != wantDropped || left != wantLeft {
			t.Errorf("dropped %d roles, %s are left, err = %v; want %d and %s", dropped, left, err, wantDropped, wantLeft)
		}
	}
	collect(1, "1 2 4 5 6 7 8 9 10 11 12") // 3 had nothing
	mustExec(t, b.admin, "ROLLBACK PREPARED 'kept"+b.database+"'")
	mustDrain(t, f, c)
	eventually(t, "old session gone", func() bool { return b.sessions(1) == 0 })
	collect(2, "4 5 6 7 8 9 10 11 12")
}

func TestCollectKeepsTheLastRolesAndThoseThatOwnSomething(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	mustExec(t, b.admin, "GRANT CREATE ON SCHEMA public TO "+b.group)
	mustExec(t, login(t, take(t, f, claim(1, "a"))), "CREATE TABLE public.mine ()")
	for epoch := uint64(2); epoch <= 40; epoch++ {
		mustTake(t, f, claim(epoch, "a"))
	}
	mustDrain(t, f, fence.Claim{Epoch: 40, Node: "a", Token: b.query("SELECT token FROM duoflow.fence WHERE job = $1", job)})
	dropped, err := f.Collect(t.Context())
	if err != nil || dropped != 30 { // 2..31; 32..40 lie within the margin
		t.Errorf("dropped %d roles, want 30; err = %v", dropped, err)
	}
	left := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM duoflow.epoch_roles($1, $2)", job, b.group)
	if left != "1 32 33 34 35 36 37 38 39 40" {
		t.Errorf("roles left = %s", left)
	}
	report, err := f.Check(t.Context())
	if err != nil || report.Mode != fence.ModeLeaseOnly || !strings.Contains(finding(report, "epoch roles own nothing").Detail, b.role(1)) {
		t.Errorf("check says %+v, %v", report, err)
	}
	mustTake(t, f, claim(41, "a"))
}

func finding(report fence.Report, name string) fence.Finding {
	for _, f := range report.Findings {
		if f.Name == name {
			return f
		}
	}
	return fence.Finding{}
}
