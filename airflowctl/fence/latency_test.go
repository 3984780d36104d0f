package fence_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// BenchmarkFence takes over from an epoch with ten idle sessions, each time with a fencer that was
// never used before, as a standby's is. Percentiles are in milliseconds; "login" is the new role's
// first connect and write.
func BenchmarkFence(b *testing.B) {
	bench := newBench(b)
	old := take(b, bench.fencer(bench.a), claim(1, "a"))
	var takes, drains, logins []time.Duration
	for epoch := uint64(2); b.Loop(); epoch++ {
		b.StopTimer()
		f, stop := freshFencer(bench)
		var sessions []*pgx.Conn
		for range 10 {
			conn, err := pgx.Connect(b.Context(), old.DSN())
			if err != nil {
				b.Fatal(err)
			}
			sessions = append(sessions, conn)
			mustExec(b, conn, insertW, epoch-1)
		}
		b.StartTimer()
		c := claim(epoch, "a")
		began := time.Now()
		old = mustTake(b, f, c)
		taken := time.Now()
		mustDrain(b, f, c)
		drained := time.Now()
		conn, err := pgx.Connect(b.Context(), old.DSN())
		if err != nil {
			b.Fatal(err)
		}
		mustExec(b, conn, insertW, epoch)
		takes, drains, logins = append(takes, taken.Sub(began)), append(drains, drained.Sub(taken)), append(logins, time.Since(drained))
		b.StopTimer()
		for _, session := range append(sessions, conn) {
			closeConn(session)
		}
		if _, err := f.Collect(b.Context()); err != nil {
			b.Fatal(err)
		}
		stop()
		b.StartTimer()
	}
	for name, times := range map[string][]time.Duration{"take": takes, "drain": drains, "login": logins} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// freshFencer returns a fencer whose sessions are up, and a way to end it.
func freshFencer(b *bench) (f *fence.Fencer, stop func()) {
	f, err := fence.New(fence.Config{Job: job, DSN: b.b, Group: b.group})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	eventually(b.t, "sessions up", func() bool {
		return b.query(`SELECT count(*)::text FROM pg_stat_activity
			WHERE application_name = 'duoflow/scheduler/fencer' AND state = 'idle' AND usename LIKE 'fencer_b%' AND datname = current_database()`) == "2"
	})
	time.Sleep(20 * time.Millisecond)
	return f, func() { cancel(); <-done }
}
