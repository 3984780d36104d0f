package fence_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/pg"
)

// pair is a bench on a primary with a streaming standby; both fencers' DSNs name both.
type pair struct {
	*bench
	primary, standby *pg.Server
}

func newPair(t *testing.T, synchronous bool) *pair {
	t.Helper()
	primary := newServer(t, map[string]string{"track_commit_timestamp": "on", "max_connections": "60"})
	p := &pair{bench: newBenchOn(t, primary), primary: primary}
	var err error
	if p.standby, err = primary.Standby(t.Context(), synchronous); err != nil {
		t.Fatal(err)
	}
	stopLater(t, p.standby)
	for _, dsn := range []*string{&p.a, &p.b} {
		*dsn = strings.Replace(*dsn, primary.Address(), primary.Address()+","+p.standby.Address(), 1) + "&target_session_attrs=read-write"
	}
	return p
}

// TestCheckAdvisesAStandbyThatKeepsTheFence: what a commit waits for is asked where there is a standby.
func TestCheckAdvisesAStandbyThatKeepsTheFence(t *testing.T) {
	look := func(b *bench) fence.Finding {
		return finding(checked(t, b.coldFencer(b.a).Check), "a failover keeps the fence")
	}
	if got := look(newBench(t)); got.Mend != "" || !strings.Contains(got.Detail, "0 standbys") {
		t.Errorf("no standby: %+v", got)
	}
	for _, synchronous := range []bool{true, false} {
		p := newPair(t, synchronous)
		eventually(t, "the standby streams", func() bool { return strings.Contains(look(p.bench).Detail, "1 standbys") })
		if got := look(p.bench); (got.Mend == "") != synchronous {
			t.Errorf("synchronous %v: %+v", synchronous, got)
		}
	}
}

// promote makes the standby the bench's server.
func (p *pair) promote() {
	p.t.Helper()
	if err := p.standby.Promote(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	p.server = p.standby
	p.admin = open(p.t, p.adminDSN())
}

func mustKill(t testing.TB, s *pg.Server) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
}

func mustRestart(t testing.TB, s *pg.Server) {
	t.Helper()
	if err := s.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// recorder writes under an epoch for ever and knows which of its rows the server confirmed.
type recorder struct {
	mu        sync.Mutex
	confirmed []string
}

func (r *recorder) run(z *zombies, dsn string, epoch uint64) (confirmed *atomic.Int64) {
	confirmed = new(atomic.Int64)
	z.all.Go(func() {
		for n := 0; !z.stopped(); time.Sleep(5 * time.Millisecond) {
			conn, err := connectSoon(dsn)
			for ; err == nil && !z.stopped(); n++ {
				note := fmt.Sprintf("%d-%d", epoch, n)
				if _, err = conn.Exec(context.Background(), "INSERT INTO public.w (epoch, note) VALUES ($1, $2)", epoch, note); err == nil {
					r.mu.Lock()
					r.confirmed = append(r.confirmed, note)
					r.mu.Unlock()
					confirmed.Add(1)
				}
			}
			if conn != nil {
				closeConn(conn)
			}
			if sqlstate := code(err); sqlstate == "28000" || sqlstate == "28P01" {
				z.refused.Add(1)
				return // the epoch is fenced, for ever
			}
		}
	})
	return confirmed
}

func connectSoon(dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return pgx.Connect(ctx, dsn)
}

// byCommit returns the epochs of table w in commit order. A slot does not outlive the failover, the
// time of each commit does; the servers of a pair share one clock.
func (p *pair) byCommit() []int {
	p.t.Helper()
	rows, err := p.admin.Query(context.Background(), "SELECT epoch FROM public.w ORDER BY pg_xact_commit_timestamp(xmin), id")
	if err != nil {
		p.t.Fatal(err)
	}
	epochs, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		p.t.Fatal(err)
	}
	return epochs
}

// wantOneTakeEach fails unless each epoch up to last was taken exactly once, whatever its answers were.
func (b *bench) wantOneTakeEach(last uint64) {
	b.t.Helper()
	var want []string
	for epoch := uint64(1); epoch <= last; epoch++ {
		want = append(want, fmt.Sprint(epoch))
	}
	if got := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY id) FROM duoflow.event WHERE kind = 'take'"); got != strings.Join(want, " ") {
		b.t.Errorf("takes = %s, want each of 1..%d once", got, last)
	}
	members := b.query(`SELECT string_agg(m.member::regrole::text, ' ') FROM pg_auth_members m
		WHERE m.roleid = $1::regrole AND m.member <> 'duoflow'::regrole`, b.group)
	if members != b.role(last) {
		b.t.Errorf("members of the group = %s, want %s alone", members, b.role(last))
	}
}

// The primary dies among takes, drains and writes of old and new epochs, and its synchronous standby
// takes over: order, row and every confirmed write are as if nothing had happened.
func TestFailoverToASynchronousStandbyAmongTakeovers(t *testing.T) {
	p := newPair(t, true)
	fencers := []*fence.Fencer{p.fencer(p.a), p.fencer(p.b)}
	z := newZombies(t, false)
	var r recorder
	const takes, failAfter = 10, 4
	promoted := make(chan error, 1)
	var last fence.Claim
	for epoch := uint64(1); epoch <= takes; epoch++ {
		if epoch == failAfter {
			go func() { promoted <- p.failOver() }() // while takes go on
		}
		last = claim(epoch, "a")
		confirmed := r.run(z, take(t, fencers[epoch%2], last).DSN(), epoch)
		eventually(t, "epoch writes", func() bool { return confirmed.Load() >= 5 })
	}
	if err := <-promoted; err != nil {
		t.Fatal(err)
	}
	z.end()
	p.server = p.standby
	p.admin = open(t, p.adminDSN())
	if late, perEpoch := outOfOrder(p.byCommit()); late != 0 || len(perEpoch) != takes {
		t.Errorf("%d late rows, rows per epoch %v", late, perEpoch)
	}
	if got := p.query("SELECT epoch || token FROM duoflow.fence WHERE job = $1", job); got != fmt.Sprint(takes, last.Token) {
		t.Errorf("row = %s", got)
	}
	p.wantOneTakeEach(takes)
	lost := p.query("SELECT count(*)::text FROM unnest($1::text[]) c(note) WHERE c.note NOT IN (SELECT w.note FROM public.w)", r.confirmed)
	if lost != "0" {
		t.Errorf("%s of %d confirmed rows are lost", lost, len(r.confirmed))
	}
	t.Logf("%d rows confirmed, %d logins of old epochs refused", len(r.confirmed), z.refused.Load())
}

func (p *pair) failOver() error {
	if err := p.primary.Kill(); err != nil {
		return err
	}
	return p.standby.Promote(context.Background())
}

// A take that waits for its synchronous standby is committed at the primary and nowhere else. The
// answer is lost with the primary; whether the take is there afterwards depends on who comes back.
func TestATakeWhoseAnswerDiesWithThePrimary(t *testing.T) {
	p := newPair(t, true)
	f := p.fencer(p.a)
	take(t, f, claim(1, "a"))

	waiting := p.takeWithoutStandby(f, claim(2, "a"))
	mustKill(t, p.primary)
	mustRestart(t, p.primary) // it has the take; the repeated one must wait for the standby too
	p.admin = open(t, p.adminDSN())
	eventually(t, "the repeated take waits for the standby", func() bool { return len(waiting) > 0 || p.waitsForStandby() })
	if len(waiting) > 0 {
		t.Fatalf("take ended (%v) though no standby has it", <-waiting)
	}
	mustRestart(t, p.standby)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	p.wantOneTakeEach(2)

	waiting = p.takeWithoutStandby(f, claim(3, "a"))
	mustKill(t, p.primary)
	mustRestart(t, p.standby) // it does not have the take
	p.promote()
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	p.wantOneTakeEach(3)
}

// takeWithoutStandby kills the standby and returns when the take has committed and waits for it.
func (p *pair) takeWithoutStandby(f *fence.Fencer, c fence.Claim) <-chan error {
	p.t.Helper()
	mustKill(p.t, p.standby)
	done := make(chan error, 1)
	joined := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	go func() {
		defer close(joined)
		_, err := f.Take(ctx, c)
		done <- err
	}()
	p.t.Cleanup(func() { cancel(); <-joined })
	eventually(p.t, "take waits for the standby", p.waitsForStandby)
	return done
}

func (p *pair) waitsForStandby() bool {
	p.t.Helper()
	return p.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'duoflow/scheduler/fencer'") == "1"
}

// An asynchronous standby that never got the newest fence is promoted: assumption A1 is broken. The
// health shows the older row, so its node fences again; until then the older epoch can write.
func TestAStandbyWithoutTheFenceIsSeenAndFencedAgain(t *testing.T) {
	p := newPair(t, false)
	var w watcher
	f := p.fencer(p.b, watching(&w, 20*time.Millisecond))
	first := take(t, f, claim(1, "a"))
	eventually(t, "standby has epoch 1", func() bool {
		return p.query("SELECT (pg_current_wal_lsn() = replay_lsn)::text FROM pg_stat_replication") == "true"
	})
	mustKill(t, p.standby)
	second := claim(2, "b")
	secondLogin := take(t, f, second)
	mustExec(t, login(t, secondLogin), insertW, 2)
	eventually(t, "health shows epoch 2", func() bool { h, _ := w.get(); return h.Row.Epoch == 2 })

	mustKill(t, p.primary)
	mustRestart(t, p.standby)
	p.promote()
	eventually(t, "health shows the older row", func() bool { h, _ := w.get(); return h.Writable && h.Row.Epoch == 1 && h.HighestRole == 1 })

	if _, err := connectSoon(secondLogin.DSN()); code(err) != "28P01" {
		t.Errorf("login of epoch 2, whose role is lost: %v", err)
	}
	// The residue: a job of epoch 1 that was frozen across it logs in again and writes, as if epoch 2 had never been.
	frozen := login(t, first)
	mustExec(t, frozen, insertW, 1)
	if p.rows(1) != "1" || p.rows(2) != "0" {
		t.Errorf("rows: %s of epoch 1, %s of epoch 2", p.rows(1), p.rows(2))
	}

	if err := f.Drain(t.Context(), second); err == nil {
		t.Error("a drain of the lost claim says all is well")
	}
	third := claim(3, "b")
	credentials := mustTake(t, f, third)
	_, err := frozen.Exec(t.Context(), insertW, 1)
	wantCode(t, "write of epoch 1 after the new take", err, "42501")
	mustDrain(t, f, third)
	_, err = frozen.Exec(t.Context(), insertW, 1)
	wantCode(t, "write of epoch 1 after the drain", err, "57P01", "closed")
	if _, err := connectSoon(first.DSN()); code(err) != "28000" {
		t.Errorf("login of epoch 1: %v", err)
	}
	mustExec(t, login(t, credentials), insertW, 3)
	if late, _ := outOfOrder(p.byCommit()); late != 0 {
		t.Errorf("%d rows out of order", late)
	}
}

// The server goes down in three ways while a take holds the row and has not committed.
func TestATakeCutOffInTheMiddleHappensOnce(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	for i, how := range []string{"crash", "immediate shutdown", "fast restart"} {
		epoch := uint64(i + 1)
		b.slowTakes()
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := f.Take(ctx, claim(epoch, "a"))
			done <- err
		}()
		eventually(t, "take is in the middle", func() bool {
			return len(done) > 0 || b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == "1"
		})
		switch how {
		case "crash":
			mustKill(t, server)
		case "immediate shutdown":
			if err := syscall.Kill(server.PID(), syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			eventually(t, "server ended", func() bool { return server.PID() == 0 })
		}
		mustRestart(t, server) // fast, when it still runs
		if err := <-done; err != nil {
			t.Errorf("%s: %v", how, err)
		}
		b.admin = open(t, b.adminDSN())
		b.wantOneTakeEach(epoch)
	}
}

// slowTakes makes takes hang before their commit, until this run of the server ends.
func (b *bench) slowTakes() {
	b.t.Helper()
	began := b.query("SELECT pg_postmaster_start_time()::text")
	mustExec(b.t, b.admin, fmt.Sprintf(`CREATE OR REPLACE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
		IF pg_postmaster_start_time() = '%s' THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END$$`, began))
	mustExec(b.t, b.admin, "CREATE OR REPLACE TRIGGER hang BEFORE INSERT ON duoflow.event FOR EACH ROW EXECUTE FUNCTION public.hang()")
}

// Random moments find what nobody thought of.
func TestTakesAcrossCrashesAtRandomMoments(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	const crashes = 4
	for epoch := uint64(1); epoch <= crashes; epoch++ {
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := f.Take(ctx, claim(epoch, "a"))
			done <- err
		}()
		time.Sleep(time.Duration(epoch*2) * time.Millisecond)
		mustKill(t, server)
		mustRestart(t, server)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		b.admin = open(t, b.adminDSN())
		b.wantOneTakeEach(epoch)
	}
}
