package door

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Guest is one accepted connection. Its methods are safe for concurrent use.
type Guest struct {
	net.Conn
	door    *Door
	source  netip.Prefix
	read    atomic.Int64
	proven  atomic.Bool
	turn    atomic.Bool // it has the door's turn
	since   time.Time   // when it got that
	overdue *time.Timer // set once, before the guest is handed out

	// Under the door's lock:
	name    string // that it is admitted under
	shaking bool   // Shaking was called, and Shaken will be
	shaken  bool   // a handshake is behind it
	blamed  bool   // its reason is counted
	removed bool   // it is no longer among the door's guests
}

// progress is how far a guest has got that is not admitted yet.
type progress int

const (
	arrived progress = iota
	spoke
	shaken
)

// progress is called under the door's lock.
func (g *Guest) progress() progress {
	switch {
	case g.shaken:
		return shaken
	case g.read.Load() > 0:
		return spoke
	}
	return arrived
}

// Admit lets the guest stay; name is whose connection it is. A second call changes nothing.
func (g *Guest) Admit(name string) {
	defer g.yield()
	d := g.door
	d.mu.Lock()
	if g.proven.Load() || g.blamed || g.removed {
		d.mu.Unlock()
		return
	}
	g.proven.Store(true)
	g.overdue.Stop()
	d.waiting = without(d.waiting, g)
	g.name = name
	d.inside[name] = append(d.inside[name], g)
	var oldest *Guest
	if d.cfg.PerName > 0 && len(d.inside[name]) > d.cfg.PerName {
		oldest = d.inside[name][0]
	}
	d.mu.Unlock()
	if oldest != nil {
		oldest.turnAway(Busy, errors.New("a newer connection of the same name is there"))
	}
}

// Refuse counts the guest, once, and ends its connection a moment later, so that it can still read an answer.
func (g *Guest) Refuse(reason Reason, err error) {
	if !g.blame(reason, err) {
		return
	}
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if g.removed {
		return
	}
	g.door.inside[g.name] = without(g.door.inside[g.name], g) // it must not push out another of its name
	g.overdue.Reset(farewell)
}

// Received is how many bytes the guest has sent before it was admitted.
func (g *Guest) Received() int64 { return g.read.Load() }

// Close implements net.Conn. A guest that leaves without having been admitted is counted.
func (g *Guest) Close() error {
	d := g.door
	d.mu.Lock()
	reason := Closed
	if g.shaken {
		reason = Protocol
	}
	later := g.shaking // crypto/tls closes before it tells why
	if g.proven.Load() || d.ended {
		g.blamed = true // there is nothing to blame it for
	}
	d.mu.Unlock()
	if !later {
		g.blame(reason, errors.New("it ended before it showed who it is"))
	}
	g.remove()
	return g.Conn.Close()
}

// Read implements net.Conn. Who has not shown who he is may not send much, and what he sends is looked at when it is
// his turn: one at a time.
func (g *Guest) Read(p []byte) (int, error) {
	if g.proven.Load() {
		return g.Conn.Read(p)
	}
	g.yield()
	n, err := g.Conn.Read(p)
	if n == 0 || g.proven.Load() {
		return n, err
	}
	if g.read.Add(int64(n)) > g.door.cfg.Bytes {
		g.turnAway(Protocol, errBytes)
		return 0, errBytes
	}
	if !g.await() {
		return 0, net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (g *Guest) Write(p []byte) (int, error) {
	g.yield()
	return g.Conn.Write(p)
}

// await waits for the turn, and says whether the guest is still there.
func (g *Guest) await() bool {
	d := g.door
	late := time.NewTimer(d.cfg.Within)
	defer late.Stop()
	select {
	case d.turn <- struct{}{}:
	case <-late.C:
		return false
	}
	g.since = time.Now()
	g.turn.Store(true)
	time.AfterFunc(turnAtMost, g.yield) // it does so itself with its next read or write, as a rule
	d.mu.Lock()
	gone := g.removed
	d.mu.Unlock()
	if gone {
		g.yield()
	}
	return !gone
}

// yield gives the turn up, if the guest has it. The next one's comes after a rest, which bounds what all of them cost.
func (g *Guest) yield() {
	if g.turn.CompareAndSwap(true, false) {
		rest := min(restTimes*time.Since(g.since), turnAtMost)
		time.AfterFunc(rest, func() { <-g.door.turn })
	}
}

var errBytes = errors.New("it sent too much before it showed who it is")

// turnAway ends the connection at once and leaves no state of it in the kernel.
func (g *Guest) turnAway(reason Reason, err error) {
	g.blame(reason, err)
	if tcp, ok := g.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a closed one only
	}
	g.remove()
	_ = g.Conn.Close() // there is nobody to tell
}

// blame counts the guest under its first reason and says whether this was it.
func (g *Guest) blame(reason Reason, err error) bool {
	g.door.mu.Lock()
	first := !g.blamed
	g.blamed = true
	g.door.mu.Unlock()
	if first {
		g.door.tally.note(reason, g.RemoteAddr(), err)
	}
	return first
}

// remove takes the guest out of the door's books.
func (g *Guest) remove() {
	defer g.yield()
	d := g.door
	d.mu.Lock()
	defer d.mu.Unlock()
	if g.overdue != nil {
		g.overdue.Stop()
	}
	if g.removed || g.overdue == nil { // without a timer it was never in
		g.removed = true
		return
	}
	g.removed = true
	d.open--
	d.waiting = without(d.waiting, g)
	if left := without(d.inside[g.name], g); len(left) > 0 {
		d.inside[g.name] = left
	} else {
		delete(d.inside, g.name)
	}
}

func without(list []*Guest, g *Guest) []*Guest {
	return slices.DeleteFunc(list, func(other *Guest) bool { return other == g })
}
