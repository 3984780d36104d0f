package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is one node's view of who is out there. Create it with New.
type Gossip struct {
	cfg     Config
	log     *slog.Logger
	table   *table
	started atomic.Bool
	keys    [][]byte // in use; of Run
}

// New checks the configuration, reporting every problem at once, and starts nothing.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("gossip configuration: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	meta, err := cfg.Meta.encode()
	if err != nil {
		return nil, fmt.Errorf("gossip configuration: %w", err)
	}
	self := &entry{Member: Member{Node: cfg.Node, Addr: cfg.Listen, Meta: cfg.Meta, State: Alive}}
	t := &table{
		self: cfg.Node, meta: meta, log: cfg.Logger, now: time.Now,
		members: map[string]*entry{cfg.Node: self},
	}
	return &Gossip{cfg: cfg, log: cfg.Logger, table: t, keys: cfg.Keys}, nil
}

// Members lists every node ever seen, this one included, sorted by name. It never blocks on the network and may be
// called before, during and after Run.
func (g *Gossip) Members() []Member { return g.table.list() }

// Run listens, joins the seeds, and keeps trying those that are missing until ctx ends. Then it says goodbye (at
// most half a second, plus at most two seconds if a frozen seed was just being joined) and returns nil. It
// returns an error only if it cannot listen, or if it is called twice.
//
// memberlist gives no way to wait for its own goroutines: they end by themselves within a probe (about a second)
// after Run has returned, and touch nothing but the member table.
func (g *Gossip) Run(ctx context.Context) error {
	if !g.started.CompareAndSwap(false, true) {
		return errors.New("gossip: Run called twice")
	}
	conf, err := g.listConfig()
	if err != nil {
		return err
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	if g.cfg.Listening != nil {
		g.cfg.Listening()
	}
	g.rejoin(ctx, list, conf.Keyring)
	g.leave(list)
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// rejoin reaches for the seeds that no live member covers, with back-off, until ctx ends, and looks at the keys on the way. Waiting only while alone
// would be enough for three nodes (a cut always leaves one alone), but not for four that are cut in half.
func (g *Gossip) rejoin(ctx context.Context, list *memberlist.Memberlist, ring *memberlist.Keyring) {
	wait, before := rejoinMin, -1
	for ctx.Err() == nil {
		g.takeKeys(ring)
		missing, live := g.missing()
		if live != before {
			wait, before = rejoinMin, live
		}
		for _, seed := range missing {
			if ctx.Err() != nil {
				return
			}
			if _, err := list.Join([]string{seed}); err != nil {
				g.log.Debug("gossip seed not reached", "peer", seed, "err", err)
			}
		}
		pause(ctx, wait)
		wait = min(2*wait, rejoinMax)
	}
}

// missing returns the seeds that are no live member's address, and how many others are alive. A seed given by host
// name never equals an address, so it is asked again at the slow pace; that costs one exchange per rejoinMax.
func (g *Gossip) missing() (seeds []string, live int) {
	covered := map[string]bool{g.cfg.Listen: true}
	for _, m := range g.Members() {
		if m.State != Alive {
			continue
		}
		covered[m.Addr] = true
		if m.Node != g.cfg.Node {
			live++
		}
	}
	for _, seed := range g.seeds() {
		if !covered[seed] {
			seeds = append(seeds, seed)
		}
	}
	return seeds, live
}

func (g *Gossip) seeds() []string {
	if g.cfg.Moved == nil {
		return g.cfg.Seeds
	}
	return g.cfg.Moved()
}

// leave says goodbye. The user message tells the others that this is a goodbye (see NotifyLeave); a lost one makes
// them show this node as dead instead of left.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	for _, m := range g.Members() {
		if m.State != Alive || m.Node == g.cfg.Node {
			continue
		}
		to := memberlist.Address{Addr: m.Addr, Name: m.Node}
		if err := list.SendToAddress(to, []byte(goodbyePrefix+g.cfg.Node)); err != nil {
			g.log.Debug("gossip goodbye not sent", "peer", m.Node, "err", err)
		}
	}
	if err := list.Leave(leaveTimeout); err != nil {
		g.log.Debug("gossip goodbye not spread", "err", err)
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
