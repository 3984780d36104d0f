package warehouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/scripts/pg"
)

// usage is processor time: what a busy machine does not spoil as it does the clock.
type usage struct{ client, server float64 } // seconds

func used(b *testing.B, conn *pgx.Conn) usage {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", conn.PgConn().PID()))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
	u := usage{client: float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9}
	for _, ticks := range fields[12:14] { // utime and stime, in hundredths
		n, err := strconv.Atoi(ticks)
		if err != nil {
			b.Fatal(err)
		}
		u.server += float64(n) / 100
	}
	return u
}

// report gives rows for each second of the clock, and of processor time of either side.
func report(b *testing.B, rows int, before, after usage) {
	b.Helper()
	million := float64(rows) / 1e6
	b.ReportMetric(million/b.Elapsed().Seconds(), "Mrows/s")
	b.ReportMetric((after.client-before.client)/million, "client-s/Mrow")
	b.ReportMetric((after.server-before.server)/million, "server-s/Mrow")
}

const benchRows = 500_000

func benchFrame(rows int) aggregate.Frame {
	random := rand.New(rand.NewPCG(1, 1))
	f := aggregate.NewCell()
	for i := range int64(rows) {
		f.Append(2018, 1+i%12, 170+random.Int64N(350), -1418+random.Int64N(980), 1+random.Int64N(2000), 1+random.Int64N(31))
	}
	return f
}

func benchServer(b *testing.B) *pgx.Conn {
	b.Helper()
	server, err := pg.Start(b.Context(), pg.Options{Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "4GB"}})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), server.Superuser())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
		if err := server.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	return conn
}

// BenchmarkHeap fills a table that has no index, a plain one with its log, in ways that are beside one another.
func BenchmarkHeap(b *testing.B) {
	conn := benchServer(b)
	f := benchFrame(benchRows)
	columns, err := columnsOf(f, smallint, smallint, smallint, smallint, integer, integer)
	if err != nil {
		b.Fatal(err)
	}
	rows := make([][]any, f.Len())
	for i := range rows {
		for _, c := range columns {
			switch v := c.values[i]; c.kind {
			case smallint:
				rows[i] = append(rows[i], int16(v))
			default:
				rows[i] = append(rows[i], int32(v))
			}
		}
	}
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	for _, way := range []struct {
		name string
		rows int
		load func(ctx context.Context, n int) error
	}{
		{"duoflow", f.Len(), func(ctx context.Context, _ int) error {
			_, err := conn.PgConn().CopyFrom(ctx, newCopyReader(columns), "COPY t FROM STDIN (FORMAT binary)")
			return err
		}},
		{"pgxCopyFromRows", f.Len(), func(ctx context.Context, n int) error {
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"t"}, names, pgx.CopyFromRows(rows[:n]))
			return err
		}},
		{"insertOf1000", f.Len() / 10, func(ctx context.Context, n int) error { return insert(ctx, conn, rows[:n]) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			loops, spent := 0, usage{}
			for b.Loop() {
				b.StopTimer()
				if _, err := conn.Exec(b.Context(), "DROP TABLE IF EXISTS t; CREATE TABLE t ("+declare(columns)+")", pgx.QueryExecModeSimpleProtocol); err != nil {
					b.Fatal(err)
				}
				before := used(b, conn)
				b.StartTimer()
				if err := way.load(b.Context(), way.rows); err != nil {
					b.Fatal(err)
				}
				loops++
				after := used(b, conn)
				spent.client, spent.server = spent.client+after.client-before.client, spent.server+after.server-before.server
			}
			report(b, way.rows*loops, usage{}, spent)
		})
	}
}

func insert(ctx context.Context, conn *pgx.Conn, rows [][]any) error {
	for len(rows) > 0 {
		n := min(1000, len(rows))
		var text strings.Builder
		text.WriteString("INSERT INTO t VALUES ")
		var args []any
		for i, row := range rows[:n] {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "($%d,$%d,$%d,$%d,$%d,$%d)", 6*i+1, 6*i+2, 6*i+3, 6*i+4, 6*i+5, 6*i+6)
			args = append(args, row...)
		}
		if _, err := conn.Exec(ctx, text.String(), args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// BenchmarkLoad is Load as a whole: staging, the swap into the tables with their indexes, the checks, the ledger. The rows
// of a year are replaced by others each time.
func BenchmarkLoad(b *testing.B) {
	conn := benchServer(b)
	w, err := Open(b.Context(), Config{DSN: conn.Config().ConnString(), Identity: Identity{Job: "etl"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Close)
	if err := w.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	const cells = 70_000 // a year has
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell(), CellTenths: 5}
	first := tile.Chunk("2018").First()
	for m := range int64(12) {
		for i := range int64(cells / 12) {
			r.Cell.Append(2018, m+1, 200+5*(i/120), -1200+5*(i%120), 30, 12)
		}
		n := int64(cells / 12)
		r.Month.Append(2018, m+1, 1, 30*n, 12*n)
		day, _ := tile.DayOf(2018, int(m)+1, 1)
		r.Day.Append(int64(day), 30*n, 12*n)
	}
	r.Totals = tile.Totals{Rows: r.Day.Sum("tiles"), Strikes: r.Day.Sum("strikes"), Days: 12, First: first, Last: tile.Day(r.Day.Values("day")[11])}
	loops := 0
	var before usage
	for b.Loop() {
		if loops++; loops == 1 {
			before = usage{client: used(b, conn).client}
		}
		if _, err := w.Load(b.Context(), Entry{Chunk: "2018", SourceHash: fmt.Sprint(loops)}, r, r.Totals); err != nil {
			b.Fatal(err)
		}
	}
	report(b, r.Cell.Len()*loops, before, used(b, w.loads.conn))
}
