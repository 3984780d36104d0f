package fence_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Ordinary sessions hold every connection of the server. The fencer works over the session it has;
// what it ends makes room for the new epoch's own login.
func TestATakeOnAServerWithoutAFreeConnection(t *testing.T) {
	settings := map[string]string{"max_connections": "16"}
	if setOptions() {
		settings["reserved_connections"] = "2"
	}
	b := newBenchOn(t, newServer(t, settings))
	f := b.fencer(b.a)
	first := take(t, f, claim(1, "a"))
	for range 3 {
		login(t, first)
	}
	eventually(t, "both sessions of the fencer", func() bool { return b.fencerSessions() == 2 })
	others := b.exhaust()

	second := claim(2, "a")
	credentials := take(t, f, second)
	var own *pgx.Conn
	eventually(t, "login of the new epoch", func() (ok bool) {
		conn, err := connectSoon(credentials.DSN())
		own = conn
		return err == nil
	})
	defer closeConn(own)
	mustExec(t, own, insertW, 2)

	others = append(others, b.exhaust()...)
	cold := b.coldFencer(b.b) // a daemon that has just started
	third := claim(3, "b")
	if !setOptions() { // Postgres has no reserve for it: it waits, says why, and goes on when it can
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // enough to be refused once on a busy machine
		defer cancel()
		if _, err := cold.Take(ctx, third); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "53300") {
			t.Errorf("take without a connection: err = %v", err)
		}
		closeConn(others[0])
	}
	take(t, cold, third)
}

// A server whose statements end before a lock does: the take has to see that it waits for one.
func TestAHastyServerDoesNotKeepATakeFromBreakingALock(t *testing.T) {
	b := newBench(t)
	holder := login(t, take(t, b.fencer(b.a), claim(1, "a")))
	mustExec(t, holder, "BEGIN")
	mustExec(t, holder, "SELECT 1 FROM duoflow.fence WHERE job = 'scheduler' FOR SHARE")
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" SET statement_timeout = '100ms'")
	take(t, b.fencer(b.b), claim(2, "b"))
}

// A server that takes no writes for a while: the take waits, and goes on with a session that may write.
func TestATakeWaitsForAServerThatTakesWritesAgain(t *testing.T) {
	b := newBench(t)
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" SET default_transaction_read_only = on")
	f := b.fencer(b.a)
	eventually(t, "both sessions of the fencer", func() bool { return b.fencerSessions() >= 2 })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := f.Take(ctx, claim(1, "a"))
		done <- err
	}()
	stillWaiting(t, done, "the server took no writes")
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" RESET default_transaction_read_only")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (b *bench) coldFencer(dsn string) *fence.Fencer {
	b.t.Helper()
	f, err := fence.New(fence.Config{Job: job, DSN: dsn, Group: b.group})
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bench) fencerSessions() (n int) {
	b.t.Helper()
	err := b.admin.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'duoflow/scheduler/fencer' AND datname = current_database()").Scan(&n)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// exhaust opens sessions of an ordinary role until the server has no more.
func (b *bench) exhaust() (sessions []*pgx.Conn) {
	b.t.Helper()
	mustExec(b.t, b.admin, `DO $$BEGIN CREATE ROLE ordinary LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END$$`)
	for {
		conn, err := pgx.Connect(context.Background(), b.server.DSN("ordinary", "pw", b.database))
		if err != nil {
			wantCode(b.t, "one connection too many", err, "53300")
			return sessions
		}
		b.t.Cleanup(func() { closeConn(conn) })
		sessions = append(sessions, conn)
	}
}

// A right that is taken away while all runs: the next call is refused at once and says which right,
// and so does Check. What a running session has already (SET ROLE) it keeps.
func TestRightsTakenAwayWhileRunning(t *testing.T) {
	cases := []struct{ finding, breaks, mends string }{
		{"duoflow may make roles", "ALTER ROLE duoflow NOCREATEROLE", "ALTER ROLE duoflow CREATEROLE"},
		{"duoflow may grant the group", "REVOKE ADMIN OPTION FOR {group} FROM duoflow CASCADE", "GRANT {group} TO duoflow WITH ADMIN OPTION"},
		{"duoflow may end sessions", "REVOKE pg_signal_backend FROM duoflow", "GRANT pg_signal_backend TO duoflow"},
		{"fencer acts as duoflow", "REVOKE duoflow FROM {fencer}", "GRANT duoflow TO {fencer}"},
	}
	b := newBench(t)
	f := b.fencer(b.a)
	names := strings.NewReplacer("{group}", b.group, "{fencer}", "fencer_a"+strings.TrimPrefix(b.group, "g"))
	epoch := uint64(1)
	for _, c := range cases {
		login(t, take(t, f, claim(epoch, "a"))) // something to end
		mustExec(t, b.admin, names.Replace(c.breaks))
		running := f
		if c.finding == "fencer acts as duoflow" {
			mustTake(t, f, claim(epoch+1, "a")) // over the session it has
			running = b.coldFencer(b.a)
		}
		began := time.Now()
		err := b.takeAndDrain(running, claim(epoch+2, "a"))
		took := time.Since(began)
		report, checkErr := f.Check(t.Context())
		mustExec(t, b.admin, names.Replace(c.mends))
		if c.finding == "duoflow may grant the group" && !setOptions() {
			wantCode(t, "take on Postgres <= 15, where CREATEROLE may grant any role", err, "")
		} else {
			wantCode(t, c.finding, err, "42501")
		}
		if err != nil && !strings.Contains(err.Error(), c.finding) {
			t.Errorf("err = %v, want one that names %q", err, c.finding)
		}
		if took > patience/3 {
			t.Errorf("%s: refused after %s: it was tried again and again", c.finding, took)
		}
		if got := finding(report, c.finding); checkErr != nil || report.Mode != fence.ModeLeaseOnly || got.OK || got.Mend == "" {
			t.Errorf("%s: check says %+v, %v", c.finding, got, checkErr)
		}
		epoch += 3
	}
	take(t, f, claim(epoch, "a"))
}

func (b *bench) takeAndDrain(f *fence.Fencer, c fence.Claim) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := f.Take(ctx, c); err != nil {
		return err
	}
	return f.Drain(ctx, c)
}

// Advice does not turn the mode; what breaks the fence does. A trigger function and one that only the
// group may call are neither.
func TestCheckFindsWritesOnSomebodysBehalf(t *testing.T) {
	b := newBench(t)
	f := b.coldFencer(b.a)
	const name = "nothing writes on PUBLIC's behalf"
	for _, harmless := range []string{
		"CREATE FUNCTION public.tr() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN INSERT INTO public.w (epoch) VALUES (0); RETURN NEW; END$$",
		"CREATE FUNCTION public.grp() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$INSERT INTO public.w (epoch) VALUES (0)$$",
		"REVOKE EXECUTE ON FUNCTION public.grp FROM PUBLIC",
		"CREATE FUNCTION public.plain() RETURNS void LANGUAGE sql AS $$INSERT INTO public.w (epoch) VALUES (0)$$",
	} {
		mustExec(t, b.admin, harmless)
	}
	look := func() (fence.Report, fence.Finding) {
		report, err := f.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report, finding(report, name)
	}
	if report, got := look(); report.Mode != fence.ModeFenced || !got.OK || got.Mend != "" {
		t.Errorf("harmless ones: mode %s, %+v", report.Mode, got)
	}
	mustExec(t, b.admin, "CREATE FUNCTION public.sly() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$INSERT INTO public.w (epoch) VALUES (0)$$")
	if report, got := look(); report.Mode != fence.ModeFenced || !strings.Contains(got.Detail, "sly()") || got.Mend == "" {
		t.Errorf("a function for everybody: mode %s, %+v", report.Mode, got)
	}
	mustExec(t, b.admin, "GRANT UPDATE (note) ON public.w TO PUBLIC")
	if report, _ := look(); report.Mode != fence.ModeLeaseOnly || finding(report, "nobody writes by PUBLIC").OK {
		t.Errorf("a column for everybody: %s, %+v", report.Mode, finding(report, "nobody writes by PUBLIC"))
	}
}

// On Postgres >= 16 a server can keep connections for the fencers; whether it does is told.
func TestCheckAdvisesAReserveOfConnections(t *testing.T) {
	b := newBench(t)
	report, err := b.coldFencer(b.a).Check(t.Context())
	got := finding(report, "fencer gets a connection on a full server")
	if err != nil || report.Mode != fence.ModeFenced || got.Detail == "" || (got.Mend != "") != setOptions() {
		t.Errorf("mode %s, %+v, %v", report.Mode, got, err)
	}
	if !setOptions() {
		return
	}
	b = newBenchOn(t, newServer(t, map[string]string{"reserved_connections": "2"}))
	if report, err = b.coldFencer(b.a).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := finding(report, "fencer gets a connection on a full server"); got.Mend != "" {
		t.Errorf("with a reserve: %+v", got)
	}
	mustExec(t, b.admin, fmt.Sprintf("REVOKE pg_use_reserved_connections FROM fencer_a%s", strings.TrimPrefix(b.group, "g")))
	if report, err = b.coldFencer(b.a).Check(t.Context()); err != nil || finding(report, "fencer gets a connection on a full server").Mend == "" {
		t.Errorf("without the right to it: %+v, %v", report, err)
	}
}
