package door

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// farewell is how long a refused guest may stay, so that it can read why.
const farewell = 500 * time.Millisecond

// swaps is how many guests per second, and at once, may have to go for a later one. What comes beyond that is turned
// away itself, before it has cost more than its arrival.
const swaps = 200

// One unproven guest is worked for at a time, turnAtMost in a row; then nobody is for restTimes as long. So all of them
// together cost at most a fifth of one processor: a handshake is a millisecond of work, and there may be many.
const (
	turnAtMost = 100 * time.Millisecond
	restTimes  = 4
)

// Config says what a door lets through.
type Config struct {
	// Port is what the log calls it.
	Port string
	// Within is how long a guest may stay before Admit; Bytes is how much it may send before.
	Within time.Duration
	Bytes  int64
	// Unproven is how many guests may wait for Admit at once, PerSource how many of them from one address (IPv6: one
	// network of 64 bits). When there are more, one of those that have got least far, drawn at random, has to go:
	// neither a crowd of slow connections nor a stream of quick ones then keeps an honest one out for long.
	Unproven, PerSource int
	// Total bounds all guests, admitted ones too; what comes on top is turned away at once. 0 = no bound.
	Total int
	// PerName bounds the guests that are admitted under one name; the oldest has to go. 0 = no bound.
	PerName int
	// Unacked ends a connection that does not acknowledge what was sent for so long (TCP_USER_TIMEOUT); 0 = the
	// kernel's own idea. gRPC sets it too, but only on a bare *net.TCPConn.
	Unacked time.Duration
	Logger  *slog.Logger // nil = discard
}

func (c Config) validate() error {
	switch {
	case c.Port == "":
		return errors.New("door: no port")
	case c.Within <= 0 || c.Bytes <= 0:
		return fmt.Errorf("door: within %s, bytes %d: want > 0", c.Within, c.Bytes)
	case c.PerSource <= 0 || c.Unproven < c.PerSource:
		return fmt.Errorf("door: per source %d, unproven %d: want 0 < per source <= unproven", c.PerSource, c.Unproven)
	case c.Total != 0 && c.Total < c.Unproven:
		return fmt.Errorf("door: total %d: want at least unproven %d", c.Total, c.Unproven)
	}
	return nil
}

// Door counts and bounds the guests of one port. Safe for concurrent use.
type Door struct {
	cfg   Config
	tally tally
	turn  chan struct{} // capacity 1: full while a guest is worked for, and during the rest

	mu      sync.Mutex
	waiting []*Guest            // not admitted yet, oldest first
	inside  map[string][]*Guest // admitted, by name, oldest first
	open    int                 // both
	left    float64             // swaps that may be made, as of counted
	counted time.Time
	ended   bool // the listener is closed: who leaves now is not to blame
}

// New checks the configuration.
func New(cfg Config) (*Door, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Door{
		cfg: cfg, inside: map[string][]*Guest{}, turn: make(chan struct{}, 1),
		tally: tally{port: cfg.Port, log: cfg.Logger, now: time.Now, counts: map[Reason]*count{}},
	}, nil
}

// Refused tells how many guests were turned away, for every reason in their fixed order.
func (d *Door) Refused() []Count { return d.tally.all() }

// Wrap puts the door before a listener. What it accepts are *Guest.
func (d *Door) Wrap(l net.Listener) net.Listener { return &listener{l, d} }

type listener struct {
	net.Listener
	door *Door
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := l.door.let(conn); g != nil {
			return g, nil
		}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.door.mu.Lock()
	l.door.ended = true
	l.door.mu.Unlock()
	return l.Listener.Close()
}

// let takes a connection in, or returns nil when it is turned away.
func (d *Door) let(conn net.Conn) *Guest {
	g := &Guest{Conn: conn, door: d, source: sourceOf(conn.RemoteAddr())}
	d.mu.Lock()
	victim := d.crowded(g.source)
	full := victim == nil && d.cfg.Total > 0 && d.open >= d.cfg.Total
	if full || victim != nil && !d.swap() {
		d.mu.Unlock()
		g.turnAway(Busy, errBusy)
		return nil
	}
	d.open++
	d.waiting = append(d.waiting, g)
	g.overdue = time.AfterFunc(d.cfg.Within, func() { g.turnAway(Silent, errTime) })
	d.mu.Unlock()
	limitUnacked(conn, d.cfg.Unacked)
	if victim != nil {
		victim.turnAway(Busy, errBusy)
	}
	return g
}

// swap says whether one more guest may have to go for a later one, and counts it.
func (d *Door) swap() bool {
	now := d.tally.now()
	d.left = min(swaps, d.left+swaps*now.Sub(d.counted).Seconds())
	d.counted = now
	if d.left < 1 {
		return false
	}
	d.left--
	return true
}

var errBusy = errors.New("too many connections that have not shown who they are")

var errTime = errors.New("it did not show in time who it is")

// crowded draws who has to go for one more guest; nil when there is room.
func (d *Door) crowded(source netip.Prefix) *Guest {
	neighbours := slices.DeleteFunc(slices.Clone(d.waiting), func(g *Guest) bool { return g.source != source })
	switch {
	case len(neighbours) >= d.cfg.PerSource:
		return draw(neighbours)
	case len(d.waiting) >= d.cfg.Unproven:
		return draw(d.waiting)
	}
	return nil
}

// draw takes one at random of those who have got least far: who has said nothing goes before who is shaking hands,
// and who has shown a certificate goes last.
func draw(guests []*Guest) *Guest {
	least, worst := shaken, []*Guest(nil)
	for _, g := range guests {
		switch got := g.progress(); {
		case got < least:
			least, worst = got, []*Guest{g}
		case got == least:
			worst = append(worst, g)
		}
	}
	return worst[rand.IntN(len(worst))]
}

// sourceOf is what counts as one address.
func sourceOf(addr net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// limitUnacked sets TCP_USER_TIMEOUT. It can only fail on what is no TCP socket, or on one that is gone already.
func limitUnacked(conn net.Conn, limit time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || limit == 0 {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
	})
}
