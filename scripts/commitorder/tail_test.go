package commitorder_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/pg"
)

const table = "public.probe"

// bench is a real server with a table whose commits are watched.
type bench struct {
	*testing.T
	server *pg.Server
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server, err := pg.Start(t.Context(), pg.Options{Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	b := &bench{t, server}
	conn := b.connect()
	b.exec(conn, `CREATE TABLE public.probe (node text, epoch bigint, pid int, seq bigint)`)
	if err := commitorder.Watch(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) connect() *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.server.Superuser())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bench) exec(conn *pgx.Conn, sql string) {
	b.Helper()
	if _, err := conn.Exec(b.Context(), sql); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

func (b *bench) next(tail *commitorder.Tail, want ...int64) {
	b.Helper()
	commits, err := tail.Next(b.Context(), b.connect())
	if err != nil {
		b.Fatal(err)
	}
	var got []int64
	for i, c := range commits {
		got = append(got, c.Seq)
		if c.LSN == 0 || i > 0 && c.LSN < commits[i-1].LSN {
			b.Errorf("commit %+v after %+v", c, commits[max(0, i-1)])
		}
	}
	if !slices.Equal(got, want) {
		b.Errorf("committed %v, want %v", got, want)
	}
}

func insert(seq string) string { return "INSERT INTO public.probe VALUES ('a', 1, 7, " + seq + ")" }

// TestTailReadsEachCommitOnceInItsOrder: whatever the server forgets, or repeats after a crash.
func TestTailReadsEachCommitOnceInItsOrder(t *testing.T) {
	b := newBench(t)
	first, second := b.connect(), b.connect()
	tail := &commitorder.Tail{Table: table}
	b.exec(first, "BEGIN; "+insert("1"))
	b.exec(second, insert("2"))
	b.exec(first, insert("3")+"; COMMIT")
	b.exec(first, "CREATE TABLE public.other (seq bigint)")
	b.exec(first, "BEGIN; "+insert("99")+"; ROLLBACK")
	b.next(tail, 2, 1, 3) // by the commit, not by the insert
	b.next(tail)
	b.next(&commitorder.Tail{Table: table}, 2, 1, 3) // nothing is forgotten yet
	if err := tail.Forget(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := tail.Forget(t.Context(), second); err != nil {
		t.Fatalf("forgotten twice: %v", err)
	}
	b.exec(second, insert("4"))
	b.next(&commitorder.Tail{Table: table}, 4)
	b.next(tail, 4)
	if err := tail.Forget(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.exec(b.connect(), insert("5"))
	b.next(tail, 5)
	b.next(tail)
}
