package gossip

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// States of a Member. They are opinions of this node, not facts.
const (
	Alive   = "alive"   // answers, or others say it does
	Suspect = "suspect" // not declared dead, but this node's direct pings stay unanswered
	Dead    = "dead"    // declared dead by memberlist
	Left    = "left"    // said goodbye
)

// Member is what this node believes about one node.
type Member struct {
	Node  string        // name
	Addr  string        // ip:port of its gossip listener
	Meta  Meta          // what it said about itself; zero if that could not be read
	State string        // Alive, Suspect, Dead or Left
	RTT   time.Duration // smoothed round trip of direct UDP pings, 1/8 new and 7/8 old; 0 = not measured, and for this node itself
}

// entry is a Member and when it last answered this node.
type entry struct {
	Member
	answered time.Time // of the last direct ping, or when it was first seen alive
	goodbye  bool      // it said it is leaving
}

// table holds the members and is every delegate that memberlist calls back. memberlist calls it with its own lock
// held, so no method may call memberlist. memberlist's own Members() hands out pointers into state that it goes on
// writing; copying inside the callbacks is what makes reading free of races.
type table struct {
	self string
	meta []byte
	log  *slog.Logger
	now  func() time.Time

	mu       sync.Mutex
	members  map[string]*entry
	conflict string // the last conflicting address that was reported
}

var _ interface {
	memberlist.Delegate
	memberlist.EventDelegate
	memberlist.PingDelegate
	memberlist.AliveDelegate
	memberlist.ConflictDelegate
} = (*table)(nil)

func (t *table) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := suspectAfter(len(t.members) - 1)
	out := make([]Member, 0, len(t.members))
	for _, e := range t.members {
		m := e.Member
		if m.State == Alive && m.Node != t.self && t.now().Sub(e.answered) > limit {
			m.State = Suspect
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// suspectAfter is how long a healthy member may go without a ping of ours: memberlist shuffles the order of its
// round robin each round, so the gap is at most 2n-1 intervals for n others; one more is slack.
func suspectAfter(others int) time.Duration {
	return time.Duration(2*max(others, 1))*probeInterval + probeTimeout
}

// NotifyJoin implements memberlist.EventDelegate.
func (t *table) NotifyJoin(n *memberlist.Node) { t.put(n, "joined") }

// NotifyUpdate implements memberlist.EventDelegate.
func (t *table) NotifyUpdate(n *memberlist.Node) { t.put(n, "updated") }

func (t *table) put(n *memberlist.Node, what string) {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		t.log.Debug("gossip meta of member is unreadable", "peer", n.Name, "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.members[n.Name]
	if e == nil {
		e = &entry{}
		t.members[n.Name] = e
	}
	if e.State != Alive {
		e.answered, e.goodbye, e.RTT = t.now(), false, 0
	}
	e.Node, e.Addr, e.Meta, e.State = n.Name, n.Address(), meta, Alive
	t.log.Debug("gossip member "+what, "peer", n.Name)
}

// NotifyLeave implements memberlist.EventDelegate. Node.State cannot tell dead from left here: memberlist never
// sets it (its own state is a second field of the same name), hence the goodbye message.
func (t *table) NotifyLeave(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.members[n.Name]
	if e == nil {
		return
	}
	e.State, e.RTT = Dead, 0
	if e.goodbye {
		e.State = Left
	}
	t.log.Debug("gossip member gone", "peer", n.Name, "reason", e.State)
}

// NotifyPingComplete implements memberlist.PingDelegate. It is not called for indirect and TCP pings, so a member
// that only answers those stays Suspect: its UDP path from here is broken.
func (t *table) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.members[n.Name]
	if e == nil {
		return
	}
	e.answered = t.now()
	if e.RTT == 0 {
		e.RTT = rtt
		return
	}
	e.RTT += (rtt - e.RTT) / 8
}

// NotifyAlive implements memberlist.AliveDelegate: names that no duoflow node can have are refused, and so are more
// names than any cluster has.
func (t *table) NotifyAlive(n *memberlist.Node) error {
	if !nodeName.MatchString(n.Name) {
		return errors.New("not a node name")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.members[n.Name] == nil && len(t.members) >= maxMembers {
		return errors.New("member table is full")
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate: two processes use one name. Said once per address.
func (t *table) NotifyConflict(existing, other *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conflict == other.Address() {
		return
	}
	t.conflict = other.Address()
	t.log.Warn("two nodes use one name", "peer", existing.Name, "reason", existing.Address()+" and "+other.Address())
}

// goodbyePrefix begins the only user message: "bye NAME".
const goodbyePrefix = "bye "

// NotifyMsg implements memberlist.Delegate.
func (t *table) NotifyMsg(msg []byte) {
	name, ok := strings.CutPrefix(string(msg), goodbyePrefix)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.members[name]; e != nil && name != t.self {
		e.goodbye = true
	}
}

// NodeMeta implements memberlist.Delegate. The size was checked by New.
func (t *table) NodeMeta(int) []byte { return t.meta }

// GetBroadcasts implements memberlist.Delegate: nothing to add.
func (t *table) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: nothing to add.
func (t *table) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate: nothing is expected.
func (t *table) MergeRemoteState([]byte, bool) {}

// AckPayload implements memberlist.PingDelegate: nothing to add.
func (t *table) AckPayload() []byte { return nil }

// splitHostPort is net.SplitHostPort that also wants a host and a port number.
func splitHostPort(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, err
	}
	if host == "" || number == 0 {
		return "", 0, errors.New("no host or no port")
	}
	return host, uint16(number), nil
}
