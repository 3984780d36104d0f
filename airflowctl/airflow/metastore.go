package airflow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// ErrNotHolder means that the fence row of the job names another claim: this life is over.
var ErrNotHolder = errors.New("the fence is held by another claim")

// connectTimeout bounds one login. A takeover waits for it, so it is shorter than a TCP timeout.
const connectTimeout = 3 * time.Second

// Config is the operator's part; its zero value is complete.
type Config struct {
	// AcceptRevisions are migration revisions beyond the known ones for which the operator vouches;
	// the columns are probed all the same.
	AcceptRevisions []string
	Logger          *slog.Logger // nil = discard
}

// Metastore is one connection to Airflow's database for one epoch. It connects again by itself
// after a loss. Its methods are safe for concurrent use and run one at a time.
type Metastore struct {
	config Config
	login  *pgx.ConnConfig
	job    string        // row of duoflow.fence that guards this database
	epoch  uint64        // of the role
	turn   chan struct{} // holds one token: whoever has it may use the fields below
	conn   *pgx.Conn     // nil = not connected
	floor  int64         // highest job id at adoption: our scheduler's is above it; -1 = not adopted
	life   int64         // job id told by the scheduler itself; 0 = unknown

	adoptsQueued bool // as in release, of what Probe found last; false before
}

// Open logs in as an epoch role, whose name tells job and epoch.
func Open(ctx context.Context, credentials fence.Credentials, config Config) (*Metastore, error) {
	_, job, epoch, ok := fence.ParseRole(credentials.Role)
	if !ok {
		return nil, fmt.Errorf("open metastore: %q is no epoch role", credentials.Role)
	}
	login, err := pgx.ParseConfig(credentials.DSN())
	if err != nil {
		return nil, errors.New("open metastore: unusable credentials") // err quotes them
	}
	if login.ConnectTimeout == 0 || login.ConnectTimeout > connectTimeout {
		login.ConnectTimeout = connectTimeout
	}
	login.RuntimeParams["application_name"] = fmt.Sprintf("duoflow/%s/adopter/%d", job, epoch)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metastore{config: config, login: login, job: job, epoch: epoch, turn: make(chan struct{}, 1), floor: -1}
	m.turn <- struct{}{}
	if err := m.use(ctx, func(*pgx.Conn) error { return nil }); err != nil {
		return nil, err
	}
	return m, nil
}

// Close logs out. The Metastore cannot be used afterwards.
func (m *Metastore) Close(ctx context.Context) error {
	select {
	case <-m.turn: // kept, so that later calls wait for their ctx and fail
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.conn == nil {
		return nil
	}
	return m.conn.Close(ctx)
}

// SetJob tells the id of the scheduler's row in table job, as the scheduler itself reported it.
// Until then the newest row since the adoption is taken for it.
func (m *Metastore) SetJob(ctx context.Context, id int64) error {
	return m.use(ctx, func(*pgx.Conn) error {
		m.life = id
		return nil
	})
}

// use gives the connection to one caller at a time.
func (m *Metastore) use(ctx context.Context, work func(*pgx.Conn) error) error {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { m.turn <- struct{}{} }()
	if m.conn == nil || m.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, m.login)
		if err != nil {
			return fmt.Errorf("connect to metastore: %w", err)
		}
		m.conn = conn
	}
	return work(m.conn)
}
