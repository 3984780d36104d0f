package warehouse_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

const (
	job      = "etl"
	patience = 30 * time.Second // a test that waits longer has failed
)

// server is shared by the tests of this binary; each test has a database and roles of its own.
var server *pg.Server

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if order := os.Getenv(loaderEnv); order != "" {
		return actLoader(order)
	}
	return pgtest.Main(m, &server, pg.Options{})
}

var houses atomic.Int64

// house is a database with the fence's set-up and the warehouse's.
type house struct {
	t       testing.TB
	server  *pg.Server
	name    string // of the database
	group   string
	admin   *pgx.Conn
	fencer  *fence.Fencer
	layout  warehouse.Layout
	reading *warehouse.Warehouse // opened by hand, forced
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := newBare(t, server)
	h.setUp(h.layout)
	return h
}

// newBare has the fence, but no warehouse yet.
func newBare(t testing.TB, server *pg.Server) *house {
	t.Helper()
	_ = os.Getenv(pg.BinEnv) // tells go's test cache that the result depends on it
	n := houses.Add(1)
	h := &house{t: t, server: server, name: fmt.Sprintf("db%d", n), group: fmt.Sprintf("lightning%d", n)}
	h.layout = warehouse.Layout{Group: h.group}
	root := connect(t, server.Superuser())
	mustExec(t, root, "CREATE DATABASE "+h.name)
	h.admin = connect(t, h.adminDSN())
	login, password := fmt.Sprintf("fencer%d", n), rand.Text()
	verifier, err := fence.Verifier(password)
	if err != nil {
		t.Fatal(err)
	}
	if err := fence.Init(t.Context(), h.adminDSN(), fence.Setup{Jobs: []string{job}, Group: h.group, Fencers: []string{login}, Verifiers: map[string]string{login: verifier}}); err != nil {
		t.Fatal(err)
	}
	if h.fencer, err = fence.New(fence.Config{Job: job, DSN: server.DSN(login, password, h.name), Group: h.group}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) adminDSN() string {
	return strings.Replace(h.server.Superuser(), "/postgres?", "/"+h.name+"?", 1)
}

func (h *house) setUp(l warehouse.Layout) {
	h.t.Helper()
	h.layout = l
	h.reading = h.open(warehouse.Config{DSN: h.adminDSN(), Force: true})
	if err := h.reading.Setup(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) open(c warehouse.Config) *warehouse.Warehouse {
	h.t.Helper()
	w, err := h.tryOpen(c)
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

func (h *house) tryOpen(c warehouse.Config) (*warehouse.Warehouse, error) {
	c.Layout, c.Job = h.layout, job
	c.Patience = cmp.Or(c.Patience, 10*time.Second)
	w, err := warehouse.Open(h.t.Context(), c)
	if err == nil {
		h.t.Cleanup(w.Close)
	}
	return w, err
}

// take makes an epoch the job's and returns its DSN. The sessions of older ones are ended.
func (h *house) take(epoch uint64) string {
	h.t.Helper()
	token := make([]byte, 16)
	rand.Read(token)
	claim := fence.Claim{Epoch: epoch, Node: "a", Token: hex.EncodeToString(token)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	credentials, err := h.fencer.Take(ctx, claim)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.fencer.Drain(ctx, claim); err != nil {
		h.t.Fatal(err)
	}
	return credentials.DSN()
}

// epoch opens the warehouse as the job of an epoch.
func (h *house) epoch(epoch uint64) *warehouse.Warehouse {
	h.t.Helper()
	return h.open(warehouse.Config{DSN: h.take(epoch), Identity: warehouse.Identity{Epoch: epoch, Node: "a"}})
}

func (h *house) query(sql string, args ...any) (answer string) {
	h.t.Helper()
	if err := h.admin.QueryRow(context.Background(), sql, args...).Scan(&answer); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func (h *house) want(sql, want string, args ...any) {
	h.t.Helper()
	if got := h.query(sql, args...); got != want {
		h.t.Errorf("%s: %s, want %s", sql, got, want)
	}
}

// holds fails the test unless the tables hold exactly this result of the chunk.
func (h *house) holds(chunk tile.Chunk, r aggregate.Result) {
	h.t.Helper()
	got, err := h.reading.Contents(h.t.Context(), chunk)
	if err != nil {
		h.t.Fatal(err)
	}
	if got.Hash() != r.Hash() {
		h.t.Errorf("%s: the tables hold %d days, %d cells with %d strikes, should hold %d, %d with %d", chunk,
			got.Day.Len(), got.Cell.Len(), got.Cell.Sum("strikes"), r.Day.Len(), r.Cell.Len(), r.Cell.Sum("strikes"))
	}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func mustLoad(t testing.TB, w *warehouse.Warehouse, e warehouse.Entry, r aggregate.Result) warehouse.Outcome {
	t.Helper()
	out, err := w.Load(t.Context(), e, r, r.Totals)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// result adds up n random tiles of the chunk in cells of half a degree, on days that skip leaves.
func result(chunk tile.Chunk, n int, seed uint64, skip ...string) aggregate.Result {
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	type sums struct{ strikes, tiles int64 }
	days, months, cells := map[int64]sums{}, map[[2]int64]sums{}, map[[4]int64]sums{}
	monthDays := map[[2]int64]map[tile.Day]bool{}
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell(), CellTenths: 5}
	for i := 0; i < n; {
		day := chunk.First() + tile.Day(i%(int(chunk.Last()-chunk.First())+1)) // every day has some
		i++
		if slices.Contains(skip, day.String()) || slices.Contains(skip, day.String()[:7]) {
			continue
		}
		year, month, _ := day.Date()
		ym := [2]int64{int64(year), int64(month)}
		cell := [4]int64{ym[0], ym[1], 200 + 5*random.Int64N(60), -1200 + 5*random.Int64N(120)}
		add := func(s sums, strikes int64) sums { return sums{s.strikes + strikes, s.tiles + 1} }
		strikes := 1 + random.Int64N(30)
		days[int64(day)], months[ym], cells[cell] = add(days[int64(day)], strikes), add(months[ym], strikes), add(cells[cell], strikes)
		if monthDays[ym] == nil {
			monthDays[ym] = map[tile.Day]bool{}
		}
		monthDays[ym][day] = true
	}
	for _, k := range sorted(days, cmp.Compare[int64]) {
		r.Day.Append(k, days[k].strikes, days[k].tiles)
	}
	for _, k := range sorted(months, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) }) {
		r.Month.Append(k[0], k[1], int64(len(monthDays[k])), months[k].strikes, months[k].tiles)
	}
	for _, k := range sorted(cells, func(a, b [4]int64) int { return slices.Compare(a[:], b[:]) }) {
		r.Cell.Append(k[0], k[1], k[2], k[3], cells[k].strikes, cells[k].tiles)
	}
	r.Totals = tile.Totals{Rows: r.Day.Sum("tiles"), Strikes: r.Day.Sum("strikes"), Days: r.Day.Len()}
	if present := r.Day.Values("day"); len(present) > 0 {
		r.Totals.First, r.Totals.Last = tile.Day(present[0]), tile.Day(present[len(present)-1])
	}
	return r
}

func sorted[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	var out []K
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, compare)
	return out
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
