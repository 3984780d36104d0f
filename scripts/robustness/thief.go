package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
	"regexp"
	"strconv"
)

// way is how a thief goes about it. Its rows have -1 - its place in the list for a pid.
type way struct {
	name    string
	options string // of the login
	role    string // taken after the login; "" = the epoch's own
	open    time.Duration
}

// ways are what a stolen login was ever seen to get past a fence with, where one step of it was left out.
var ways = []way{
	{name: "plain"},
	{name: "late", options: "-c post_auth_delay=3"},
	{name: "late-group", options: "-c role=airflow -c post_auth_delay=1"},
	{name: "group", role: "airflow"},
	{name: "open", open: 300 * time.Millisecond},
}

const (
	// theftPace is the wait between two rows of one thief.
	theftPace = 50 * time.Millisecond
	// resigned: a thief gives up after so many refusals in a row.
	resigned = 10
)

// thieves write with the stolen credentials of every epoch the stage has seen, from a place that no trouble of the hosts
// touches, for as long as the metastore lets them.
type thieves struct {
	ctx    context.Context
	cancel context.CancelFunc
	stage  *stage
	joined sync.WaitGroup

	robbed  map[uint64]bool // of the trial's goroutine only
	newest  atomic.Uint64   // epoch that was robbed
	refused atomic.Int64    // attempts with the credentials of an older one
	seq     atomic.Int64
}

func newThieves(ctx context.Context, s *stage) *thieves {
	ctx, cancel := context.WithCancel(ctx)
	return &thieves{ctx: ctx, cancel: cancel, stage: s, robbed: map[uint64]bool{}}
}

func (t *thieves) stop() {
	t.cancel()
	t.joined.Wait()
}

// rob copies the credentials of the active epoch, once, and sets thieves to work. When the life is already over, or not far
// enough yet, the next look may find them.
func (t *thieves) rob(active lab.Active) {
	if t.robbed[active.Epoch] {
		return
	}
	files, err := filepath.Glob(filepath.Join(t.stage.Cluster.Nodes[active.Node].DataDir(), "jobs", probe.Job, "lives", "*", "service"))
	if err != nil || len(files) != 1 {
		return
	}
	copied := filepath.Join(t.stage.Lab.Dir, "stolen-"+filepath.Base(filepath.Dir(files[0])))
	text, err := os.ReadFile(files[0])
	if err != nil || epochOf(text) != active.Epoch || os.WriteFile(copied, text, 0o600) != nil {
		return
	}
	t.robbed[active.Epoch] = true
	t.newest.Store(max(t.newest.Load(), active.Epoch))
	for i, w := range ways {
		config, err := pgx.ParseConfig("service=duoflow servicefile=" + copied + " connect_timeout=5")
		if err != nil {
			return
		}
		if w.options != "" {
			config.RuntimeParams["options"] = w.options
		}
		thief := &thief{thieves: t, way: w, config: config, of: active, pid: -1 - i}
		t.joined.Go(thief.work)
	}
}

// rolePattern is the login of an epoch in a service file.
var rolePattern = regexp.MustCompile(`(?m)^user=.*_e([0-9]+)$`)

// epochOf says whose credentials they are: a host may have begun another life since the status was asked, and what that one commits must not
// be taken for a dead one's. 0 when it does not say.
func epochOf(service []byte) uint64 {
	found := rolePattern.FindSubmatch(service)
	if found == nil {
		return 0
	}
	epoch, _ := strconv.ParseUint(string(found[1]), 10, 64) // digits
	return epoch
}

// thief is one of them.
type thief struct {
	*thieves
	way    way
	config *pgx.ConnConfig
	of     lab.Active
	pid    int
}

// work commits rows until the metastore has refused many times in a row.
func (t *thief) work() {
	for refusals := 0; refusals < resigned && t.ctx.Err() == nil; {
		n, err := t.visit()
		if n > 0 {
			refusals = 0
		}
		if denied(err) {
			refusals++
		}
		if (denied(err) || ended(err)) && t.of.Epoch < t.newest.Load() {
			t.refused.Add(1)
		}
		_ = lab.Pause(t.ctx, theftPace)
	}
}

// visit logs in and commits rows until something fails.
func (t *thief) visit() (rows int, err error) {
	conn, err := pgx.ConnectConfig(t.ctx, t.config)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if t.way.role != "" {
		if _, err := conn.Exec(t.ctx, "SET ROLE "+pgx.Identifier{t.way.role}.Sanitize()); err != nil {
			return 0, err
		}
	}
	for ; ; rows++ {
		if err := t.commit(conn); err != nil {
			return rows, err
		}
		if err := lab.Pause(t.ctx, theftPace); err != nil {
			return rows, err
		}
	}
}

func (t *thief) commit(conn *pgx.Conn) error {
	tx, err := conn.Begin(t.ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(t.ctx, `INSERT INTO public.probe(node, epoch, pid, seq) VALUES ($1, $2, $3, $4)`,
		t.of.Node, t.of.Epoch, t.pid, t.seq.Add(1)); err != nil {
		return err
	}
	if err := lab.Pause(t.ctx, t.way.open); err != nil {
		return err
	}
	return tx.Commit(t.ctx)
}

// denied: not allowed (42501), no login (28000), unknown role or wrong password (28P01).
func denied(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && (server.Code == "42501" || server.Code[:2] == "28")
}

// ended: by an administrator's command (57P01).
func ended(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == "57P01"
}
