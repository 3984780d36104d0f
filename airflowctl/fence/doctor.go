package fence

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	doctorTries = 10 // takes above whatever earlier doctors left
	doctorLock  = 7303014823102
	doctorPause = 50 * time.Millisecond
)

const scratchSQL = "INSERT INTO duoflow.scratch (epoch) VALUES ($1)"

// Doctor performs a whole fence on roles of its own and reports what it saw: a role that can write,
// a newer epoch taken over it, its next write and its commit refused, its sessions gone, its login
// refused. The job itself is not touched. What Check finds comes first; without it nothing is played.
func (f *Fencer) Doctor(ctx context.Context) (Report, error) {
	report, err := f.Check(ctx)
	if err != nil || !report.fenced() {
		return report, err
	}
	config := f.config
	config.Job, config.Observe, config.Life = doctorJob, nil, nil // whose turn it is, is no matter of the doctor's row
	scratch, err := newFencer(config)
	if err != nil {
		return report, err
	}
	unlock, err := scratch.lockDoctor(ctx)
	if err != nil {
		return report, fmt.Errorf("perform scratch fence: %w", err)
	}
	defer unlock()
	patient := &trial{fencer: scratch, report: &report}
	if err := patient.play(ctx); err != nil {
		return report, fmt.Errorf("perform scratch fence: %w", err)
	}
	return report, nil
}

// lockDoctor keeps other nodes' doctors out of this database until unlock: they would fence us.
func (f *Fencer) lockDoctor(ctx context.Context) (unlock func(), err error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	for {
		var locked bool
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(doctorLock)).Scan(&locked)
		if err == nil && locked {
			return func() { discard(conn) }, nil
		}
		if err != nil || !sleep(ctx, doctorPause) {
			discard(conn)
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// trial is one performance of the doctor.
type trial struct {
	fencer   *Fencer
	report   *Report
	old, new Claim
}

// play stops at the first step that leaves nothing to go on with.
func (t *trial) play(ctx context.Context) (err error) {
	var login Credentials
	if login, t.old, err = t.take(ctx); err != nil {
		return t.failed("take a fence", err)
	}
	t.report.add("take a fence", true, "epoch role "+login.Role, "")
	idle, open, err := t.openSessions(ctx, login)
	if err != nil {
		return t.failed("epoch role can log in and write", err)
	}
	defer discard(idle)
	defer discard(open)
	t.report.add("epoch role can log in and write", true, "wrote duoflow.scratch", "")
	if _, t.new, err = t.take(ctx); err != nil {
		return t.failed("take a newer fence", err)
	}
	t.report.add("take a newer fence", true, fmt.Sprintf("epoch %d over %d", t.new.Epoch, t.old.Epoch), "")
	t.expect(ctx, "old session's next write is refused", idle, scratchSQL, t.old.Epoch)
	if err := t.fencer.Drain(ctx, t.new); err != nil {
		return t.failed("drain", err)
	}
	t.report.add("drain", true, "no old session could still commit", "")
	t.expect(ctx, "old open transaction cannot commit", open, "COMMIT")
	t.expectNoLogin(ctx, login)
	if err := t.countRows(ctx); err != nil {
		return err
	}
	return t.cleanUp(ctx)
}

// failed notes a step that the server refused; other errors are the caller's to see.
func (t *trial) failed(step string, err error) error {
	if sqlState(err) == "" {
		return err
	}
	t.report.add(step, false, err.Error(), runSetup)
	return nil
}

// take takes the scratch row, above whatever another doctor put there.
func (t *trial) take(ctx context.Context) (Credentials, Claim, error) {
	token := make([]byte, 16)
	rand.Read(token)
	claim := Claim{Epoch: t.old.Epoch + 1, Node: doctorJob, Token: hex.EncodeToString(token)}
	var err error
	for range doctorTries {
		var login Credentials
		if login, err = t.fencer.Take(ctx, claim); err == nil {
			return login, claim, nil
		}
		var stale *StaleError
		if !errors.As(err, &stale) {
			return Credentials{}, Claim{}, err
		}
		claim.Epoch = max(stale.Row.Epoch, stale.HighestRole) + 1
	}
	return Credentials{}, Claim{}, err
}

// openSessions logs in twice as the epoch role; the second holds a write that is not committed.
func (t *trial) openSessions(ctx context.Context, login Credentials) (idle, open *pgx.Conn, err error) {
	if idle, err = pgx.Connect(ctx, login.DSN()); err != nil {
		return nil, nil, err
	}
	if _, err = idle.Exec(ctx, scratchSQL, t.old.Epoch); err == nil {
		open, err = pgx.Connect(ctx, login.DSN())
	}
	if err != nil {
		discard(idle)
		return nil, nil, err
	}
	if _, err = open.Exec(ctx, "BEGIN"); err == nil {
		_, err = open.Exec(ctx, scratchSQL, t.old.Epoch)
	}
	if err != nil {
		discard(idle)
		discard(open)
		return nil, nil, err
	}
	return idle, open, nil
}

// expect notes whether the server refuses the statement: its rights are gone (42501) or its session is.
func (t *trial) expect(ctx context.Context, step string, conn *pgx.Conn, sql string, args ...any) {
	_, err := conn.Exec(ctx, sql, args...)
	if err == nil {
		t.report.add(step, false, "it went through", "the fence does not hold on this server: do not run duoflow on it")
		return
	}
	refused := sqlState(err) != "" || (conn.IsClosed() && ctx.Err() == nil)
	t.report.add(step, refused, err.Error(), "the statement could not be tried: run the doctor again")
}

func (t *trial) expectNoLogin(ctx context.Context, login Credentials) {
	const step = "old role's login is refused"
	conn, err := pgx.Connect(ctx, login.DSN())
	if err == nil {
		discard(conn)
		t.report.add(step, false, "it was let in", "the server (or a pooler) does not honour NOLOGIN")
		return
	}
	t.report.add(step, sqlState(err) != "", err.Error(), "the login could not be tried: reach the server by the fencer's DSN")
}

// countRows looks at the table itself: the one write from before the newer fence, and no other.
func (t *trial) countRows(ctx context.Context) error {
	conn, err := t.fencer.command(ctx)
	if err != nil {
		return err
	}
	defer t.fencer.giveBack(conn)
	rows := 0
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM duoflow.scratch WHERE epoch = $1", t.old.Epoch).Scan(&rows); err != nil {
		return err
	}
	t.report.add("table has only the old role's early write", rows == 1, fmt.Sprintf("%d rows", rows),
		"the fence does not hold on this server: do not run duoflow on it")
	return nil
}

// cleanUp gives the scratch claim back and drops the scratch roles.
func (t *trial) cleanUp(ctx context.Context) error {
	if err := t.fencer.Release(ctx, t.new); err != nil {
		return err
	}
	if _, err := t.fencer.collect(ctx, 0); err != nil {
		return err
	}
	conn, err := t.fencer.command(ctx)
	if err != nil {
		return err
	}
	defer t.fencer.giveBack(conn)
	_, err = conn.Exec(ctx, "DELETE FROM duoflow.scratch WHERE epoch <= $1", t.new.Epoch)
	return err
}
