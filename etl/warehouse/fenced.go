package warehouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// guard locks the job's row of the fence until the transaction ends, so that a take back waits for it (or ends this
// session), and looks whether we may write. Whatever has to be fenced comes after it in the transaction.
//
// It must be FOR SHARE: a plain read says what was committed when it ran, and the epoch could move before our own commit.
func (w *Warehouse) guard(ctx context.Context, tx pgx.Tx) error {
	if w.config.ReadOnly {
		return ErrReadOnly
	}
	if w.config.Epoch == 0 {
		return w.guardByHand(ctx, tx)
	}
	var epoch uint64
	var node string
	err := tx.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = $1 FOR SHARE", w.config.Job).Scan(&epoch, &node)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: duoflow.fence has no row for job %s (duoctl metastore init)", ErrNotSetUp, w.config.Job)
	}
	if err != nil {
		return err
	}
	if epoch != w.config.Epoch {
		return w.fencedBy(epoch, node)
	}
	return nil
}

// guardPlain saves a fenced run the work; it proves nothing, because it locks nothing.
func (w *Warehouse) guardPlain(ctx context.Context, tx pgx.Tx) error {
	if w.config.ReadOnly {
		return ErrReadOnly
	}
	if w.config.Epoch == 0 {
		return nil
	}
	var epoch uint64
	var node string
	err := tx.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = $1", w.config.Job).Scan(&epoch, &node)
	if err == nil && epoch != w.config.Epoch {
		return w.fencedBy(epoch, node)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // guard finds the words
	}
	return err
}

func (w *Warehouse) fencedBy(epoch uint64, node string) error {
	return fmt.Errorf("%w: job %s is at epoch %d on node %q, this is %d", ErrFenced, w.config.Job, epoch, node, w.config.Epoch)
}

// guardByHand refuses a job that has had an epoch: the cluster may start it at any moment, and the fence, which tells two
// epochs apart, does not see a run without one.
func (w *Warehouse) guardByHand(ctx context.Context, tx pgx.Tx) error {
	if w.config.Force {
		return nil
	}
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass('duoflow.fence') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return err
	}
	var epoch uint64
	var node string
	err := tx.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = $1 FOR SHARE", w.config.Job).Scan(&epoch, &node)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil && epoch > 0 {
		err = fmt.Errorf("%w: job %s is at epoch %d on node %q; nothing would keep that run and this one apart. Let the cluster run it (duoctl), or force this run after pausing the job",
			ErrClustered, w.config.Job, epoch, node)
	}
	return err
}

// Fence reads who holds the job's epoch. 0: there is no fence in this database, or the job has never had an epoch.
func (w *Warehouse) Fence(ctx context.Context) (epoch uint64, node string, err error) {
	err = w.retry(ctx, &w.notes, func(ctx context.Context, tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('duoflow.fence') IS NOT NULL").Scan(&exists); err != nil || !exists {
			return err
		}
		err := tx.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = $1", w.config.Job).Scan(&epoch, &node)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, "", fmt.Errorf("look at the fence: %w", err)
	}
	return epoch, node, nil
}

// write runs f in one guarded transaction of the session for notes.
func (w *Warehouse) write(ctx context.Context, f func(context.Context, pgx.Tx) error) error {
	return w.retry(ctx, &w.notes, func(ctx context.Context, tx pgx.Tx) error {
		if err := w.guard(ctx, tx); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

// Backoff between tries.
const (
	firstPause = 20 * time.Millisecond
	mostPause  = time.Second
)

// retry runs f in a transaction until it commits, cannot, or patience ends. f may run several times and, when the answer
// to a commit was lost, after it has been committed.
func (w *Warehouse) retry(ctx context.Context, s *session, f func(context.Context, pgx.Tx) error) error {
	deadline := time.Now().Add(w.config.Patience)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := once(ctx, s, f)
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		if w.config.Epoch > 0 && suspicious(err) {
			if verdict := w.standing(ctx, s); errors.Is(verdict, ErrFenced) {
				return fmt.Errorf("%w (%w)", verdict, err)
			}
		}
		if !repeatable(err) || time.Now().After(deadline) {
			return explain(err)
		}
		w.log.Info("write is tried again", "job", w.config.Job, "epoch", w.config.Epoch, "err", err)
		if !sleep(ctx, pause) {
			return errors.Join(err, ctx.Err())
		}
	}
}

func once(ctx context.Context, s *session, f func(context.Context, pgx.Tx) error) error {
	conn, release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	mode := pgx.ReadWrite
	if s.readOnly {
		mode = pgx.ReadOnly
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: mode})
	if err != nil {
		discard(conn)
		return err
	}
	if err = f(ctx, tx); err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		rollback(conn, tx)
	}
	return err
}

// rollback leaves the session usable, or closed; a caller that has gone must not keep locks.
func rollback(conn *pgx.Conn, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) || conn.PgConn().TxStatus() != 'I' {
		discard(conn)
	}
}

// standing asks the fence row whether we are over: ErrFenced if it has moved, or if the server refuses our role, which a
// take disarms. Anything else says nothing.
func (w *Warehouse) standing(ctx context.Context, s *session) error {
	conn, release, err := s.acquire(ctx)
	if err != nil {
		if disarmed(err) {
			return fmt.Errorf("%w: the role of epoch %d is refused: %w", ErrFenced, w.config.Epoch, err)
		}
		return err
	}
	defer release()
	var epoch uint64
	var node string
	err = conn.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = $1", w.config.Job).Scan(&epoch, &node)
	switch {
	case err == nil && epoch != w.config.Epoch:
		return w.fencedBy(epoch, node)
	case disarmed(err):
		return fmt.Errorf("%w: epoch %d may not read the fence: %w", ErrFenced, w.config.Epoch, err)
	}
	return err
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
