package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// answerWithin bounds one question to the database, the connect included. What is cut off is asked again: every statement
// here may be repeated.
const answerWithin = 10 * time.Second

// keptRuns is how many runs of a job are remembered.
const keptRuns = 1000

// ErrFenced: the epoch's role has lost its rights or its login, or the table was never made. Trying again is pointless.
var ErrFenced = errors.New("the database refuses this epoch")

// Table is duoflow.run in the job's database, as one epoch of the job sees it. Use NewTable, and Close. It is not safe for
// concurrent use.
type Table struct {
	dsn, job, node string
	epoch          uint64
	conn           *pgx.Conn
}

// NewTable connects to nothing yet. dsn is of the epoch's own role; empty: PGSERVICEFILE and PGSERVICE of the environment.
func NewTable(dsn string, life Life) *Table {
	return &Table{dsn: dsn, job: life.Job, node: life.Node, epoch: life.Epoch}
}

// Close ends the connection, if there is one.
func (t *Table) Close() {
	if t.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = t.conn.Close(ctx) // the session ends with it either way
	t.conn = nil
}

// The newest slot of a job, over all epochs that tried it.
const pastSQL = `SELECT clock_timestamp(), r.slot, r.settled, r.seen, r.failed, r.tries, r.failures, r.ended, r.exit
FROM (VALUES (1)) one LEFT JOIN (
  SELECT slot, bool_or(state IN ('done', 'seen')) AS settled, bool_and(state = 'seen') AS seen, count(*) AS tries,
    (array_agg(state ORDER BY epoch DESC))[1] = 'failed' AS failed,
    count(*) FILTER (WHERE state = 'failed') AS failures, max(ended) FILTER (WHERE state = 'failed') AS ended,
    coalesce((array_agg(exit ORDER BY epoch DESC))[1], 0) AS exit
  FROM duoflow.run WHERE job = $1 GROUP BY slot ORDER BY slot DESC LIMIT 1) r ON true`

// Past asks for the newest slot and for the clock.
func (t *Table) Past(ctx context.Context) (Past, error) {
	var p Past
	err := t.do(ctx, "read the newest slot", func(ctx context.Context) error {
		var slot, ended *time.Time
		var settled, seen, failed *bool
		var tries, failures, exit *int
		if err := t.conn.QueryRow(ctx, pastSQL, t.job).Scan(&p.Now, &slot, &settled, &seen, &failed, &tries, &failures, &ended, &exit); err != nil {
			return err
		}
		if slot != nil {
			p.Slot, p.Settled, p.Seen, p.Failed = *slot, *settled, *seen, *failed
			p.Tries, p.Failures, p.Exit = *tries, *failures, *exit
		}
		if ended != nil {
			p.Ended = *ended
		}
		return nil
	})
	return p, err
}

const beginSQL = `INSERT INTO duoflow.run (job, slot, epoch, node, state) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (job, slot, epoch) DO NOTHING`

// See notes when the job was first seen; nothing before is ever run.
func (t *Table) See(ctx context.Context, at time.Time) error {
	return t.do(ctx, "note the first sight", func(ctx context.Context) error {
		_, err := t.conn.Exec(ctx, beginSQL, t.job, at, int64(t.epoch), t.node, "seen")
		return err
	})
}

// Begin notes that the slot is being run under this epoch. Each epoch begins a slot once.
func (t *Table) Begin(ctx context.Context, slot time.Time) error {
	return t.do(ctx, "begin the slot", func(ctx context.Context) error {
		_, err := t.conn.Exec(ctx, beginSQL, t.job, slot, int64(t.epoch), t.node, "started")
		return err
	})
}

const (
	endSQL = `UPDATE duoflow.run SET state = $4, exit = $5, ended = clock_timestamp() WHERE job = $1 AND slot = $2 AND epoch = $3`
	// A run is forgotten with its slot, so that a slot is never half forgotten.
	forgetSQL = `DELETE FROM duoflow.run WHERE job = $1
AND slot < (SELECT slot FROM duoflow.run WHERE job = $1 ORDER BY slot DESC OFFSET $2 LIMIT 1)`
)

// End notes how the run of a slot ended: with exit code 0 it is done, with any other failed.
func (t *Table) End(ctx context.Context, slot time.Time, exit int) error {
	state := "done"
	if exit != 0 {
		state = "failed"
	}
	return t.do(ctx, "note the end of the slot", func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, t.conn, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, endSQL, t.job, slot, int64(t.epoch), state, exit)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("%w: the row of this run is gone", ErrFenced)
			}
			if err == nil {
				_, err = tx.Exec(ctx, forgetSQL, t.job, keptRuns)
			}
			return err
		})
	})
}

// do asks once, over the connection at hand or a new one. After an error the connection is given up.
func (t *Table) do(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := t.connect(ctx)
	if err == nil {
		err = ask(ctx)
	}
	if err == nil {
		return nil
	}
	t.Close()
	if hopeless(err) && !errors.Is(err, ErrFenced) {
		return fmt.Errorf("%s: %w: %w", what, ErrFenced, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (t *Table) connect(ctx context.Context) error {
	if t.conn != nil && !t.conn.IsClosed() {
		return nil
	}
	var err error
	t.conn, err = pgx.Connect(ctx, t.dsn)
	return err
}

// passing are the classes of SQLSTATE that go by without this life doing anything: lost connections, read-only standbys,
// deadlocks, no room, locks, shutdowns and starts, trouble with disks, bugs.
var passing = []string{"08", "25", "40", "53", "55", "57", "58", "XX"}

func hopeless(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && len(server.Code) == 5 && !slices.Contains(passing, server.Code[:2])
}
