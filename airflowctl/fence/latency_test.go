package fence_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkFence takes over from an epoch with ten idle sessions, again and again. Percentiles are in
// milliseconds; "login" is the new role's first connect and write.
func BenchmarkFence(b *testing.B) {
	bench := newBench(b)
	f := bench.fencer(bench.a)
	old := take(b, f, claim(1, "a"))
	var takes, drains, logins []time.Duration
	for epoch := uint64(2); b.Loop(); epoch++ {
		b.StopTimer()
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
		b.StartTimer()
	}
	for name, times := range map[string][]time.Duration{"take": takes, "drain": drains, "login": logins} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}
