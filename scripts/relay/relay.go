package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Host is one end of the network.
type Host struct {
	Name string
	Addr netip.Addr // IPv4
	// Device is where the host's packets leave, Tap the name of the device that the relay makes beside it. Both are in the
	// host's network namespace, and Tap must be new there.
	Device, Tap string
}

// table is the name of the host's rules: hosts may share a namespace.
func (h Host) table() string { return tableName + "_" + strings.ReplaceAll(h.Tap, "-", "_") }

// Config of a Relay.
type Config struct {
	Hosts []Host
	// In calls f on a thread that is in the network namespace of the host.
	In func(host string, f func() error) error
}

// Relay stands between hosts. Its methods are safe for concurrent use.
type Relay struct {
	cfg   Config
	ready chan struct{} // closed when all gates are open

	changing sync.Mutex // one change at a time, for the kernel's rules and ours have to agree

	mu      sync.Mutex
	gates   map[string]*gate
	courses map[string]map[netip.Addr]*course // by sender and receiver
	counts  map[string]Count                  // by sender
}

// Count says what became of a sender's packets that passed through the relay.
type Count struct {
	Taken, Lost, Doubled uint64
}

// New checks the configuration and touches no network.
func New(cfg Config) (*Relay, error) {
	var errs []error
	if cfg.In == nil {
		errs = append(errs, errors.New("In is missing"))
	}
	names, addrs := map[string]bool{}, map[netip.Addr]bool{}
	for _, h := range cfg.Hosts {
		if h.Name == "" || names[h.Name] || !h.Addr.Is4() || addrs[h.Addr] {
			errs = append(errs, fmt.Errorf("host %q, address %s: missing, not IPv4, or there twice", h.Name, h.Addr))
		}
		if h.Device == "" || h.Tap == "" || len(h.Tap) > 15 {
			errs = append(errs, fmt.Errorf("host %q: device %q or TAP %q: missing, or longer than 15 bytes", h.Name, h.Device, h.Tap))
		}
		names[h.Name], addrs[h.Addr] = true, true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{
		cfg: cfg, ready: make(chan struct{}), gates: map[string]*gate{},
		courses: map[string]map[netip.Addr]*course{}, counts: map[string]Count{},
	}
	for _, h := range cfg.Hosts {
		r.courses[h.Name] = map[netip.Addr]*course{}
	}
	return r, nil
}

// Ready is closed when Run has opened all hosts and Set may be called.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Run relays until ctx ends. It returns nil then, else why it cannot go on. When it returns no packet is taken any more, and
// those that were held are lost. It may be called once.
func (r *Relay) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	for _, h := range r.cfg.Hosts {
		err := r.cfg.In(h.Name, func() error {
			g, err := openGate(ctx, h)
			if err != nil {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.gates[h.Name] = g
			return nil
		})
		if err != nil {
			return err
		}
	}
	group, running := errgroup.WithContext(ctx)
	for _, g := range r.gates {
		taken := make(chan held, 1024)
		group.Go(func() error { forward(running, taken, g.put); return nil })
		group.Go(func() error { return r.read(running, g, taken) })
		group.Go(func() error { <-running.Done(); return g.tap.Close() })
	}
	close(r.ready)
	return group.Wait()
}

// close takes the rules away.
func (r *Relay) close() error {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.Lock()
	gates := r.gates
	r.gates = map[string]*gate{}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for name, g := range gates {
		errs = append(errs, r.cfg.In(name, func() error { return g.close(ctx) }))
	}
	return errors.Join(errs...)
}

// read takes frames and decides on each, until the TAP is closed.
func (r *Relay) read(ctx context.Context, g *gate, taken chan<- held) error {
	buffer := make([]byte, maxFrame)
	for order := uint64(0); ; {
		n, err := g.tap.Read(buffer)
		if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read packets of %s: %w", g.host.Name, err)
		}
		frame, now := slices.Clone(buffer[:n]), time.Now()
		for _, wait := range r.decide(g.host.Name, frame) {
			order++
			select {
			case taken <- held{now.Add(wait), order, frame}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// decide draws a frame's fate. One that no rule is for any more passes: it was taken before the rule went.
func (r *Relay) decide(from string, frame []byte) []time.Duration {
	to, ok := receiver(frame)
	if !ok {
		return nil // the kernel's own, on a new device
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fate := []time.Duration{0}
	if c := r.courses[from][to]; c != nil {
		fate = c.fate()
	}
	count := r.counts[from]
	count.Taken++
	switch len(fate) {
	case 0:
		count.Lost++
	case 2:
		count.Doubled++
	}
	r.counts[from] = count
	return fate
}

// Set gives the packets from one host to another a rule, in place of the one they had; the zero Rule takes it away. Those that
// are held already keep their time.
func (r *Relay) Set(ctx context.Context, from, to string, rule Rule) error {
	if err := rule.Validate(); err != nil {
		return fmt.Errorf("rule from %s to %s: %w", from, to, err)
	}
	i := slices.IndexFunc(r.cfg.Hosts, func(h Host) bool { return h.Name == to })
	if i < 0 {
		return fmt.Errorf("find host %q: the relay does not know it", to)
	}
	addr := r.cfg.Hosts[i].Addr
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.Lock()
	g := r.gates[from]
	r.mu.Unlock()
	if g == nil {
		return fmt.Errorf("find host %q: the relay does not know it, or does not run", from)
	}
	if !rule.harmless() {
		r.steer(from, addr, newCourse(rule))
		return r.cfg.In(from, func() error { return g.take(ctx, addr, true) })
	}
	if err := r.cfg.In(from, func() error { return g.take(ctx, addr, false) }); err != nil {
		return err
	}
	r.steer(from, addr, nil)
	return nil
}

func (r *Relay) steer(from string, to netip.Addr, c *course) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		delete(r.courses[from], to)
		return
	}
	r.courses[from][to] = c
}

// Clear takes all rules away.
func (r *Relay) Clear(ctx context.Context) error {
	var errs []error
	for _, from := range r.cfg.Hosts {
		for _, to := range r.ruled(from.Name) {
			errs = append(errs, r.Set(ctx, from.Name, to, Rule{}))
		}
	}
	return errors.Join(errs...)
}

// ruled lists whom a host's packets have a rule to.
func (r *Relay) ruled(from string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, to := range r.cfg.Hosts {
		if r.courses[from][to.Addr] != nil {
			out = append(out, to.Name)
		}
	}
	return out
}

// Count tells what has become of the packets that a host sent under a rule, since Run began.
func (r *Relay) Count(from string) Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[from]
}
