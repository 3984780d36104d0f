package fence

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PastRun is what became of one slot of a job's schedule under one epoch, by the database's clock.
type PastRun struct {
	Slot  time.Time
	Epoch uint64
	Node  string
	State string // started, done or failed
	Began time.Time
	Ended time.Time // zero: it has not, as far as the database knows
	Exit  int       // 0 unless it failed
}

const runsSQL = `SELECT r.slot, r.epoch, r.node, r.state, r.began, r.ended, coalesce(r.exit, 0) FROM duoflow.run r
WHERE r.job = $1 AND r.state <> 'seen' ORDER BY r.slot DESC, r.epoch DESC LIMIT $2`

// Runs reads the newest runs of a job with a schedule, the newest first, over a connection of its own. A job without a schedule has none.
func (f *Fencer) Runs(ctx context.Context, limit int) ([]PastRun, error) {
	conn, err := f.dialBare(ctx)
	if err != nil {
		return nil, fmt.Errorf("read past runs: %w", err)
	}
	defer discard(conn)
	rows, _ := conn.Query(ctx, runsSQL, f.config.Job, limit) // its error is the rows' too
	runs, err := pgx.CollectRows(rows, scanRun)
	if sqlState(err) == undefinedTable { // a set-up of before there were schedules
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read past runs: %w", err)
	}
	return runs, nil
}

func scanRun(row pgx.CollectableRow) (r PastRun, err error) {
	var ended *time.Time
	err = row.Scan(&r.Slot, &r.Epoch, &r.Node, &r.State, &r.Began, &ended, &r.Exit)
	if ended != nil {
		r.Ended = *ended
	}
	return r, err
}
