package airflowctl

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Shadow stands for a Job that does nothing: it says what would be done, so that a cluster's decisions can be watched beside a
// set-up that already runs the job. The database is only asked whether it takes writes; nothing has to be prepared in it.
type Shadow struct {
	cfg    Config
	logger *slog.Logger
	login  *pgx.ConnConfig

	mu sync.Mutex
	// row is the claim that would be in the fence row, as far as this host knows.
	row fence.Row
}

// shadowEvery is how often the database is asked; shadowWithin how long it may take to answer.
const (
	shadowEvery  = time.Second
	shadowWithin = time.Second
)

// NewShadow checks the configuration and starts nothing.
func NewShadow(cfg Config) (*Shadow, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	login, err := pgx.ParseConfig(cfg.FenceDSN)
	if err != nil {
		return nil, fmt.Errorf("job %s: unusable fence DSN", cfg.Name) // err may quote it
	}
	login.ConnectTimeout = shadowWithin
	return &Shadow{cfg: cfg, logger: cfg.Logger.With("job", cfg.Name, "shadow", true), login: login}, nil
}

// Run looks at the database until ctx ends.
func (s *Shadow) Run(ctx context.Context) error {
	for ok := true; ok; ok = sleep(ctx, shadowEvery) {
		h := s.look(ctx)
		if ctx.Err() == nil {
			s.cfg.Observer.Health(h)
		}
	}
	return nil
}

func (s *Shadow) look(ctx context.Context) fence.Health {
	ctx, cancel := context.WithTimeout(ctx, shadowWithin)
	defer cancel()
	s.mu.Lock()
	h := fence.Health{Row: s.row, HighestRole: s.row.Epoch}
	s.mu.Unlock()
	conn, err := pgx.ConnectConfig(ctx, s.login)
	if err != nil {
		h.Err = "cannot connect"
		return h
	}
	defer func() { _ = conn.Close(ctx) }() // it has said what it was asked
	err = conn.QueryRow(ctx, `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'`).Scan(&h.Writable)
	h.Reachable = err == nil
	return h
}

func (s *Shadow) would(what string, epoch uint64) {
	s.logger.Info("shadow: nothing is done", "would", what, "epoch", epoch)
}

// Clear does nothing.
func (s *Shadow) Clear(context.Context) error { s.would("clear", 0); return nil }

// Take remembers the claim, and makes nothing in the database.
func (s *Shadow) Take(_ context.Context, claim fence.Claim) error {
	s.would("take the fence", claim.Epoch)
	s.mu.Lock()
	s.row = fence.Row{Epoch: claim.Epoch, Node: claim.Node, Token: claim.Token, At: time.Now()}
	row := s.row
	s.mu.Unlock()
	s.cfg.Observer.Health(fence.Health{Reachable: true, Writable: true, Row: row, HighestRole: row.Epoch})
	return nil
}

// Drain does nothing.
func (s *Shadow) Drain(_ context.Context, claim fence.Claim) error {
	s.would("end older sessions", claim.Epoch)
	return nil
}

// Adopt does nothing.
func (s *Shadow) Adopt(_ context.Context, claim fence.Claim) error {
	s.would("adopt", claim.Epoch)
	return nil
}

// Start does nothing.
func (s *Shadow) Start(_ context.Context, claim fence.Claim) error {
	s.would("start the job", claim.Epoch)
	return nil
}

// Stop does nothing.
func (s *Shadow) Stop(_ context.Context, epoch uint64, _ time.Duration) error {
	s.would("stop the job", epoch)
	return nil
}

// Surrender does nothing.
func (s *Shadow) Surrender(_ context.Context, claim fence.Claim) error {
	s.would("give the role up", claim.Epoch)
	return nil
}

// Mirror does nothing, and says nothing of it: it would every few seconds.
func (s *Shadow) Mirror(context.Context, fence.Claim) error { return nil }

// Doctor examines the settings. There is no fence that it could perform.
func (s *Shadow) Doctor(context.Context) (fence.Report, error) {
	report := fence.Report{Mode: ShadowMode, Findings: s.cfg.checkSettings()}
	return report, nil
}

// ShadowMode is a Report's mode when nothing is done at all.
const ShadowMode = "shadow"

// Status says that this is a shadow.
func (s *Shadow) Status() Status { return Status{Shadow: true} }
