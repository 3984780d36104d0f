package node

import (
	"path/filepath"

	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// LogStore is what the replicated log of this node is made of, but for certificates and who hears of it.
func (c *Config) LogStore() raftstore.Config {
	store := raftstore.Config{
		Cluster: c.Cluster, Self: RaftID(lease.NodeID(c.Node)), Dir: filepath.Join(c.DataDir, "raft"), Listen: c.Listen.Peer,
		Driven: true, Peers: c.Peers(), Join: c.Join,
	}
	_, store.HeartbeatTicks, store.ElectionTicks = c.RaftTiming()
	for _, p := range store.Peers {
		if p.Preferred {
			store.PreferredLeader = p.ID
		}
	}
	return store
}
