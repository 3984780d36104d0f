package door

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Reason is why a guest was turned away. There are few of them, so that they can label a metric.
type Reason string

// The reasons, in the order of Refused.
const (
	Busy      Reason = "busy"      // too many connections; this one had to go
	Silent    Reason = "silent"    // it did not show in time who it is
	Closed    Reason = "closed"    // it went away by itself, as probes of ports do
	Plain     Reason = "plain"     // it does not speak TLS
	Handshake Reason = "handshake" // TLS did not come about: no certificate, a wrong one, no common ground
	Expired   Reason = "expired"   // its certificate has ended, or has not begun: one of the two clocks may be wrong
	Revoked   Reason = "revoked"   // its certificate was taken back
	Stranger  Reason = "stranger"  // its certificate is sound, and nobody's who has business here
	Protocol  Reason = "protocol"  // it does not speak what is spoken here, or too much of it
	Message   Reason = "message"   // it said something that no sound guest says
)

var reasons = []Reason{Busy, Silent, Closed, Plain, Handshake, Expired, Revoked, Stranger, Protocol, Message}

// Count is how many guests were turned away for one reason since the door was made.
type Count struct {
	Reason Reason
	Count  uint64
}

const (
	tellEvery = 5 * time.Second // for each reason, one line of the log
	maxError  = 300             // bytes of an error in it: some quote what the guest sent
)

// tally counts, and tells about it no oftener than tellEvery.
type tally struct {
	port string
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex
	counts map[Reason]*count
}

type count struct {
	total, untold uint64
	told          time.Time
}

func (t *tally) all() []Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Count, 0, len(reasons))
	for _, r := range reasons {
		c := Count{Reason: r}
		if known := t.counts[r]; known != nil {
			c.Count = known.total
		}
		out = append(out, c)
	}
	return out
}

func (t *tally) note(reason Reason, from net.Addr, err error) {
	untold := t.add(reason)
	if untold == 0 {
		return
	}
	text := err.Error()
	if len(text) > maxError {
		text = text[:maxError] + "..."
	}
	level := slog.LevelWarn
	if reason == Closed { // health checks of load balancers do nothing else
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, "turned away",
		"port", t.port, "reason", reason, "count", untold, "peer", from.String(), "err", text)
}

// add counts, and returns how many there are to tell of; 0 when it is too early to.
func (t *tally) add(reason Reason) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[reason]
	if c == nil {
		c = &count{}
		t.counts[reason] = c
	}
	c.total++
	c.untold++
	now := t.now()
	if !c.told.IsZero() && now.Sub(c.told) < tellEvery {
		return 0
	}
	untold := c.untold
	c.told, c.untold = now, 0
	return untold
}
