package fence

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

const (
	// grantor is the role every fencer acts as: on Postgres >= 16 only the grantor can revoke.
	grantor = "duoflow"
	// dialTimeout bounds the connect to one host, and one probe.
	dialTimeout = time.Second
	// peerTimeout ends a connection whose peer's kernel is silent. Statements have no timeout of
	// their own: a slow server is not a dead one, and a cancelled commit is an unknown one.
	peerTimeout = 2 * time.Second
	// spareEvery is how many probe intervals pass between two looks at the spare session: the watch session tells of a
	// server that is gone, and a command that finds its session dead connects anew.
	spareEvery = 4
	// spareWait is how long a command waits for the spare session while it is being probed.
	spareWait = 10 * time.Millisecond
)

// sessionSettings is run once on each connection of a fencer. synchronous_commit: a server set to
// "off" could forget a fence in a crash and so bring the old role back.
const sessionSettings = `SET ROLE ` + grantor + `;
SET search_path = pg_catalog;
SET default_transaction_isolation = 'read committed';
SET statement_timeout = 0;
SET client_min_messages = error;
SELECT set_config('lock_timeout', '%d', false),
  set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)`

func connectConfig(config Config) (*pgx.ConnConfig, error) {
	connect, err := pgx.ParseConfig(config.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse DSN: %w", err) // pgx leaves the password out
	}
	if connect.ConnectTimeout == 0 || connect.ConnectTimeout > dialTimeout {
		connect.ConnectTimeout = dialTimeout
	}
	connect.RuntimeParams["application_name"] = applicationName(config.Job)
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: 500 * time.Millisecond, Count: 2},
		Control:         limitUnacknowledged,
	}
	connect.DialFunc = dialer.DialContext
	return connect, nil
}

func applicationName(job string) string { return "duoflow/" + job + "/fencer" }

// limitUnacknowledged makes the kernel give up on data that the peer's kernel does not confirm.
func limitUnacknowledged(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var optErr error
	err := raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(peerTimeout/time.Millisecond))
	})
	if err != nil {
		return err
	}
	return optErr
}

// dial opens a session that acts as the grantor, with the statements of a takeover prepared: that
// saves a round trip when it counts.
func (f *Fencer) dial(ctx context.Context) (*pgx.Conn, error) {
	leave, err := f.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return f.dialInTurn(ctx)
}

// dialInTurn is dial for who has waited for the turn.
func (f *Fencer) dialInTurn(ctx context.Context) (*pgx.Conn, error) {
	conn, err := f.dialBareInTurn(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range [][2]string{{takeName, takeSQL}, {drainName, drainSQL}} {
		if _, err := conn.Prepare(ctx, statement[0], statement[1]); err != nil {
			discard(conn)
			return nil, fmt.Errorf("prepare %s: %w", statement[0], err)
		}
	}
	return conn, nil
}

// dialBare works before the set-up has been run too.
func (f *Fencer) dialBare(ctx context.Context) (*pgx.Conn, error) {
	leave, err := f.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return f.dialBareInTurn(ctx)
}

func (f *Fencer) dialBareInTurn(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, f.connect.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	text := fmt.Sprintf(sessionSettings, f.config.LockTimeout.Milliseconds())
	if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
		discard(conn)
		return nil, fmt.Errorf("act as role %s: %w", grantor, err)
	}
	return conn, nil
}

// connectBudget bounds the connect when every host has to be tried.
func (f *Fencer) connectBudget() time.Duration {
	return dialTimeout * time.Duration(2+len(f.base.More))
}

// discard closes a connection without waiting for a peer that may be gone.
func discard(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// command returns a session for exclusive use: the spare one, or a new one.
func (f *Fencer) command(ctx context.Context) (*pgx.Conn, error) {
	wait := time.Duration(0)
	if f.running.Load() {
		wait = spareWait
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case conn := <-f.spare:
		return conn, nil
	default:
	}
	select {
	case conn := <-f.spare:
		return conn, nil
	case <-timer.C:
		return f.dial(ctx)
	}
}

// giveBack keeps a healthy session for the next command while Run is on.
func (f *Fencer) giveBack(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		discard(conn)
		return
	}
	if f.running.Load() {
		select {
		case f.spare <- conn:
			return
		default:
		}
	}
	discard(conn)
}

func (f *Fencer) dropSpare() {
	select {
	case conn := <-f.spare:
		discard(conn)
	default:
	}
}

// keepSpare makes sure that a command session is connected and alive, until ctx ends.
func (f *Fencer) keepSpare(ctx context.Context) {
	for {
		f.checkSpare(ctx)
		if !sleep(ctx, nextProbe(time.Now(), spareEvery*f.config.Probe)) {
			return
		}
	}
}

func (f *Fencer) checkSpare(ctx context.Context) {
	select {
	case conn := <-f.spare:
		f.pingSpare(ctx, conn)
	default:
		f.makeSpare(ctx)
	}
}

func (f *Fencer) pingSpare(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, f.connectBudget())
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		discard(conn)
		f.log.Info("command session lost", "err", err)
		return
	}
	f.giveBack(conn)
}

func (f *Fencer) makeSpare(ctx context.Context) {
	leave, err := f.turn(ctx)
	if err != nil {
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, f.connectBudget())
	defer cancel()
	conn, err := f.dialInTurn(ctx)
	if err != nil {
		return // the watch session tells Observe about the same server
	}
	f.rehearse(ctx, conn)
	f.giveBack(conn)
}

// rehearse calls the functions of a takeover on the doctor's row, under an epoch and a token that
// make them do nothing. A session's first call costs some milliseconds more than its next ones, and a
// standby's first call is the one that counts. That it fails is no matter.
func (f *Fencer) rehearse(ctx context.Context, conn *pgx.Conn) {
	const epoch, token, verifier = 0, "rehearsal", "SCRAM-SHA-256$"
	_, _ = conn.Exec(ctx, takeName, doctorJob, f.config.Group, epoch, "", token, verifier, 0)
	_, _ = conn.Exec(ctx, drainName, doctorJob, f.config.Group, epoch, token, []int32{}, false)
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
