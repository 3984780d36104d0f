package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// thieves write with the stolen credentials of every epoch the stage has seen, from a place that no fault of the
// cluster touches, for as long as the metastore lets them.
type thieves struct {
	ctx    context.Context
	cancel context.CancelFunc
	stage  *stage
	joined sync.WaitGroup

	mu      sync.Mutex
	robbed  map[uint64]bool
	rows    int64
	refused int
}

func newThieves(ctx context.Context, s *stage) *thieves {
	ctx, cancel := context.WithCancel(ctx)
	return &thieves{ctx: ctx, cancel: cancel, stage: s, robbed: map[uint64]bool{}}
}

func (t *thieves) stop() {
	t.cancel()
	t.joined.Wait()
}

// rob copies the credentials of the active epoch, once each, and sets a thief to work.
func (t *thieves) rob(active lab.Active) {
	t.mu.Lock()
	known := t.robbed[active.Epoch]
	t.mu.Unlock()
	if known {
		return
	}
	config, ok := t.steal(active)
	if !ok {
		return // the life is already over, or not far enough yet; the next look may find it
	}
	t.mu.Lock()
	t.robbed[active.Epoch] = true
	t.mu.Unlock()
	t.joined.Go(func() { t.work(config, active) })
}

func (t *thieves) steal(active lab.Active) (*pgx.ConnConfig, bool) {
	files, err := filepath.Glob(filepath.Join(t.stage.Cluster.Nodes[active.Node].DataDir(), "jobs", probe.Job, "lives", "*", "service"))
	if err != nil || len(files) != 1 {
		return nil, false
	}
	copied := filepath.Join(t.stage.Lab.Dir, "stolen-"+filepath.Base(filepath.Dir(files[0])))
	text, err := os.ReadFile(files[0])
	if err != nil || os.WriteFile(copied, text, 0o600) != nil {
		return nil, false
	}
	config, err := pgx.ParseConfig("service=duoflow servicefile=" + copied + " connect_timeout=2")
	return config, err == nil
}

// work commits rows, as pid -1, until the metastore has refused ten times in a row.
func (t *thieves) work(config *pgx.ConnConfig, active lab.Active) {
	for refusals := 0; refusals < 10 && t.ctx.Err() == nil; {
		n, err := t.commit(config, active)
		t.mu.Lock()
		t.rows += n
		t.mu.Unlock()
		if n > 0 {
			refusals = 0
		}
		if denied(err) {
			refusals++
		}
		_ = lab.Pause(t.ctx, 50*time.Millisecond)
	}
	t.mu.Lock()
	t.refused++
	t.mu.Unlock()
}

// denied: not allowed (42501), no login (28000), unknown role or wrong password (28P01).
func denied(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return false
	}
	return server.Code == "42501" || server.Code[:2] == "28"
}

func (t *thieves) commit(config *pgx.ConnConfig, active lab.Active) (int64, error) {
	conn, err := pgx.ConnectConfig(t.ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for n := int64(0); ; n++ {
		if _, err := conn.Exec(t.ctx, `INSERT INTO public.probe(node, epoch, pid, seq) VALUES ($1, $2, -1, $3)`,
			active.Node, active.Epoch, n); err != nil {
			return n, err
		}
		if err := lab.Pause(t.ctx, 20*time.Millisecond); err != nil {
			return n, err
		}
	}
}
