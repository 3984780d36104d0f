package fence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	takeName = "duoflow_take"
	takeSQL  = `SELECT t.outcome, t.row_epoch, t.row_node, t.row_token, t.row_at, t.highest
FROM duoflow.take($1::text, $2::text, $3::bigint, $4::text, $5::text, $6::text, $7::bigint) t`

	firstPause = 2 * time.Millisecond // between attempts; doubles up to lastPause
	lastPause  = 200 * time.Millisecond

	lockNotAvailable = "55P03"
)

// StaleError refuses a claim because its epoch is used up. The next one must be above Row.Epoch and
// above HighestRole. Nothing was changed.
type StaleError struct {
	Row         Row
	HighestRole uint64 // above Row.Epoch only when the database was restored
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("claim is stale: fence row is at epoch %d of node %s, highest epoch role is %d",
		e.Row.Epoch, e.Row.Node, e.HighestRole)
}

// ErrReplaced refuses a claim of a life of the cluster that is over: a node of a later one, which began with a restore or a recovery, has
// taken the fence since. Whatever epoch is claimed, nothing is changed, until an administrator seals the fence.
var ErrReplaced = errors.New("a later life of this cluster has the fence, so this node's is over: move its data directory away; " +
	"if no node of that life is left, run duoctl metastore seal")

// taken is what the server's function answers.
type taken struct {
	outcome string
	row     Row
	highest uint64
}

// Take makes the claim's epoch the one that counts: when it returns nil every older epoch has lost
// its rights and its login, and the credentials work. What older sessions have under way may still
// commit until Drain returns.
//
// It keeps trying until ctx ends: a lost answer is asked for again, a session that holds a lock
// against it is ended after Config.LockTimeout. Repeating it for the same claim in the same process
// is harmless and gives the same password. Errors: *StaleError; ErrReplaced; at once, an *pgconn.PgError of the server
// when rights or set-up are missing, with their names; ctx's error, after which the outcome is unknown until Take is
// repeated.
func (f *Fencer) Take(ctx context.Context, claim Claim) (Credentials, error) {
	if err := claim.validate(); err != nil {
		return Credentials{}, fmt.Errorf("take fence: %w", err)
	}
	known, err := f.secretFor(claim)
	if err != nil {
		return Credentials{}, fmt.Errorf("take fence: %w", err)
	}
	began := time.Now()
	answer, err := f.insist(ctx, claim, known)
	if err != nil {
		return Credentials{}, fmt.Errorf("take fence of epoch %d: %w", claim.Epoch, f.explain(err))
	}
	if answer.outcome == "replaced" {
		return Credentials{}, fmt.Errorf("take fence of epoch %d in life %d: %w", claim.Epoch, f.life(), ErrReplaced)
	}
	if answer.outcome != "taken" && answer.outcome != "done" {
		return Credentials{}, &StaleError{Row: answer.row, HighestRole: answer.highest}
	}
	f.log.Info("fence taken", "node", claim.Node, "epoch", claim.Epoch, "reason", answer.outcome, "took", time.Since(began))
	credentials := f.base
	credentials.Role = RoleName(f.config.Group, f.config.Job, claim.Epoch)
	credentials.Password = known.password
	return credentials, nil
}

// insist repeats the take until it has a definite outcome.
func (f *Fencer) insist(ctx context.Context, claim Claim, secret secret) (taken, error) {
	pause := firstPause
	var blocked error // what the last breaking of locks met
	var said error    // by the server; the last attempt of all often ends without a word of it, as ctx does
	for breaking := false; ; {
		answer, breakErr, err := f.takeOnce(ctx, claim, secret, breaking)
		if err == nil || !repeatable(err) {
			return answer, err
		}
		if breakErr != nil {
			blocked = breakErr
		}
		if sqlState(err) != "" {
			said = err
		}
		breaking = sqlState(err) == lockNotAvailable
		if ctx.Err() != nil || !sleep(ctx, pause) {
			if sqlState(err) != "" {
				said = nil
			}
			return taken{}, errors.Join(ctx.Err(), err, blocked, said)
		}
		pause = min(2*pause, lastPause)
	}
}

// takeOnce runs the server's function once. With breaking set, whoever stands in its way is ended
// meanwhile: only while it waits can be seen who that is.
func (f *Fencer) takeOnce(ctx context.Context, claim Claim, secret secret, breaking bool) (answer taken, breakErr, err error) {
	conn, err := f.command(ctx)
	if err != nil {
		return taken{}, nil, err
	}
	defer f.giveBack(conn)
	if breaking {
		join := f.breakLocks(ctx, conn.PgConn().PID())
		defer func() { breakErr = join() }()
	}
	// gofail: var fenceBeforeTake struct{}
	err = conn.QueryRow(ctx, takeName, f.config.Job, f.config.Group, claim.Epoch, claim.Node, claim.Token, secret.verifier, f.life()).
		Scan(&answer.outcome, &answer.row.Epoch, &answer.row.Node, &answer.row.Token, &answer.row.At, &answer.highest)
	// gofail: var fenceAfterTake struct{}
	if sqlState(err) == "25006" { // became a standby: the next connect may find the primary
		discard(conn)
	}
	return answer, nil, err
}

// breakLocks ends whoever blocks the session, over a second connection, until the returned function
// is called; that waits for the end and returns the last error.
func (f *Fencer) breakLocks(ctx context.Context, pid uint32) (join func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- f.breakUntil(ctx, pid) }()
	return func() error {
		cancel()
		return <-done
	}
}

func (f *Fencer) breakUntil(ctx context.Context, pid uint32) error {
	conn, err := f.dial(ctx)
	if err != nil {
		return fmt.Errorf("end sessions that hold a lock: %w", err)
	}
	defer discard(conn)
	var last error
	for ctx.Err() == nil {
		if err := f.breakOnce(ctx, conn, pid); err != nil && ctx.Err() == nil {
			last = fmt.Errorf("end sessions that hold a lock: %w", err)
		}
		sleep(ctx, 10*time.Millisecond)
	}
	return last
}

// breakOnce ends the blockers there are now; the error names those that cannot be ended.
func (f *Fencer) breakOnce(ctx context.Context, conn *pgx.Conn, pid uint32) error {
	rows, err := conn.Query(ctx, "SELECT pid, who, fault FROM duoflow.unblock($1::int, $2)", int32(pid), applicationName(f.config.Job))
	if err != nil {
		return err
	}
	defer rows.Close()
	var faults []error
	for rows.Next() {
		var blocker int32
		var who, fault string
		if err := rows.Scan(&blocker, &who, &fault); err != nil {
			return err
		}
		if fault != "" {
			faults = append(faults, fmt.Errorf("session %d of %s: %s", blocker, who, fault))
			continue
		}
		f.log.Warn("ended a session that held a lock against the fence", "reason", fmt.Sprintf("session %d of %s", blocker, who))
	}
	return errors.Join(append(faults, rows.Err())...)
}
