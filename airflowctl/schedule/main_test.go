package schedule_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/schedule"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

const (
	group    = "nightly"
	patience = 20 * time.Second
)

// runnerEnv makes this test binary a runner: it holds the shell script to run.
const runnerEnv = "DUOFLOW_SCHEDULE_TEST_RUNNER"

// server is shared by the tests of this binary; each has a job of its own.
var server *pg.Server

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if script := os.Getenv(runnerEnv); script != "" {
		return actRunner(script)
	}
	return pgtest.Main(m, &server, pg.Options{})
}

// actRunner is what `duoflowd run-scheduled` does, in a process of its own.
func actRunner(script string) int {
	epoch, _ := strconv.ParseUint(os.Getenv("DUOFLOW_EPOCH"), 10, 64)
	slots, err := schedule.Parse("@monthly")
	if err == nil {
		life := schedule.Life{Job: os.Getenv("DUOFLOW_JOB"), Node: os.Getenv("DUOFLOW_NODE"), Epoch: epoch}
		var r *schedule.Runner
		r, err = schedule.New(schedule.Config{
			Schedule: slots, Command: []string{"sh", "-c", script}, Ledger: schedule.NewTable("", life),
		})
		if err == nil {
			err = r.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

var benches atomic.Int64

// bench is one job in the shared database.
type bench struct {
	t      *testing.T
	job    string
	fencer *fence.Fencer
	admin  *pgx.Conn
}

func newBench(t *testing.T) *bench {
	t.Helper()
	_ = os.Getenv(pg.BinEnv) // tells go's test cache that the result depends on it
	password := rand.Text()
	verifier, err := fence.Verifier(password)
	must(t, err)
	b := &bench{t: t, job: fmt.Sprintf("job%d", benches.Add(1))}
	login := "fencer_" + b.job
	must(t, fence.Init(t.Context(), server.Superuser(), fence.Setup{
		Jobs: []string{b.job}, Group: group, Fencers: []string{login}, Verifiers: map[string]string{login: verifier},
	}))
	b.fencer, err = fence.New(fence.Config{Job: b.job, Group: group, DSN: server.DSN(login, password, "postgres"), Runs: true})
	must(t, err)
	b.admin, err = pgx.Connect(t.Context(), server.Superuser())
	must(t, err)
	t.Cleanup(func() { _ = b.admin.Close(context.Background()) })
	return b
}

// take fences the job for an epoch and returns what its life may do.
func (b *bench) take(epoch uint64) fence.Credentials {
	b.t.Helper()
	token := make([]byte, 16)
	rand.Read(token)
	claim := fence.Claim{Epoch: epoch, Node: "a", Token: hex.EncodeToString(token)}
	credentials, err := b.fencer.Take(b.t.Context(), claim)
	must(b.t, err)
	must(b.t, b.fencer.Drain(b.t.Context(), claim))
	return credentials
}

func (b *bench) table(epoch uint64, credentials fence.Credentials) *schedule.Table {
	table := schedule.NewTable(credentials.DSN(), schedule.Life{Job: b.job, Node: "a", Epoch: epoch})
	b.t.Cleanup(table.Close)
	return table
}

// running is a runner in this process.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// stop tells it to end and returns what it ended with.
func (r *running) stop() error {
	r.cancel()
	return r.wait()
}

// wait waits until it ends.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Errorf("the runner does not end within %s", patience)
	}
	return r.err
}

// idle wants it to live on for a time.
func (r *running) idle(d time.Duration) {
	r.t.Helper()
	select {
	case <-r.ended:
		r.t.Errorf("the life has ended: %v", r.err)
	case <-time.After(d):
	}
}

// run starts a runner under a new epoch.
func (b *bench) run(epoch uint64, text, script string) *running {
	b.t.Helper()
	slots, err := schedule.Parse(text)
	must(b.t, err)
	return b.start(schedule.Config{Schedule: slots, Command: []string{"sh", "-c", script}, Ledger: b.table(epoch, b.take(epoch))})
}

// start starts any runner.
func (b *bench) start(config schedule.Config) *running {
	b.t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(b.t.Output(), nil))
	runner, err := schedule.New(config)
	must(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: b.t, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = runner.Run(ctx)
	}()
	b.t.Cleanup(func() { _ = r.stop() })
	return r
}

// rows lists the job's runs as `epoch state exit`, by slot and epoch.
func (b *bench) rows() string {
	b.t.Helper()
	return b.query(`SELECT coalesce(string_agg(format('%s %s %s', epoch, state, coalesce(exit::text, '-')), ', ' ORDER BY slot, epoch), '')
		FROM duoflow.run WHERE job = $1`, b.job)
}

func (b *bench) query(sql string, args ...any) (answer string) {
	b.t.Helper()
	must(b.t, b.admin.QueryRow(context.Background(), sql, args...).Scan(&answer))
	return answer
}

// overdue makes the job one that was seen long ago and has a slot to catch up with: the first of this month.
func (b *bench) overdue() {
	b.t.Helper()
	_, err := b.admin.Exec(b.t.Context(),
		`INSERT INTO duoflow.run (job, slot, epoch, node, state) VALUES ($1, now() - interval '100 days', 0, 'a', 'seen')`, b.job)
	must(b.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func lines(path string) []string {
	text, _ := os.ReadFile(path) // not there yet is no lines yet
	return strings.Fields(string(text))
}
