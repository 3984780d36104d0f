package raftstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// Peer is one member of the cluster, this node included.
type Peer = roster.Member

// Roster is who belongs to the cluster.
type Roster = roster.Roster

// Change is one step to other members, see Store.Change.
type Change = roster.Change

// StateMachine is what the commands act on. It is called from one goroutine only.
type StateMachine interface {
	// Apply carries out one committed command. It must not fail: a refusal is an outcome like any
	// other, and the same on every node.
	Apply(index uint64, command []byte)
	// Snapshot encodes the state as of the last applied command.
	Snapshot() ([]byte, error)
	// Restore replaces the state by that of a Snapshot, of this or another node.
	Restore(snapshot []byte) error
}

// Observer hears what happens. Its methods are called from several goroutines and must not block.
type Observer interface {
	// Beat brings a beat of a peer. The payload belongs to the observer.
	Beat(from uint64, payload []byte)
	// PeerLost says that the connection to a peer closed. refused: dialling it again was refused,
	// so its process is gone while its host is up. A loss may be reported as not refused first
	// and as refused when that is known.
	PeerLost(id uint64, refused bool)
	// Leadership brings every change.
	Leadership(Leadership)
	// Members brings every roster that comes into force. The first one is that of the log, if it has one: until then the
	// members are those of Config.Peers.
	Members(Roster)
	// Removed says, once, that this node does not belong to the cluster any more, and how that is known. The store takes no part
	// in anything from there; to end it is for the observer, which may have other things to end first.
	Removed(why string)
}

// Leadership is what this node knows about the raft leader. It says nothing about who is active.
type Leadership struct {
	Term   uint64
	Leader uint64 // 0 = unknown
	Self   bool   // this node leads
	Ready  bool   // Self, and the first entry of its own term is applied
}

// Config describes one store.
type Config struct {
	Cluster string // never empty; nodes of another cluster are refused
	Self    uint64 // raft id of this node; must be in Peers
	// Peers are the voters that the group is made of. Once the log has members of its own these are not looked at any more.
	Peers []Peer
	// Join: this node belongs to a group that exists already; somebody adds it, before or after it starts. Peers are those it
	// connects to until the log tells it better. It means nothing once the directory has a log.
	Join   bool
	Dir    string // of this store alone; made when missing
	Listen string // host:port for the peers; port 0 = any
	// TLS is used for both directions: a certificate that serves as client and server, and the
	// authority of the peers in RootCAs or ClientCAs. nil = plain connections, which is for
	// loopback only and for the caller to judge.
	TLS *tls.Config
	// Tick is raft's unit of time; 0 = 10 ms. Driven: the store has no clock of its own, and somebody calls Store.Tick.
	Tick   time.Duration
	Driven bool
	// HeartbeatTicks and ElectionTicks are in ticks; 0 = 3 and 30. Election >= 5 * heartbeat.
	HeartbeatTicks, ElectionTicks int
	// PreferredLeader is who should lead when it can (the witness); 0 = nobody in particular.
	PreferredLeader uint64
	// SnapshotEvery is the number of commands between snapshots, KeepEntries that of log entries
	// kept behind one; 0 = 10 000 and 1 000.
	SnapshotEvery, KeepEntries uint64
	Logger                     *slog.Logger // nil = discard
	Observer                   Observer     // nil = nobody hears
	// Listening is called once, when the log is read and peers are listened to; nil: nobody wants to know.
	Listening func()

	ticking *atomic.Bool // a call of Tick is on its way to the loop
	// now is who is let in and connected to: the roster of the log, or until there is one the configured peers, and the guests. It
	// holds nil until one of the two has been heard of.
	now     *atomic.Pointer[Roster]
	belongs *belonging
}

// fill sets the defaults.
func (c *Config) fill() {
	c.ticking, c.now, c.belongs = &atomic.Bool{}, &atomic.Pointer[Roster]{}, &belonging{cluster: c.Cluster}
	if c.Driven {
		c.Tick = never
	}
	setDefault(&c.Tick, 10*time.Millisecond)
	setDefault(&c.HeartbeatTicks, 3)
	setDefault(&c.ElectionTicks, 30)
	setDefault(&c.SnapshotEvery, 10_000)
	setDefault(&c.KeepEntries, 1_000)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
}

// setDefault replaces a zero value.
func setDefault[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}

// validate reports every problem at once.
func (c *Config) validate() error {
	problems := []error{c.validatePeers()}
	add := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	add(c.Cluster == "" || len(c.Cluster) > 255, "Cluster is empty or longer than 255 bytes")
	add(c.Dir == "", "Dir is empty")
	_, _, err := net.SplitHostPort(c.Listen)
	add(err != nil, "Listen %q is not host:port", c.Listen)
	add(c.Tick < time.Millisecond, "Tick %s is below 1ms", c.Tick)
	add(c.HeartbeatTicks < 1, "HeartbeatTicks %d is below 1", c.HeartbeatTicks)
	add(c.ElectionTicks < 5*c.HeartbeatTicks,
		"ElectionTicks %d is below 5 * HeartbeatTicks %d", c.ElectionTicks, c.HeartbeatTicks)
	return errors.Join(problems...)
}

// validatePeers checks the members and the ids that must be among them.
func (c *Config) validatePeers() error {
	var problems []error
	ids, names := map[uint64]bool{}, map[string]bool{}
	for _, p := range c.Peers {
		if p.ID == raft.None || raft.IsLocalMsgTarget(p.ID) || ids[p.ID] {
			problems = append(problems, fmt.Errorf("peer %q: id %x is reserved or used twice", p.Name, p.ID))
		}
		if p.Name == "" || names[p.Name] {
			problems = append(problems, fmt.Errorf("peer %x: name %q is empty or used twice", p.ID, p.Name))
		}
		if _, _, err := net.SplitHostPort(p.Addr); err != nil {
			problems = append(problems, fmt.Errorf("peer %q: address %q is not host:port", p.Name, p.Addr))
		}
		ids[p.ID], names[p.Name] = true, true
	}
	if !ids[c.Self] {
		problems = append(problems, fmt.Errorf("Self %x is not in Peers", c.Self))
	}
	if c.PreferredLeader != 0 && !ids[c.PreferredLeader] {
		problems = append(problems, fmt.Errorf("PreferredLeader %x is not in Peers", c.PreferredLeader))
	}
	return errors.Join(problems...)
}

// voters lists the raft ids that the group is made of.
func (c *Config) voters() []uint64 {
	ids := make([]uint64, 0, len(c.Peers))
	for _, p := range c.Peers {
		ids = append(ids, p.ID)
	}
	return ids
}

// bootstrap is the roster that the configuration names: that of a group that is made. Who joins has none, for what its configuration
// says of the others may be out of date.
func (c *Config) bootstrap() Roster {
	if c.Join {
		return Roster{}
	}
	return c.founding()
}

// founding are the configured peers as those that make a group.
func (c *Config) founding() Roster {
	list := roster.New(c.Peers)
	for i := range list.Members {
		m := &list.Members[i]
		m.Preferred = m.Preferred || m.ID == c.PreferredLeader
	}
	return list
}

// members is the roster in force, and the guests: whoever is let in and connected to. See Store.agreed for the members alone.
func (c *Config) members() Roster {
	if c.now != nil {
		if list := c.now.Load(); list != nil {
			return *list
		}
	}
	return Roster{Members: c.Peers}
}

// owner is what the data directory must belong to.
func (c *Config) owner() owner {
	node := fmt.Sprintf("%s (%016x)", c.name(c.Self), c.Self)
	return owner{cluster: c.Cluster, node: node, self: c.Self, voters: c.voters(), join: c.Join, belongs: c.belongs}
}

// name of a peer, for logs and errors.
func (c *Config) name(id uint64) string {
	list := c.members()
	if m, ok := list.Member(id); ok {
		return m.Name
	}
	for _, gone := range list.Removed {
		if gone.ID == id {
			return gone.Name
		}
	}
	return fmt.Sprintf("%x", id)
}

// nobody is the Observer of those who set none.
type nobody struct{}

func (nobody) Beat(uint64, []byte)   {}
func (nobody) PeerLost(uint64, bool) {}
func (nobody) Leadership(Leadership) {}
func (nobody) Members(Roster)        {}
func (nobody) Removed(string)        {}
