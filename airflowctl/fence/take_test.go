package fence_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

func TestTakeGivesARoleThatWorksAndFencesTheOneBefore(t *testing.T) {
	b := newBench(t)
	a, rival := b.fencer(b.a), b.fencer(b.b)
	old := login(t, take(t, a, claim(1, "a")))
	mustExec(t, old, insertW, 1)
	second := mustTake(t, rival, claim(2, "b"))
	_, err := old.Exec(t.Context(), insertW, 1)
	wantCode(t, "write of the fenced role before the drain", err, "42501")
	mustExec(t, login(t, second), insertW, 2)
	if got := b.query("SELECT epoch || node FROM duoflow.fence WHERE job = $1", job); got != "2b" {
		t.Errorf("row = %s, want 2b", got)
	}
	if got := b.query("SELECT string_agg(epoch || kind, ' ' ORDER BY id) FROM duoflow.event WHERE job = $1", job); got != "1take 2take" {
		t.Errorf("events = %s", got)
	}
}

func TestTakeIsIdempotentForTheSameClaimOnly(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	c := claim(7, "a")
	first, again := mustTake(t, f, c), mustTake(t, f, c)
	if !reflect.DeepEqual(first, again) {
		t.Error("the same claim got other credentials")
	}
	for what, other := range map[string]fence.Claim{
		"same epoch, other token": claim(7, "a"), "lower epoch": claim(6, "a"),
		"same epoch and token, other node": {Epoch: 7, Node: "b", Token: c.Token},
	} {
		_, err := f.Take(t.Context(), other)
		var stale *fence.StaleError
		if !errors.As(err, &stale) || stale.Row.Epoch != 7 || stale.Row.Token != c.Token || stale.HighestRole != 7 {
			t.Errorf("%s: err = %v", what, err)
		}
	}
	mustExec(t, login(t, again), insertW, 7)
}

func TestTakeRefusesMalformedClaims(t *testing.T) {
	f, err := fence.New(fence.Config{Job: job, DSN: "host=127.0.0.1 port=1", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []fence.Claim{
		{}, {Epoch: 1, Node: "a"}, {Epoch: 1, Node: "A b", Token: strings.Repeat("0", 32)},
		{Epoch: fence.MaxEpoch + 1, Node: "a", Token: strings.Repeat("0", 32)},
	} {
		if _, err := f.Take(t.Context(), c); err == nil || strings.Contains(err.Error(), "connect") {
			t.Errorf("Take(%v): err = %v", c, err)
		}
		if err := f.Drain(t.Context(), c); err == nil || strings.Contains(err.Error(), "connect") {
			t.Errorf("Drain(%v): err = %v", c, err)
		}
	}
}

// 200 takes race; winners are those that the row's history shows, each once, in rising order.
func TestRacingTakesMoveTheRowUpOnly(t *testing.T) {
	b := newBench(t)
	fencers := []*fence.Fencer{b.fencer(b.a), b.fencer(b.b), b.fencer(b.a), b.fencer(b.b)}
	const takes, highest = 200, 60
	var mu sync.Mutex
	won := map[uint64]int{}
	work := make(chan uint64)
	var workers sync.WaitGroup
	for _, f := range fencers {
		workers.Go(func() {
			for epoch := range work {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := f.Take(ctx, claim(epoch, "a"))
				cancel()
				var stale *fence.StaleError
				switch {
				case err == nil:
					mu.Lock()
					won[epoch]++
					mu.Unlock()
				case !errors.As(err, &stale) || stale.Row.Epoch < epoch:
					t.Errorf("take of %d: %v", epoch, err)
				}
			}
		})
	}
	for i := range takes {
		// Mostly near each other, so that equal and falling epochs meet.
		work <- uint64(i*highest/takes + 1 + rand.IntN(5))
	}
	close(work)
	workers.Wait()

	history := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY id) FROM duoflow.event WHERE job = $1", job)
	last, winners := uint64(0), 0
	for _, word := range strings.Fields(history) {
		var epoch uint64
		fmt.Sscan(word, &epoch)
		if epoch <= last || won[epoch] != 1 {
			t.Errorf("epoch %d follows %d and was won %d times", epoch, last, won[epoch])
		}
		last = epoch
		winners++
	}
	if winners != len(won) || winners < 2 {
		t.Errorf("%d takes were won, %d are in the history", len(won), winners)
	}
	members := b.query(`SELECT string_agg(m.member::regrole::text, ' ') FROM pg_auth_members m
		WHERE m.roleid = $1::regrole AND m.member <> 'duoflow'::regrole`, b.group)
	if members != b.role(last) {
		t.Errorf("members of the group = %s, want %s alone", members, b.role(last))
	}
}

// lossyProxy forwards to the server; while cut is set it drops what the server answers and closes
// once it has seen `answers` bytes wanted.
type lossyProxy struct {
	listener net.Listener
	armed    atomic.Bool // the next answer of the server is swallowed and both sides are closed
	lost     atomic.Int32
}

func newLossyProxy(t *testing.T) *lossyProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossyProxy{listener: listener}
	var flows sync.WaitGroup
	flows.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			flows.Go(func() { p.forward(client) })
		}
	})
	t.Cleanup(func() { listener.Close(); flows.Wait() })
	return p
}

func (p *lossyProxy) forward(client net.Conn) {
	defer client.Close()
	upstream, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port()))
	if err != nil {
		return
	}
	var up sync.WaitGroup
	up.Go(func() { io.Copy(upstream, client); upstream.Close() })
	defer up.Wait()
	defer upstream.Close()
	defer client.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := upstream.Read(buffer)
		if err != nil {
			return
		}
		if p.armed.CompareAndSwap(true, false) {
			p.lost.Add(1)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestTakeFindsOutWhatALostAnswerWas(t *testing.T) {
	b := newBench(t)
	proxy := newLossyProxy(t)
	port := proxy.listener.Addr().(*net.TCPAddr).Port
	dsn := strings.Replace(b.a, fmt.Sprintf(":%d/", server.Port()), fmt.Sprintf(":%d/", port), 1)
	f := b.fencer(dsn, func(c *fence.Config) { c.Probe = time.Hour }) // no probe takes the loss instead
	warm := claim(1, "a")
	mustTake(t, f, warm)
	for epoch := uint64(2); epoch < 6; epoch++ {
		proxy.armed.Store(true)
		c := claim(epoch, "a")
		credentials := mustTake(t, f, c)
		if proxy.armed.Load() {
			t.Fatal("no answer was lost")
		}
		if got := b.query("SELECT token FROM duoflow.fence WHERE job = $1", job); got != c.Token {
			t.Errorf("epoch %d: row has token %s", epoch, got)
		}
		credentials.Port = uint16(server.Port())
		mustExec(t, login(t, credentials), insertW, epoch)
	}
	if got := b.query("SELECT count(*)::text FROM duoflow.event WHERE kind = 'take'"); got != "5" || proxy.lost.Load() != 4 {
		t.Errorf("%s takes happened, want 5; %d answers lost, want 4", got, proxy.lost.Load())
	}
}

func TestTakeAfterReleaseIsStale(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	c := claim(1, "a")
	session := login(t, take(t, f, c))
	if err := f.Release(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_, err := session.Exec(t.Context(), insertW, 1)
	wantCode(t, "write after release", err, "42501")
	var stale *fence.StaleError
	if _, err := f.Take(t.Context(), c); !errors.As(err, &stale) || stale.Row.Epoch != 1 {
		t.Errorf("take after release: err = %v", err)
	}
	if err := f.Release(t.Context(), c); err != nil {
		t.Errorf("release again: %v", err)
	}
	mustTake(t, f, claim(2, "a"))
	if err := f.Release(t.Context(), c); !errors.Is(err, fence.ErrSuperseded) {
		t.Errorf("release of an old claim: err = %v", err)
	}
}

func TestRolesAheadOfARestoredRowAreRefusedByName(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	mustTake(t, f, claim(9, "a"))
	mustExec(t, b.admin, "UPDATE duoflow.fence SET epoch = 3, token = '' WHERE job = $1", job)
	var stale *fence.StaleError
	if _, err := f.Take(t.Context(), claim(4, "a")); !errors.As(err, &stale) || stale.HighestRole != 9 || stale.Row.Epoch != 3 {
		t.Fatalf("err = %v", err)
	}
	mustTake(t, f, claim(10, "a"))
}

func TestALockOnTheRowDelaysATakeByLessThanTwoSeconds(t *testing.T) {
	b := newBench(t)
	a, rival := b.fencer(b.a), b.fencer(b.b)
	holder := login(t, take(t, a, claim(1, "a")))
	mustExec(t, holder, "BEGIN")
	mustExec(t, holder, "SELECT 1 FROM duoflow.fence WHERE job = 'scheduler' FOR SHARE")
	began := time.Now()
	c := claim(2, "b")
	mustTake(t, rival, c)
	mustDrain(t, rival, c)
	if took := time.Since(began); took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("take against a lock took %s", took)
	}
	// A fencer that froze inside a transaction of its own.
	frozen := open(t, b.a)
	mustExec(t, frozen, "SET ROLE duoflow")
	mustExec(t, frozen, "BEGIN")
	mustExec(t, frozen, "UPDATE duoflow.fence SET at = now()")
	began = time.Now()
	mustTake(t, rival, claim(3, "b"))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("take against a frozen fencer took %s", took)
	}
	_, err := frozen.Exec(t.Context(), "COMMIT")
	wantCode(t, "commit of the frozen fencer", err, "57P01", "closed")
}

func TestATakeEndsOnlyWhoStandsInItsWay(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	bystander := b.owner() // which the fencer may end, and holds a lock that is in nobody's way
	mustExec(t, bystander, "BEGIN")
	mustExec(t, bystander, "SELECT * FROM duoflow.event FOR SHARE")
	superuser := open(t, b.adminDSN()) // which the fencer may not end
	mustExec(t, superuser, "BEGIN")
	mustExec(t, superuser, "LOCK TABLE duoflow.fence")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	c := claim(1, "a")
	_, err := f.Take(ctx, c)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), fmt.Sprintf("session %d of postgres", superuser.PgConn().PID())) {
		t.Errorf("err = %v, want one that names the session in the way", err)
	}
	mustExec(t, superuser, "COMMIT")
	mustTake(t, f, c)
	mustExec(t, bystander, "COMMIT")
}

func TestTakeSurvivesTheLossOfItsSession(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	for epoch := uint64(1); epoch <= 3; epoch++ {
		mustExec(t, b.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'duoflow/scheduler/fencer' AND datname = current_database()")
		take(t, f, claim(epoch, "a"))
	}
}

// A server with synchronous_commit off could forget a fence in a crash.
func TestTheFenceCommitIsDurableOnACarelessServer(t *testing.T) {
	b := newBench(t)
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" SET synchronous_commit = off")
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" SET default_transaction_isolation = 'repeatable read'")
	mustExec(t, b.admin, `CREATE FUNCTION public.seen() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO public.w (epoch, note) VALUES (NEW.epoch, current_setting('synchronous_commit') || ' ' || current_setting('transaction_isolation')); RETURN NEW; END$$`)
	mustExec(t, b.admin, "ALTER FUNCTION public.seen() SECURITY DEFINER")
	mustExec(t, b.admin, "CREATE TRIGGER seen AFTER UPDATE ON duoflow.fence FOR EACH ROW EXECUTE FUNCTION public.seen()")
	mustTake(t, b.fencer(b.a), claim(1, "a"))
	if got := b.query("SELECT note FROM public.w"); got != "on read committed" {
		t.Errorf("take ran with %s", got)
	}
}
