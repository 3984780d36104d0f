package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	defaultProbe       = 250 * time.Millisecond
	defaultLockTimeout = 300 * time.Millisecond
	// keptSecrets is how many epochs below the newest claim keep their password in memory.
	keptSecrets = 4
)

// Config says which job is fenced where.
type Config struct {
	Job   string // [a-z][a-z0-9-]{0,15}, not "doctor"
	DSN   string // of the fencer's own login, in any form libpq takes; may name several hosts
	Group string // role that holds the job's rights; of this cluster alone: roles are per server

	// Runs: the job notes its runs in duoflow.run, so Check wants that table. It has nothing to do with the fence.
	Runs bool

	// Life is how many restores and recoveries this node's cluster goes back to, asked at each take: a later life shuts the earlier
	// ones out. nil = 0.
	Life func() uint64

	Probe       time.Duration // between two looks at the row and the server; 0 = 250 ms
	Gate        *Gate         // shared with the other fencers of this program; nil = none
	LockTimeout time.Duration // wait for a lock before its holder is ended; 0 = 300 ms, at least 1 ms

	// Observe gets the health at each probe and at once after each take or release of the job by
	// anyone. It is called from one goroutine of Run and must not block. nil = nobody looks.
	Observe func(Health)
	Logger  *slog.Logger // nil = discard
}

// Row is the job's row in duoflow.fence: the newest claim that was taken. Epoch 0 = none ever was.
type Row struct {
	Epoch       uint64
	Node, Token string
	At          time.Time // the server's clock; for display only
}

// Health is what one probe saw.
type Health struct {
	Reachable     bool   // the server answered within a second
	Writable      bool   // it is a primary that takes writes
	Row           Row    // zero unless Reachable
	HighestRole   uint64 // highest epoch a role of the job exists for; above Row.Epoch after a restore
	ServerVersion int    // major, such as 15; 0 unless Reachable
	Err           string // why not Reachable, or what else is wrong; no secrets in it
}

// Fencer fences one job. Its methods are safe for concurrent use and work without Run too, only
// slower: they then connect each time.
type Fencer struct {
	config  Config
	connect *pgx.ConnConfig
	base    Credentials // all but role and password
	log     *slog.Logger

	running atomic.Bool
	spare   chan *pgx.Conn // the pre-connected command session; capacity 1

	mu      sync.Mutex
	secrets map[Claim]secret
}

// New checks the configuration. It connects to nothing.
func New(config Config) (*Fencer, error) {
	if config.Job == doctorJob {
		return nil, fmt.Errorf("make fencer: job name %q is kept for the doctor", doctorJob)
	}
	return newFencer(config)
}

func newFencer(config Config) (*Fencer, error) {
	if config.Probe == 0 {
		config.Probe = defaultProbe
	}
	if config.LockTimeout == 0 {
		config.LockTimeout = defaultLockTimeout
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	faults := validateNames(config.Group, config.Job)
	if config.Probe < 0 || config.LockTimeout < time.Millisecond {
		faults = errors.Join(faults, fmt.Errorf("probe %s and lock timeout %s must be positive", config.Probe, config.LockTimeout))
	}
	connect, err := connectConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make fencer: %w", errors.Join(faults, err))
	}
	base, err := credentialsFrom(config.DSN, connect)
	if faults = errors.Join(faults, err); faults != nil {
		return nil, fmt.Errorf("make fencer: %w", faults)
	}
	return &Fencer{
		config: config, connect: connect, base: base,
		log:   config.Logger.With("job", config.Job),
		spare: make(chan *pgx.Conn, 1), secrets: map[Claim]secret{},
	}, nil
}

func (f *Fencer) life() uint64 {
	if f.config.Life == nil {
		return 0
	}
	return f.config.Life()
}

// Run keeps a command session connected, watches the row and the server, and reports to
// Config.Observe. It reconnects for ever and returns nil when ctx ends. One Run at a time.
func (f *Fencer) Run(ctx context.Context) error {
	f.running.Store(true)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { f.keepSpare(ctx); return nil })
	group.Go(func() error { f.watch(ctx); return nil })
	err := group.Wait()
	f.running.Store(false)
	f.dropSpare()
	return err
}

// secretFor returns the same secret for the same claim, so that a take can be repeated.
func (f *Fencer) secretFor(claim Claim) (secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.secrets[claim]; ok {
		return known, nil
	}
	made, err := newSecret()
	if err != nil {
		return secret{}, err
	}
	f.secrets[claim] = made
	maps.DeleteFunc(f.secrets, func(c Claim, _ secret) bool { return c.Epoch+keptSecrets < claim.Epoch })
	return made, nil
}
