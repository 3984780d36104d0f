package fence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// channel carries "<job> <epoch>" at the commit of each take and release.
const channel = "duoflow_fence"

const probeSQL = `SELECT f.epoch, f.node, f.token, f.at,
  NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off',
  coalesce((SELECT max(r.epoch) FROM duoflow.epoch_roles($1, $2) r), 0),
  current_setting('server_version_num')::int / 10000
FROM duoflow.fence f WHERE f.job = $1`

// writableSQL is what can be asked while the fence table is locked.
const writableSQL = `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'`

// errNotWritable ends a watch session: with several hosts the next connect may find the primary.
var errNotWritable = errors.New("server takes no writes")

// watch reports the health until ctx ends, whatever happens to the server.
func (f *Fencer) watch(ctx context.Context) {
	reachable := true // one line per change, none at the start when all is well
	for ctx.Err() == nil {
		err := f.watchSession(ctx, &reachable)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errNotWritable) {
			f.observe(Health{Err: err.Error()})
			if reachable {
				f.log.Warn("metastore lost", "err", err)
			}
			reachable = false
		}
		sleep(ctx, f.config.Probe)
	}
}

// watchSession probes over one connection until that fails; the error is never nil.
func (f *Fencer) watchSession(ctx context.Context, reachable *bool) error {
	conn, err := f.dialListening(ctx)
	if err != nil {
		return err
	}
	defer discard(conn)
	var last Health
	for {
		health, err := f.probe(ctx, conn)
		if sqlState(err) == lockNotAvailable && last.Reachable {
			health, err = f.probeLocked(ctx, conn, last)
		}
		if err != nil {
			return err
		}
		last = health
		if !*reachable {
			f.log.Info("metastore back", "epoch", health.Row.Epoch)
			*reachable = true
		}
		f.observe(health)
		if !health.Writable {
			return errNotWritable
		}
		if err := f.awaitNotice(ctx, conn); err != nil {
			return err
		}
	}
}

func (f *Fencer) dialListening(ctx context.Context) (*pgx.Conn, error) {
	leave, err := f.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, f.connectBudget())
	defer cancel()
	conn, err := f.dialInTurn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		discard(conn)
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn, nil
}

// probe reads the row and the state of the server.
func (f *Fencer) probe(ctx context.Context, conn *pgx.Conn) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	health := Health{Reachable: true}
	err := conn.QueryRow(ctx, probeSQL, f.config.Job, f.config.Group).Scan(
		&health.Row.Epoch, &health.Row.Node, &health.Row.Token, &health.Row.At,
		&health.Writable, &health.HighestRole, &health.ServerVersion)
	if errors.Is(err, pgx.ErrNoRows) {
		return Health{}, fmt.Errorf("probe: no row for job %s in duoflow.fence: run the set-up", f.config.Job)
	}
	if err != nil {
		return Health{}, fmt.Errorf("probe: %w", err)
	}
	return health, nil
}

// probeLocked answers for a fence table that somebody holds a lock on. While that lasts the
// row cannot move; and a node that called the server unreachable would not take, which is what ends the lock.
func (f *Fencer) probeLocked(ctx context.Context, conn *pgx.Conn, last Health) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	last.Err = "duoflow.fence is locked by another session: the row is the one seen before"
	if err := conn.QueryRow(ctx, writableSQL).Scan(&last.Writable); err != nil {
		return Health{}, fmt.Errorf("probe: %w", err)
	}
	return last, nil
}

// awaitNotice returns after one probe interval, or as soon as somebody moved the row.
func (f *Fencer) awaitNotice(ctx context.Context, conn *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, nextProbe(time.Now(), f.config.Probe))
	defer cancel()
	for {
		notice, err := conn.WaitForNotification(waiting)
		if err != nil {
			if waiting.Err() != nil && ctx.Err() == nil && !conn.IsClosed() {
				return nil // a timeout leaves the connection whole
			}
			return fmt.Errorf("wait for notice: %w", err)
		}
		if f.concerns(notice) {
			return nil
		}
	}
}

// nextProbe is the time to the next multiple of the interval on the wall clock that is more than half an interval away.
// The node beats at such instants too, so that one wake-up does for both.
func nextProbe(wall time.Time, every time.Duration) time.Duration {
	d := every - time.Duration(wall.UnixNano()%int64(every))
	if d <= every/2 {
		d += every
	}
	return d
}

func (f *Fencer) concerns(notice *pgconn.Notification) bool {
	job, _, _ := strings.Cut(notice.Payload, " ")
	return notice.Channel == channel && job == f.config.Job
}

func (f *Fencer) observe(health Health) {
	if f.config.Observe != nil {
		f.config.Observe(health)
	}
}
