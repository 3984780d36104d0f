package node

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// Wire carries what the parts of a node report to its loop. It exists before the parts do, because they are made
// with somebody to report to, and before the node, because the node is made of them.
type Wire struct {
	mail   *mailbox
	ledger *ledger
	logger *slog.Logger
	// members are those in force.
	members atomic.Pointer[members]
	// removed is how it is known that this node does not belong to the cluster any more; nil as long as it does.
	removed atomic.Pointer[string]
	// led: some node is known to be raft leader.
	led atomic.Bool

	mu sync.Mutex
	// said is each peer's last beat: as long as it says nothing else, and it seldom does, it is not decoded again.
	said map[uint64]spoken
	// drops are the beats of each peer that made no sense.
	drops map[uint64]*drops
	now   func() time.Time
}

const (
	dropEvery = 5 * time.Second // for each peer, one line of the log: beats come twenty times a second
	maxDrop   = 300             // bytes of an error in it: some quote what the peer sent
)

// drops counts what was dropped, and when it was last told.
type drops struct {
	untold uint64
	told   time.Time
}

// spoken is a beat as it came, and what it means.
type spoken struct {
	payload []byte
	beat    beat
}

// NewWire returns a wire for the nodes of a configuration, until the log has members of its own.
func NewWire(cfg Config, logger *slog.Logger) *Wire {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	mail := newMailbox()
	w := &Wire{
		mail: mail, ledger: newLedger(mail), logger: logger,
		said: map[uint64]spoken{}, drops: map[uint64]*drops{}, now: time.Now,
	}
	w.members.Store(cfg.configured())
	return w
}

// name is the member with a raft id; empty for a stranger.
func (w *Wire) name(id uint64) lease.NodeID { return w.members.Load().names[id] }

// Members implements raftstore.Observer.
func (w *Wire) Members(list raftstore.Roster) {
	now := fromRoster(list)
	w.members.Store(now)
	w.mu.Lock()
	for id := range w.said {
		if now.names[id] == "" {
			delete(w.said, id)
			delete(w.drops, id)
		}
	}
	w.mu.Unlock()
	w.mail.postRegrouped()
}

// Removed implements raftstore.Observer.
func (w *Wire) Removed(why string) {
	w.removed.Store(&why)
	w.mail.postRegrouped()
}

// Seeds are where the members gossip: as they say, else on their peer host at a port, which is our own one.
func (w *Wire) Seeds(port string) []string {
	var all []string
	for _, m := range w.members.Load().all {
		host, _, _ := net.SplitHostPort(m.Peer) // it was checked
		all = append(all, cmp.Or(m.Gossip, net.JoinHostPort(host, port)))
	}
	return all
}

// StateMachine is what the replicated log applies to.
func (w *Wire) StateMachine() raftstore.StateMachine { return w.ledger }

// Beat implements raftstore.Observer.
func (w *Wire) Beat(from uint64, payload []byte) {
	b, err := w.hear(from, payload)
	if err == nil && b.Node != w.name(from) {
		err = fmt.Errorf("it is %s's", b.Node)
	}
	if err != nil {
		w.drop(from, err)
		return
	}
	w.mail.postBeat(b)
}

// drop tells that beats of a peer are dropped, no oftener than dropEvery.
func (w *Wire) drop(from uint64, err error) {
	count := w.countDrop(from)
	if count == 0 {
		return
	}
	text := err.Error()
	if len(text) > maxDrop {
		text = text[:maxDrop] + "..."
	}
	w.logger.Warn("beats dropped", "peer", w.name(from), "count", count, "err", text)
}

// countDrop counts, and returns how many there are to tell of; 0 when it is too early to.
func (w *Wire) countDrop(from uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.drops[from]
	if d == nil {
		d = &drops{}
		w.drops[from] = d
	}
	d.untold++
	now := w.now()
	if !d.told.IsZero() && now.Sub(d.told) < dropEvery {
		return 0
	}
	count := d.untold
	d.told, d.untold = now, 0
	return count
}

// hear decodes a beat, unless it says what the peer's last one said. Nobody changes a beat once it is decoded.
func (w *Wire) hear(from uint64, payload []byte) (beat, error) {
	w.mu.Lock()
	last := w.said[from]
	w.mu.Unlock()
	if last.payload != nil && bytes.Equal(last.payload, payload) {
		return last.beat, nil
	}
	b, err := decodeBeat(payload)
	if err != nil {
		return b, err
	}
	w.mu.Lock()
	w.said[from] = spoken{payload, b}
	w.mu.Unlock()
	return b, nil
}

// PeerLost implements raftstore.Observer.
func (w *Wire) PeerLost(id uint64, refused bool) {
	if name := w.name(id); name != "" { // else it was removed, and its end is no news
		w.mail.post("", control.Lost{Node: name, Refused: refused})
	}
}

// Leadership implements raftstore.Observer.
func (w *Wire) Leadership(l raftstore.Leadership) {
	w.led.Store(l.Leader != 0)
	w.mail.post("", control.Leading{On: l.Self && l.Ready})
}

// JobEvents reports what happens to one job on this host; it satisfies airflowctl.Observer.
type JobEvents struct {
	wire *Wire
	job  lease.JobName
}

// Job returns where the parts of one job report to.
func (w *Wire) Job(name lease.JobName) *JobEvents { return &JobEvents{wire: w, job: name} }

// Health tells what the latest look at the metastore found.
func (e *JobEvents) Health(h fence.Health) {
	e.wire.mail.post(e.job, control.Fence{
		Healthy: h.Reachable && h.Writable,
		Row: control.Row{
			Epoch: lease.Epoch(h.Row.Epoch), Node: lease.NodeID(h.Row.Node), Token: lease.Token(h.Row.Token),
		},
		HighestRole: lease.Epoch(h.HighestRole),
	})
}

// Exited tells that the main process of an epoch has ended by itself.
func (e *JobEvents) Exited(epoch uint64, detail string) {
	e.wire.mail.post(e.job, control.Exited{Epoch: lease.Epoch(epoch), Detail: detail})
}

// Idle tells for how long, by the database's clock, the job of an epoch has made no progress.
func (e *JobEvents) Idle(epoch uint64, idle time.Duration) {
	e.wire.mail.post(e.job, control.Progress{Epoch: lease.Epoch(epoch), Idle: idle})
}
