package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/status"
)

// Times and sizes of one outgoing connection.
const (
	dialTimeout   = time.Second            // for TCP
	helloTimeout  = 2 * time.Second        // from there to the acknowledged streams
	redialFirst   = 50 * time.Millisecond  // after the first redial, which comes at once
	redialMost    = 500 * time.Millisecond // doubling from redialFirst
	verdictWithin = 20 * time.Millisecond  // a redial that takes longer is reported as not refused
	hearAgain     = 5 * time.Second        // after which a node in doubt asks a peer anew who it is
	askFarewell   = 500 * time.Millisecond // and one that was removed, whether the peer knows that
	raftQueue     = 256                    // raft messages waiting for one peer
	beatQueue     = 4                      // beats waiting for one peer
)

// loss is what is still to be said about a closed connection.
type loss int

const (
	lossNone   loss = iota // nothing: never connected, connected again, or all said
	lossSilent             // closed, nothing said yet
	lossTold               // reported as not refused; may still turn out to be refused
)

// link is the outgoing connection to one peer: dialled again whenever it breaks.
type link struct {
	store *Store
	peer  Peer
	raft  *queue
	beats *queue
	wake  chan struct{}      // capacity 1: the peer is alive, redial without waiting
	up    atomic.Bool        // both streams are acknowledged
	knows atomic.Bool        // its store knows members that are changed through the log
	stop  context.CancelFunc // of the loop; nil before it runs

	received atomic.Uint64 // raft messages from the peer

	mu   sync.Mutex
	loss loss
}

// newLink makes a link that is not running yet.
func newLink(s *Store, p Peer) *link {
	return &link{
		store: s, peer: p,
		raft: newQueue(raftQueue, false), beats: newQueue(beatQueue, true),
		wake: make(chan struct{}, 1),
	}
}

// errHearAgain ends a sound connection of a node in doubt, or of one that was removed. What a peer says of itself, and of its caller, it
// says when it is connected to, and it may have learned meanwhile that this node was removed, or somebody whose word it waits for.
var errHearAgain = errors.New("to hear the peer again")

// ask ends with errHearAgain when this node is in doubt, or removed, after a while, else with ctx.
func (l *link) ask(ctx context.Context) error {
	doubt, farewell := time.NewTicker(hearAgain), time.NewTicker(askFarewell)
	defer doubt.Stop()
	defer farewell.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-doubt.C:
			if inDoubt, _ := l.store.waits(); inDoubt {
				return errHearAgain
			}
		case <-farewell.C:
			if _, leaving := l.store.waits(); leaving {
				return errHearAgain
			}
		}
	}
}

// nudge ends a wait before the next dial.
func (l *link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run keeps the connection until ctx ends.
func (l *link) run(ctx context.Context) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		l.pause(ctx, wait)
		conn, err := l.dial(ctx)
		if err == nil {
			err = l.serve(ctx, conn)
		}
		if status.Code(err) == removedCode {
			l.store.post(func(s *Store) { s.replica.PeerRemoved(l.peer.ID) })
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errHearAgain): // as if it were still up: if it cannot be made anew, that is the loss
			wait = 0
		case l.up.Load():
			l.closed(err)
			wait = 0
		default:
			l.store.log.Debug("peer not connected", "peer", l.peer.Name, "err", err)
			wait = min(max(2*wait, redialFirst), redialMost)
		}
	}
}

// pause waits before a dial, unless the peer shows that it is there.
func (l *link) pause(ctx context.Context, wait time.Duration) {
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-timer.C:
	}
}

// closed handles the end of a connection that was up. What it means is judged by the redial.
func (l *link) closed(err error) {
	l.up.Store(false)
	l.store.log.Warn("peer connection closed", "peer", l.peer.Name, "err", err)
	l.mu.Lock()
	l.loss = lossSilent
	l.mu.Unlock()
	l.clear()
	l.store.post(func(s *Store) { s.replica.Link(l.peer.ID, false) })
}

// opened handles two acknowledged streams.
func (l *link) opened(peer standing) {
	l.mu.Lock()
	l.loss = lossNone
	l.mu.Unlock()
	l.clear()
	l.knows.Store(peer.roster)
	l.up.Store(true)
	l.store.log.Info("peer connected", "peer", l.peer.Name)
	l.store.post(func(s *Store) {
		s.meet(peer.members)
		s.replica.Link(l.peer.ID, true)
		s.replica.PeerFresh(l.peer.ID, peer.fresh)
		s.replica.PeerTerm(l.peer.ID, peer.term)
	})
}

// clear drops what waits for the peer; raft must hear of a snapshot that is not sent.
func (l *link) clear() {
	l.beats.takeAll()
	for _, item := range l.raft.takeAll() {
		l.report(item, false)
	}
}

// report tells raft how the sending of a snapshot ended.
func (l *link) report(item outgoing, ok bool) {
	if item.snapshot {
		l.store.post(func(s *Store) { s.replica.SnapshotSent(l.peer.ID, ok) })
	}
}

// dial opens the TCP connection and, after a loss, tells what that says about the peer.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	told := make(chan struct{})
	late := time.AfterFunc(verdictWithin, func() { l.tell(false); close(told) })
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", l.peer.Addr)
	if !late.Stop() {
		<-told
	}
	if ctx.Err() == nil {
		l.tell(errors.Is(err, syscall.ECONNREFUSED))
	}
	if err != nil {
		return nil, fmt.Errorf("dial peer: %w", err)
	}
	return conn, nil
}

// tell reports a loss, if there is one to report: once as not refused, once as refused. A refusal
// may come later: while a process dies its port may still take a connection.
func (l *link) tell(refused bool) {
	l.mu.Lock()
	due := l.loss == lossSilent || (l.loss == lossTold && refused)
	switch {
	case due && refused:
		l.loss = lossNone
	case due:
		l.loss = lossTold
	}
	l.mu.Unlock()
	if !due {
		return
	}
	l.store.cfg.Observer.PeerLost(l.peer.ID, refused)
	if refused {
		l.store.post(func(s *Store) { s.replica.Lost(l.peer.ID) })
	}
}
