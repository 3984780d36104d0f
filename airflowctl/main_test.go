package airflowctl_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/proc"
	"github.com/duoflow/duoflow/scripts/pg"
)

const (
	jobName  = "scheduler"
	group    = "workers"
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	proc.MaybeInit()
	os.Exit(m.Run())
}

// metastore is a database that is set up for one job, with a table that the job writes.
type metastore struct {
	admin string
	// dsn logs in as the fencer of a host.
	dsn map[string]string
}

func newMetastore(t *testing.T) metastore {
	t.Helper()
	server, err := pg.Start(t.Context(), pg.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop(context.Background())) })
	m := metastore{admin: server.Superuser(), dsn: map[string]string{}}
	setup := fence.Setup{Jobs: []string{jobName}, Group: group, Verifiers: map[string]string{}}
	for _, host := range []string{"a", "b"} {
		password := rand.Text()
		verifier, verr := fence.Verifier(password)
		must(t, verr)
		setup.Fencers = append(setup.Fencers, "fencer_"+host)
		setup.Verifiers["fencer_"+host] = verifier
		m.dsn[host] = server.DSN("fencer_"+host, password, "postgres")
	}
	must(t, fence.Init(t.Context(), m.admin, setup))
	m.exec(t, `CREATE TABLE work (id bigint GENERATED ALWAYS AS IDENTITY, epoch bigint NOT NULL, pid int NOT NULL)`)
	m.exec(t, `GRANT INSERT ON work TO `+group)
	return m
}

func (m metastore) exec(t *testing.T, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), m.admin)
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

func (m metastore) count(t *testing.T, sql string, args ...any) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), m.admin)
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var n int
	must(t, conn.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// loop is a job that connects anew for every row and never gives up.
const loop = `while :; do psql -qXc "INSERT INTO work (epoch, pid) VALUES ($DUOFLOW_EPOCH, $$)"; sleep 0.02; done`

// events collects what a job reports.
type events struct {
	mu     sync.Mutex
	exited []string
	health fence.Health
	idle   map[uint64][]time.Duration
	// alive is asked when an end is told; late is whether it ever said yes.
	alive func() bool
	late  bool
}

func (e *events) Health(h fence.Health) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health = h
}

func (e *events) Exited(epoch uint64, detail string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.alive != nil && e.alive() {
		e.late = true
	}
	e.exited = append(e.exited, fmt.Sprintf("%d: %s", epoch, detail))
}

func (e *events) Idle(epoch uint64, idle time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.idle == nil {
		e.idle = map[uint64][]time.Duration{}
	}
	e.idle[epoch] = append(e.idle[epoch], idle)
}

// idles are the reports on one epoch so far.
func (e *events) idles(epoch uint64) []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.idle[epoch])
}

func (e *events) ended() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.exited, "\n")
}

// newJob runs one job as a host has it.
func newJob(t *testing.T, cfg airflowctl.Config) *airflowctl.Job {
	t.Helper()
	j := makeJob(t, cfg)
	run(t, j)
	return j
}

func makeJob(t *testing.T, cfg airflowctl.Config) *airflowctl.Job {
	t.Helper()
	cfg.Name, cfg.Group, cfg.Root = jobName, group, t.TempDir()
	j, err := airflowctl.New(cfg)
	must(t, err)
	return j
}

func run(t *testing.T, j *airflowctl.Job) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	must(t, j.Clear(t.Context()))
}

// takeOver does what a machine decides on after a grant.
func takeOver(t *testing.T, j *airflowctl.Job, claim fence.Claim) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, step := range []func(context.Context, fence.Claim) error{j.Take, j.Drain, j.Adopt, j.Start} {
		must(t, step(ctx, claim))
	}
}

// takeWithoutAirflow is takeOver in a database that no Airflow has been in.
func takeWithoutAirflow(t *testing.T, j *airflowctl.Job, claim fence.Claim) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, step := range []func(context.Context, fence.Claim) error{j.Take, j.Drain, j.Start} {
		must(t, step(ctx, claim))
	}
}

func claim(epoch uint64, node string) fence.Claim {
	return fence.Claim{Epoch: epoch, Node: node, Token: fmt.Sprintf("%032x", epoch)}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
