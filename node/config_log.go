package node

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// LogStore is what the replicated log of this node is made of, but for certificates and who hears of it.
func (c *Config) LogStore() raftstore.Config {
	store := raftstore.Config{
		Cluster: c.Cluster, Self: RaftID(lease.NodeID(c.Node)), Dir: filepath.Join(c.DataDir, "raft"), Listen: c.Listen.Peer, Driven: true,
	}
	_, store.HeartbeatTicks, store.ElectionTicks = c.RaftTiming()
	for name, m := range c.Nodes {
		id := RaftID(lease.NodeID(name))
		store.Peers = append(store.Peers, raftstore.Peer{ID: id, Name: name, Addr: m.Peer})
		if m.Witness {
			store.PreferredLeader = id
		}
	}
	slices.SortFunc(store.Peers, func(a, b raftstore.Peer) int { return strings.Compare(a.Name, b.Name) })
	return store
}
