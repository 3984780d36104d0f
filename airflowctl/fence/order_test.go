package fence_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// oracle reads the commit order from the server's log.
type oracle struct {
	b    *bench
	slot string
}

func newOracle(b *bench) *oracle {
	b.t.Helper()
	o := &oracle{b: b, slot: "oracle_" + b.database}
	b.query("SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'test_decoding')", o.slot)
	b.t.Cleanup(func() { _, _ = b.admin.Exec(context.Background(), "SELECT pg_drop_replication_slot($1)", o.slot) })
	return o
}

// epochs returns the epoch of each row of table w, in commit order.
func (o *oracle) epochs() []int {
	o.b.t.Helper()
	rows, err := o.b.admin.Query(context.Background(),
		"SELECT substring(data FROM 'epoch\\[bigint\\]:(\\d+)')::int FROM pg_logical_slot_get_changes($1, NULL, NULL) WHERE data LIKE 'table public.w: INSERT:%'", o.slot)
	if err != nil {
		o.b.t.Fatal(err)
	}
	epochs, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		o.b.t.Fatal(err)
	}
	return epochs
}

// outOfOrder counts rows that come after one of a newer epoch, and tells how many rows each wrote.
func outOfOrder(epochs []int) (late int, perEpoch map[int]int) {
	perEpoch = map[int]int{}
	highest := 0
	for _, epoch := range epochs {
		perEpoch[epoch]++
		if epoch < highest {
			late++
		}
		highest = max(highest, epoch)
	}
	return late, perEpoch
}

// zombies write for ever under their epoch, as a job does that nobody managed to stop.
type zombies struct {
	stop    chan struct{}
	all     sync.WaitGroup
	refused atomic.Int64 // writes, commits and logins that the server refused
	patient bool         // keeps trying to log in instead of giving up after a few tries
}

func newZombies(t *testing.T, patient bool) *zombies {
	t.Helper()
	z := &zombies{stop: make(chan struct{}), patient: patient}
	t.Cleanup(z.end)
	return z
}

func (z *zombies) end() {
	select {
	case <-z.stop:
	default:
		close(z.stop)
	}
	z.all.Wait()
}

func (z *zombies) stopped() bool {
	select {
	case <-z.stop:
		return true
	default:
		return false
	}
}

// writers starts four writers, each with its own habit.
func (z *zombies) writers(dsn string, epoch uint64) {
	habits := []string{
		"INSERT INTO public.w (epoch) VALUES (%[1]d)",
		"BEGIN; INSERT INTO public.w (epoch) VALUES (%[1]d); INSERT INTO public.w (epoch) VALUES (%[1]d); COMMIT",
		"INSERT INTO public.w (epoch) SELECT %[1]d FROM pg_sleep(0.03)",
		"BEGIN; INSERT INTO public.w (epoch) VALUES (%[1]d); SELECT pg_sleep(0.05); COMMIT",
	}
	for _, habit := range habits {
		sql := fmt.Sprintf(habit, epoch)
		z.all.Go(func() {
			for misses := 0; misses < 3 && !z.stopped(); time.Sleep(10 * time.Millisecond) {
				if wrote := z.session(dsn, sql); wrote == 0 && !z.patient {
					misses++
				}
			}
		})
	}
}

// session writes over one connection until that is refused, and returns how often it could.
func (z *zombies) session(dsn, sql string) (wrote int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		z.refused.Add(1)
		return 0
	}
	defer closeConn(conn)
	for !z.stopped() {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			z.refused.Add(1)
			return wrote
		}
		wrote++
	}
	return wrote
}

func TestCommitsOfAnOldEpochComeBeforeThoseOfANewOne(t *testing.T) {
	b := newBench(t)
	o := newOracle(b)
	fencers := []*fence.Fencer{b.fencer(b.a), b.fencer(b.b)}
	z := newZombies(t, false)
	const takes = 30
	for epoch := uint64(1); epoch <= takes; epoch++ {
		z.writers(take(t, fencers[epoch%2], claim(epoch, "a")).DSN(), epoch)
		eventually(t, "epoch writes", func() bool { return b.count(epoch) >= 10 }) // and goes on at full speed
	}
	z.end()
	epochs := o.epochs()
	late, perEpoch := outOfOrder(epochs)
	t.Logf("%d rows of %d epochs, %d refusals", len(epochs), len(perEpoch), z.refused.Load())
	if late != 0 {
		t.Errorf("%d rows of an old epoch came after a newer one's", late)
	}
	if len(perEpoch) != takes || z.refused.Load() < takes {
		t.Errorf("only %d of %d epochs wrote, %d refusals: nothing was tried", len(perEpoch), takes, z.refused.Load())
	}
}

// The same writers against fences that leave something out: the oracle must see it.
func TestTheOracleSeesAnIncompleteFence(t *testing.T) {
	fences := map[string]func(b *bench, old string){
		"terminate only": func(b *bench, old string) { terminate(b, old) },
		"NOLOGIN only": func(b *bench, old string) {
			mustExec(b.t, b.admin, fmt.Sprintf("ALTER ROLE %q NOLOGIN", old))
		},
		"terminate inside the transaction": func(b *bench, old string) {
			mustExec(b.t, b.admin, "BEGIN")
			mustExec(b.t, b.admin, fmt.Sprintf("ALTER ROLE %q NOLOGIN", old))
			terminate(b, old)
			mustExec(b.t, b.admin, "SELECT pg_sleep(0.1)")
			mustExec(b.t, b.admin, "COMMIT")
		},
	}
	for name, partial := range fences {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.t = t
			o := newOracle(b)
			z := newZombies(t, true)
			for epoch := uint64(1); epoch <= 6; epoch++ {
				if epoch > 1 {
					partial(b, b.role(epoch-1))
				}
				mustExec(t, b.admin, fmt.Sprintf("CREATE ROLE %q LOGIN PASSWORD 'pw' IN ROLE %s", b.role(epoch), b.group))
				z.writers(server.DSN(b.role(epoch), "pw", b.database), epoch)
				eventually(t, "epoch writes", func() bool { return b.count(epoch) >= 4 })
			}
			z.end()
			if late, perEpoch := outOfOrder(o.epochs()); late == 0 {
				t.Errorf("the oracle saw nothing wrong in %v", perEpoch)
			}
		})
	}
}

// REVOKE and NOLOGIN without the drain: what is under way still commits.
func TestTheOracleSeesAMissingDrain(t *testing.T) {
	b := newBench(t)
	o := newOracle(b)
	f := b.fencer(b.a)
	old := login(t, take(t, f, claim(1, "a")))
	mustExec(t, old, "BEGIN")
	mustExec(t, old, insertW, 1)
	mustExec(t, login(t, mustTake(t, f, claim(2, "a"))), insertW, 2)
	mustExec(t, old, "COMMIT")
	if late, perEpoch := outOfOrder(o.epochs()); late != 1 {
		t.Errorf("the oracle saw %d late rows in %v, want 1", late, perEpoch)
	}
}

func terminate(b *bench, role string) {
	mustExec(b.t, b.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
}

// An old client that reconnects as fast as it can, all through take and drain.
func TestAReconnectingClientNeverCommitsAfterTheDrain(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	z := newZombies(t, true)
	for epoch := uint64(1); epoch <= 10; epoch++ {
		dsn := take(t, f, claim(epoch, "a")).DSN()
		if epoch > 1 {
			before := b.query("SELECT count(*)::text FROM public.w WHERE epoch < $1", epoch)
			time.Sleep(30 * time.Millisecond)
			if after := b.query("SELECT count(*)::text FROM public.w WHERE epoch < $1", epoch); after != before {
				t.Errorf("epoch %d: rows of older epochs went from %s to %s after the drain", epoch, before, after)
			}
		}
		z.all.Go(func() {
			for !z.stopped() {
				z.session(dsn, "INSERT INTO public.w (epoch) VALUES ("+strconv.FormatUint(epoch, 10)+")")
				time.Sleep(time.Millisecond)
			}
		})
		eventually(t, "client writes", func() bool { return b.rows(epoch) != "0" })
	}
	if !strings.HasPrefix(b.query("SELECT count(DISTINCT epoch)::text FROM public.w"), "10") || z.refused.Load() == 0 {
		t.Error("the clients did not try")
	}
}
