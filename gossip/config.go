package gossip

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"regexp"
	"time"

	"github.com/hashicorp/memberlist"
)

// Timing for three nodes in one LAN. A node that dies is suspect after about 4 s and dead within about 10 s. That is
// far slower than the detection of node (300 ms), on purpose: nothing waits for gossip, so it may be cheap.
const (
	probeInterval  = time.Second            // one member is pinged per interval, round robin
	probeTimeout   = 200 * time.Millisecond // then indirect and TCP pings are tried
	gossipInterval = 400 * time.Millisecond // how fast news and the goodbye leave; below leaveTimeout
	syncInterval   = 10 * time.Second       // whole-state exchange with one member over TCP; heals what news missed
	streamTimeout  = time.Second            // dial, read and write of one TCP exchange
	deadInterval   = 15 * time.Second       // how long a dead member is still told that it is thought dead
	leaveTimeout   = 500 * time.Millisecond // longest wait for the goodbye to be sent
	reclaimAfter   = time.Second            // a dead name may come back from another address after this
	rejoinMin      = 250 * time.Millisecond // first wait between two attempts to reach missing seeds
	rejoinMax      = 5 * time.Second        // longest wait between them
	maxMembers     = 64                     // names kept; a holder of the key cannot grow the table without end
)

var nodeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

// Config is what New needs. All fields but Cluster, Seeds, Moved, Rotated and Logger are required.
type Config struct {
	Node    string   // this node's name, [a-z][a-z0-9-]{0,15}, unique in the cluster
	Cluster string   // mixed into every packet so that two clusters with one key stay apart; empty = not mixed in
	Listen  string   // ip:port for UDP and TCP; port 0 = chosen by the kernel; the address is what others are told
	Seeds   []string // host:port of the other nodes; own address allowed and ignored
	Meta    Meta     // told to the others
	Keys    [][]byte // AES keys of 16, 24 or 32 bytes; the first encrypts, all decrypt
	// Moved says what the seeds are now. Run asks every rejoinMax; nil = Seeds for ever.
	Moved func() []string
	// Rotated says what the keys are now. Run asks every rejoinMax, and takes over what has changed; nil = Keys for ever.
	Rotated func() [][]byte
	// Listening is called once, when others are listened to; nil: nobody wants to know.
	Listening func()
	Logger    *slog.Logger // nil = discard
}

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !nodeName.MatchString(c.Node) {
		bad("node %q: want [a-z][a-z0-9-]{0,15}", c.Node)
	}
	if len(c.Cluster) > memberlist.LabelMaxSize {
		bad("cluster: %d bytes, at most %d", len(c.Cluster), memberlist.LabelMaxSize)
	}
	// memberlist parses the host with net.ParseIP and listens on every address when that fails.
	if addr, err := netip.ParseAddrPort(c.Listen); err != nil || addr.Addr().IsUnspecified() {
		bad("listen %q: want ip:port of one address of this host", c.Listen)
	}
	for _, seed := range c.Seeds {
		if _, _, err := splitHostPort(seed); err != nil {
			bad("seed %q: want host:port", seed)
		}
	}
	if len(c.Keys) == 0 {
		bad("keys: at least one is needed, gossip is always encrypted")
	}
	for i, key := range c.Keys {
		if memberlist.ValidateKey(key) != nil {
			bad("keys[%d]: %d bytes, want 16, 24 or 32", i, len(key))
		}
	}
	if _, err := c.Meta.encode(); err != nil {
		bad("meta: %w", err)
	}
	return errors.Join(problems...)
}

// listConfig is the memberlist configuration. Verification in both directions stays on: a packet or stream that is
// not encrypted with one of the keys is dropped.
func (g *Gossip) listConfig() (*memberlist.Config, error) {
	keyring, err := memberlist.NewKeyring(g.cfg.Keys, g.cfg.Keys[0])
	if err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	addr, err := netip.ParseAddrPort(g.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("parse listen address: %w", err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Keyring = g.cfg.Node, g.cfg.Cluster, keyring
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.BindAddr, c.BindPort, c.AdvertisePort = addr.Addr().String(), int(addr.Port()), int(addr.Port())
	c.TCPTimeout, c.PushPullInterval = streamTimeout, syncInterval
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.GossipInterval, c.GossipNodes, c.GossipToTheDeadTime = gossipInterval, 2, deadInterval
	// Of three nodes only one can be asked for an indirect ping or confirm a suspicion.
	c.IndirectChecks, c.RetransmitMult = 1, 3
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.AwarenessMaxMultiplier = 2
	c.DeadNodeReclaimTime = reclaimAfter
	c.EnableCompression = false // the state of three nodes is smaller than the work to squeeze it
	c.Logger = log.New(&ear{log: g.log, now: time.Now, counts: map[string]*count{}}, "", 0)
	c.Delegate, c.Events, c.Ping, c.Alive, c.Conflict = g.table, g.table, g.table, g.table, g.table
	return c, nil
}
