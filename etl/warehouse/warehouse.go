package warehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Identity says who writes. Job and Epoch are those under which duoflowd started the process.
type Identity struct {
	Job   string // row of duoflow.fence
	Epoch uint64 // 0: by hand, without a cluster
	Node  string
}

// Config is where the warehouse is and who opens it.
type Config struct {
	DSN string // libpq URL or keywords; "" = what PGSERVICE, PGSERVICEFILE and the other variables of libpq say
	Identity
	Layout
	// ReadOnly is for a look: every transaction is read-only, no epoch is asked for and no lock taken, so that a standby or a role
	// that may only read will do, and a run beside is not disturbed. Whatever writes fails with ErrReadOnly.
	ReadOnly    bool
	Force       bool          // by hand: although a cluster runs the job. Its run and this one then overwrite each other's chunks
	Patience    time.Duration // how long a write is tried again while the server is away or locks are held; 0 = 30 s
	LockTimeout time.Duration // how long one try waits for a lock; 0 = 3 s
	Logger      *slog.Logger  // nil = discard
}

// Warehouse is the pipeline's end in one database. Its methods are safe for concurrent use; of several loads, and of several
// notes, one is at work at a time.
type Warehouse struct {
	config Config
	layout Layout
	log    *slog.Logger
	// A load takes its time, and the notes of steps beside it must not wait.
	loads, notes session
	had          bool // the lock of a run by hand, once; guarded by notes
}

const (
	defaultPatience    = 30 * time.Second
	defaultLockTimeout = 3 * time.Second
	connectTimeout     = 10 * time.Second
	// idleTimeout makes the server end a transaction whose process is frozen: it holds locks.
	idleTimeout = time.Minute
	// handWait is for the session of a run by hand that has just ended: the server may not have noticed.
	handWait = time.Second
)

// Open connects and looks whether this run may write: ErrFenced when the epoch is over; by hand, ErrClustered when a
// cluster runs the job and ErrBusy when another run by hand is on.
func Open(ctx context.Context, c Config) (*Warehouse, error) {
	layout, err := c.complete()
	if err != nil {
		return nil, fmt.Errorf("open warehouse: %w", err)
	}
	if c.Job == "" {
		return nil, errors.New("open warehouse: no job is named")
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = defaultLockTimeout
	}
	w := &Warehouse{config: c, layout: layout, log: c.Logger}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	connect, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("open warehouse: %w", err) // pgx leaves the password out
	}
	w.dialer(connect)
	w.loads = session{connect: connect, settings: w.settings(), readOnly: c.ReadOnly}
	w.notes = session{connect: connect, settings: w.settings(), readOnly: c.ReadOnly, prepare: w.lockByHand}
	first := w.guard
	if c.ReadOnly {
		first = func(context.Context, pgx.Tx) error { return nil } // it connects, that is all
	}
	if err := w.retry(ctx, &w.notes, first); err != nil {
		w.Close()
		return nil, fmt.Errorf("open warehouse: %w", err)
	}
	if c.Epoch == 0 && !c.ReadOnly {
		w.log.Warn("run by hand: no epoch fences this run, an advisory lock keeps other runs by hand away", "job", c.Job, "forced", c.Force)
	}
	return w, nil
}

// Close ends the sessions. The Warehouse is not to be used afterwards.
func (w *Warehouse) Close() {
	w.loads.close()
	w.notes.close()
}

func (w *Warehouse) dialer(connect *pgx.ConnConfig) {
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = connectTimeout
	}
	connect.RuntimeParams["application_name"] = "duoetl/" + w.layout.Pipeline
	connect.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}).DialContext
	// Prepared plans would outlive changes of the tables.
	connect.DefaultQueryExecMode = pgx.QueryExecModeExec
}

// settings are of the session. READ COMMITTED, because a row lock has to see the newest row. synchronous_commit as for the
// fence: what the ledger calls done must not be lost in a crash.
func (w *Warehouse) settings() string {
	return fmt.Sprintf(`SET search_path = pg_catalog, pg_temp; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET client_min_messages = warning;
SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = %t; SET statement_timeout = 0;
SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d;
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)`,
		w.config.ReadOnly, w.config.LockTimeout.Milliseconds(), idleTimeout.Milliseconds())
}

// Numbers of advisory locks; the second half is the pipeline's hash.
const (
	lockHand = 7303014 // session of a run by hand
	lockLoad = 7303015 // transaction that changes chunks
)

// lockByHand is taken by the session, so it goes when the process does.
func (w *Warehouse) lockByHand(ctx context.Context, conn *pgx.Conn) error {
	if w.config.Epoch > 0 || w.config.ReadOnly {
		return nil
	}
	if w.had {
		// Our own lost session may still be ending.
		_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1, hashtext($2))", int32(lockHand), w.layout.Pipeline)
		return err
	}
	for deadline := time.Now().Add(handWait); ; {
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", int32(lockHand), w.layout.Pipeline).Scan(&w.had)
		if err != nil || w.had {
			return err
		}
		if time.Now().After(deadline) || !sleep(ctx, firstPause) {
			return fmt.Errorf("%w: pipeline %s", ErrBusy, w.layout.Pipeline)
		}
	}
}

// session is one connection that is made when it is needed and made anew after it was lost.
type session struct {
	connect  *pgx.ConnConfig
	settings string
	readOnly bool
	prepare  func(context.Context, *pgx.Conn) error // nil = nothing

	mu   sync.Mutex
	conn *pgx.Conn
}

// acquire returns the connection for use until release.
func (s *session) acquire(ctx context.Context) (conn *pgx.Conn, release func(), err error) {
	s.mu.Lock()
	if s.conn == nil || s.conn.IsClosed() {
		s.conn = nil
		if s.conn, err = s.dial(ctx); err != nil {
			s.mu.Unlock()
			return nil, nil, err
		}
	}
	return s.conn, s.mu.Unlock, nil
}

func (s *session) dial(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.connect.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if _, err = conn.PgConn().Exec(ctx, s.settings).ReadAll(); err == nil && s.prepare != nil {
		err = s.prepare(ctx, conn)
	}
	if err != nil {
		discard(conn)
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		discard(s.conn)
	}
}

// discard closes a connection without waiting long for a peer that may be gone.
func discard(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
