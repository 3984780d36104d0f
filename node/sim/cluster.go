package sim

import (
	"math/rand/v2"
	"time"

	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// cluster is three hosts, the network and the metastore.
type cluster struct {
	w         *world
	plan      plan
	net       *network
	hosts     []*host
	pg        *postgres
	oracle    *oracle
	preferred uint64
	actors    uint64
	thieves   []*process
	faulty    faulty
	// troubles counts them; those in mute are left out, and those that are not in keep unless that is nil.
	troubles   int
	mute, keep []int
	// dice are the operators'; nil: they give no orders.
	dice    *rand.Rand
	regroup regroup
	// multitude is many jobs in the place of the one; nil: that.
	multitude *multitude
	// calmAt is when there is no more trouble.
	calmAt instant
}

func newCluster(w *world, p plan, o Options, r regroup) *cluster {
	c := &cluster{w: w, plan: p, faulty: o.wrong, mute: o.Mute, keep: o.Keep, regroup: r}
	c.net = &network{
		w: w, cut: map[way]bool{}, least: p.delayLeast, most: p.delayMost, slow: p.slow, slowly: p.slowly, drop: p.drop, twice: p.twice,
	}
	c.oracle = newOracle(c)
	c.pg = newPostgres(c)
	names := []string{"a", "b", "t"}
	var voters []uint64
	for _, name := range names {
		voters = append(voters, node.RaftID(lease.NodeID(name)))
	}
	for i, name := range names {
		c.hosts = append(c.hosts, &host{
			c: c, name: name, id: voters[i], witness: name == "t", disk: newDisk(voters),
			rate: 1 + p.skew*(2*w.rand.Float64()-1), wallOff: w.span(-p.wallOff, p.wallOff), slow: p.fsyncMost,
		})
	}
	c.preferred = voters[2]
	return c
}

// config is the configuration of a host's daemon.
func (c *cluster) config(h *host) node.Config {
	members := map[string]node.Member{}
	for _, other := range c.hosts {
		if !other.joins || other == h { // who is there from the beginning learns of the others from the log
			members[other.name] = node.Member{Peer: other.name + ":7400", Witness: other.witness}
		}
	}
	cfg := node.Config{
		Cluster: "sim", Node: h.name, Witness: h.witness, Nodes: members, Join: h.joins, Detection: c.plan.detection,
		Jobs: map[string]node.Job{jobName: {Kind: "command", Command: []string{"work"}, Grace: c.plan.grace}},
	}
	if c.multitude != nil {
		cfg.Jobs = c.multitude.jobs
	}
	return cfg
}

func (c *cluster) nameOf(id uint64) string {
	for _, h := range c.hosts {
		if h.id == id {
			return h.name
		}
	}
	return "none"
}

// fsync draws how long a write of a host's disk takes.
func (c *cluster) fsync(h *host) time.Duration {
	return c.w.span(100*time.Microsecond, max(h.slow, 100*time.Microsecond))
}

// bootstrap is the roster that a daemon's configuration names; see raftstore/config.go.
func (c *cluster) bootstrap(cfg node.Config) raftstore.Roster {
	if cfg.Join {
		return raftstore.Roster{}
	}
	return roster.New(cfg.Peers())
}
