package fence_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

const (
	job      = "scheduler"
	insertW  = "INSERT INTO public.w (epoch) VALUES ($1)"
	patience = 15 * time.Second // a test that waits longer has failed
)

// frozenEnv makes this test binary a fencer process that a test freezes; see frozen_test.go.
const frozenEnv = "DUOFLOW_FENCE_TEST_FROZEN"

// server is shared by the tests of this binary; each test has a database and role names of its own.
var server *pg.Server

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if order := os.Getenv(frozenEnv); order != "" {
		return actFrozen(order)
	}
	return pgtest.Main(m, &server, pg.Options{Settings: map[string]string{
		"wal_level": "logical", "max_prepared_transactions": "5", "max_connections": "300",
	}})
}

var benches atomic.Int64

// bench is a database that is set up for one job, with a table w that the job writes.
type bench struct {
	t        testing.TB
	server   *pg.Server
	database string
	group    string
	a, b     string // DSNs of two fencers
	admin    *pgx.Conn
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return newBenchOn(t, server)
}

// newServer starts a server for one test alone.
func newServer(t testing.TB, settings map[string]string) *pg.Server {
	t.Helper()
	own, err := pg.Start(t.Context(), pg.Options{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	stopLater(t, own)
	return own
}

func stopLater(t testing.TB, s *pg.Server) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func newBenchOn(t testing.TB, server *pg.Server) *bench {
	t.Helper()
	_ = os.Getenv(pg.BinEnv) // tells go's test cache that the result depends on it
	n := benches.Add(1)
	b := &bench{t: t, server: server, database: fmt.Sprintf("db%d", n), group: fmt.Sprintf("g%d", n)}
	root := open(t, server.Superuser())
	mustExec(t, root, "CREATE DATABASE "+b.database)
	b.admin = open(t, b.adminDSN())
	mustExec(t, b.admin, "CREATE TABLE public.w (id bigserial PRIMARY KEY, epoch bigint NOT NULL, note text)")
	setup := fence.Setup{Jobs: []string{job}, Group: b.group, Verifiers: map[string]string{}}
	for _, name := range []string{"a", "b"} {
		login, password := fmt.Sprintf("fencer_%s%d", name, n), rand.Text()
		verifier, err := fence.Verifier(password)
		if err != nil {
			t.Fatal(err)
		}
		setup.Fencers = append(setup.Fencers, login)
		setup.Verifiers[login] = verifier
		dsn := server.DSN(login, password, b.database)
		if name == "a" {
			b.a = dsn
		} else {
			b.b = dsn
		}
	}
	if err := fence.Init(t.Context(), b.adminDSN(), setup); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) adminDSN() string {
	return strings.Replace(b.server.Superuser(), "/postgres?", "/"+b.database+"?", 1)
}

// fencer returns a running fencer; change may edit its configuration.
func (b *bench) fencer(dsn string, change ...func(*fence.Config)) *fence.Fencer {
	b.t.Helper()
	config := fence.Config{Job: job, DSN: dsn, Group: b.group}
	for _, edit := range change {
		edit(&config)
	}
	f, err := fence.New(config)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	return f
}

func (b *bench) role(epoch uint64) string { return fence.RoleName(b.group, job, epoch) }

// query scans one row that the administrator sees.
func (b *bench) query(sql string, args ...any) (answer string) {
	b.t.Helper()
	if err := b.admin.QueryRow(context.Background(), sql, args...).Scan(&answer); err != nil {
		b.t.Fatal(err)
	}
	return answer
}

func (b *bench) rows(epoch uint64) string {
	b.t.Helper()
	return b.query("SELECT count(*)::text FROM public.w WHERE epoch = $1", epoch)
}

func (b *bench) count(epoch uint64) int {
	b.t.Helper()
	n, err := strconv.Atoi(b.rows(epoch))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func claim(epoch uint64, node string) fence.Claim {
	token := make([]byte, 16)
	rand.Read(token)
	return fence.Claim{Epoch: epoch, Node: node, Token: hex.EncodeToString(token)}
}

// take takes and drains.
func take(t testing.TB, f *fence.Fencer, c fence.Claim) fence.Credentials {
	t.Helper()
	credentials := mustTake(t, f, c)
	mustDrain(t, f, c)
	return credentials
}

func mustTake(t testing.TB, f *fence.Fencer, c fence.Claim) fence.Credentials {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	credentials, err := f.Take(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return credentials
}

func mustDrain(t testing.TB, f *fence.Fencer, c fence.Claim) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Drain(ctx, c); err != nil {
		t.Fatal(err)
	}
}

// startDrain drains in the background; the result comes on the channel.
func startDrain(t testing.TB, f *fence.Fencer, c fence.Claim) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	done := make(chan error, 1)
	joined := make(chan struct{})
	go func() { defer close(joined); done <- f.Drain(ctx, c) }()
	t.Cleanup(func() { cancel(); <-joined })
	return done
}

func open(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// login connects as the job would; extra is appended to the DSN.
func login(t testing.TB, credentials fence.Credentials, extra ...string) *pgx.Conn {
	t.Helper()
	return open(t, credentials.DSN()+" "+strings.Join(extra, " "))
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// code returns the SQLSTATE, "" for no error, "closed" for an error of no server.
func code(err error) string {
	var server *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &server):
		return server.Code
	default:
		return "closed"
	}
}

func wantCode(t testing.TB, what string, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if code(err) == w {
			return
		}
	}
	t.Errorf("%s: err = %v, want %s", what, err, strings.Join(want, " or "))
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
