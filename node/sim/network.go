package sim

import "time"

// Times of raftstore's connections (link.go, server.go).
const (
	dialTimeout   = time.Second
	helloTimeout  = 2 * time.Second
	brokenAfter   = 2 * time.Second
	redialFirst   = 50 * time.Millisecond
	redialMost    = 500 * time.Millisecond
	verdictWithin = 20 * time.Millisecond
	hearAgain     = 5 * time.Second
)

// network is what lies between hosts, and between hosts and the metastore. A way has a direction.
type network struct {
	w *world
	// cut ways carry nothing.
	cut map[way]bool
	// least and most bound the delay of what is carried, slow adds to it with a probability.
	least, most time.Duration
	slow        time.Duration
	slowly      float64
	// drop and twice are probabilities that a raft message or a beat is lost, or comes twice and late. TCP does not do
	// that, but full queues and broken connections come to the same, and raft must bear it.
	drop, twice float64
}

type way struct{ from, to string }

func (n *network) open(from, to string) bool { return !n.cut[way{from, to}] }

func (n *network) delay() time.Duration {
	d := n.w.span(n.least, n.most)
	if n.w.often(n.slowly) {
		d += n.w.span(0, n.slow)
	}
	return d
}

// link is a daemon's connection to one peer; it mirrors raftstore/link.go. What is sent while the way is cut waits in the
// kernel and goes on when the way is mended, unless the connection has been given up by then.
type link struct {
	s    *store
	peer *host
	up   bool
	// to is the peer's life that it is connected to.
	to *daemon
	// fence in time: in one connection nothing overtakes.
	clear instant
	// waits is what lies in the kernel because the way is cut.
	waits []func()
	wait  time.Duration
	loss  loss
	// stuckAt is since when something waits; 0 = nothing does.
	stuckAt instant
	// ends: its peer was removed. over: it is not used any more.
	ends, over bool
}

// loss is what is still to be said about a closed connection; see raftstore/link.go.
type loss int

const (
	lossNone loss = iota
	lossSilent
	lossTold
)

// dial tries to connect, again and again until the daemon ends.
func (l *link) dial() {
	if l.over {
		return
	}
	w, n := l.s.d.w, l.s.d.h.c.net
	from, to := l.s.d.h.name, l.peer.name
	trip := n.delay() + n.delay()
	if l.loss == lossSilent {
		w.in(verdictWithin, l.s.d.actor, func() { l.tell(false) })
	}
	switch {
	case !n.open(from, to) || !n.open(to, from) || l.peer.dark || l.peer.frozen:
		w.in(dialTimeout, l.s.d.actor, func() { l.tell(false); l.again() })
	case l.peer.daemon == nil || !l.peer.daemon.listens:
		w.in(trip, l.s.d.actor, func() { l.tell(true); l.again() })
	case l.peer.daemon.frozen: // its kernel takes the connection, and nobody says hello
		w.in(trip, l.s.d.actor, func() { l.tell(false) })
		life := l.peer.daemon
		l.hello(life, w.now+helloTimeout)
	default:
		w.in(trip, l.s.d.actor, func() { l.tell(false) })
		life := l.peer.daemon
		w.in(trip+n.delay()+n.delay(), l.s.d.actor, func() { l.hello(life, w.now+helloTimeout) })
	}
}

// hello waits for the peer's word.
func (l *link) hello(life *daemon, end instant) {
	w, n := l.s.d.w, l.s.d.h.c.net
	from, to := l.s.d.h.name, l.peer.name
	switch {
	case l.peer.daemon != life || life.dead || w.now >= end:
		l.again()
	case life.frozen || !n.open(from, to) || !n.open(to, from):
		w.in(50*time.Millisecond, l.s.d.actor, func() { l.hello(life, end) })
	case life.store.strange(l.s.d.h.id) != "":
		if life.store.strange(l.s.d.h.id) == "removed" {
			life.store.farewell(l.s.d.h.id)
		} else if life.store.entertain(l.s) {
			l.hello(life, end)
			return
		}
		l.again()
	default:
		l.s.meet(life.store)
		l.opened(life)
	}
}

func (l *link) again() {
	l.wait = min(max(2*l.wait, redialFirst), redialMost)
	l.s.d.w.in(l.wait, l.s.d.actor, l.dial)
}

func (l *link) opened(life *daemon) {
	l.up, l.to, l.loss, l.wait = true, life, lossNone, 0
	l.waits, l.stuckAt, l.clear = nil, 0, 0
	fresh, term := false, uint64(0)
	if rep := life.store.rep; rep != nil {
		fresh, term = rep.Fresh(), rep.Term()
	}
	l.s.turn(func() {
		l.s.rep.Link(l.peer.id, true)
		l.s.rep.PeerFresh(l.peer.id, fresh)
		l.s.rep.PeerTerm(l.peer.id, term)
	})
	l.ask(life)
}

// ask hears a peer again while this node is in doubt; see raftstore/link.go. Where members never change nothing of it matters.
func (l *link) ask(life *daemon) {
	l.s.d.w.in(hearAgain, l.s.d.actor, func() {
		n, from, to := l.s.d.h.c.net, l.s.d.h.name, l.peer.name
		if l.to != life || life.dead {
			return
		}
		if l.s.rep.Doubt() != "" && life.store.roster != nil && !life.frozen && n.open(from, to) && n.open(to, from) {
			term := life.store.rep.Term()
			l.s.meet(life.store)
			l.s.turn(func() { l.s.rep.PeerTerm(l.peer.id, term) })
		}
		l.ask(life)
	})
}

// closed handles the end of a connection that was up. What it means is judged by the redial.
func (l *link) closed() {
	if !l.up {
		return
	}
	l.up, l.to, l.waits, l.stuckAt = false, nil, nil, 0
	l.loss = lossSilent
	l.s.turn(func() { l.s.rep.Link(l.peer.id, false) })
	l.dial()
}

// tell reports a loss, if there is one to report.
func (l *link) tell(refused bool) {
	due := l.loss == lossSilent || (l.loss == lossTold && refused)
	if !due {
		return
	}
	l.loss = lossTold
	if refused {
		l.loss = lossNone
	}
	l.s.d.wire.PeerLost(l.peer.id, refused)
	if refused {
		l.s.turn(func() { l.s.rep.Lost(l.peer.id) })
	}
}

// send puts something on its way to the peer's life. take is called there.
func (l *link) send(take func(*daemon)) {
	n, w := l.s.d.h.c.net, l.s.d.w
	life := l.to
	arrive := func() { take(life) }
	if !n.open(l.s.d.h.name, l.peer.name) || len(l.waits) > 0 {
		if len(l.waits) < 256 {
			l.waits = append(l.waits, arrive)
		}
		l.stick()
		return
	}
	if !n.open(l.peer.name, l.s.d.h.name) || l.peer.dark || l.peer.frozen {
		l.stick() // it may arrive, but nobody confirms it
	}
	if n.drop > 0 && w.often(n.drop) {
		return
	}
	at := max(w.now+n.delay(), l.clear)
	l.clear = at
	if life.dead && !l.peer.dark {
		w.in(at-w.now+n.delay(), l.s.d.actor, func() { l.hangup(life) }) // the kernel knows of no such connection
		return
	}
	w.in(at-w.now, life.actor, arrive)
	if n.twice > 0 && w.often(n.twice) {
		w.in(at-w.now+w.span(0, 20*time.Millisecond), life.actor, arrive)
	}
}

// stick notes that something is not confirmed. The kernel tries again and again, and gives up after brokenAfter.
func (l *link) stick() {
	if l.stuckAt != 0 {
		return
	}
	w, n, life := l.s.d.w, l.s.d.h.c.net, l.to
	l.stuckAt = w.now
	var look func()
	look = func() {
		from, to := l.s.d.h.name, l.peer.name
		switch {
		case l.to != life || l.stuckAt == 0:
			return
		case n.open(from, to) && n.open(to, from) && !l.peer.dark && !l.peer.frozen:
			l.stuckAt = 0
			if life.dead {
				l.closed()
				return
			}
			waits := l.waits
			l.waits = nil
			at := max(w.now+n.delay(), l.clear)
			l.clear = at
			for _, arrive := range waits {
				w.in(at-w.now, life.actor, arrive)
			}
			return
		case w.now-l.stuckAt >= brokenAfter:
			l.closed()
			return
		}
		w.in(w.span(20*time.Millisecond, 250*time.Millisecond), l.s.d.actor, look)
	}
	w.in(w.span(20*time.Millisecond, 200*time.Millisecond), l.s.d.actor, look)
}

// gone tells every peer of a daemon that has ended while its host is up: the kernel closes its connections.
func (d *daemon) gone() {
	for _, h := range d.h.c.hosts {
		other := h.daemon
		if other == nil || other == d || other.store == nil {
			continue
		}
		for _, l := range other.store.links {
			if l.up && l.to == d {
				l := l
				d.w.in(d.h.c.net.delay(), other.actor, func() { l.hangup(d) })
			}
		}
	}
}

// hangup is the news that the other end has closed; while the way is cut it does not come, and nothing is confirmed.
func (l *link) hangup(life *daemon) {
	if l.to != life {
		return
	}
	if l.s.d.h.c.net.open(l.peer.name, l.s.d.h.name) {
		l.closed()
		return
	}
	l.stick()
}
