package control

import (
	"cmp"
	"slices"

	"github.com/duoflow/duoflow/node/lease"
)

// pick returns the best candidate for the next epoch, and false when there is none.
func (g *Granter) pick() (peer, bool) {
	var fit []peer
	for i := range g.peers {
		if id := g.peers[i].id; g.Unfit(id) == "" && !g.keptAway(id) {
			fit = append(fit, g.peers[i])
		}
	}
	if len(fit) == 0 {
		return peer{}, false
	}
	return slices.MinFunc(fit, g.order), true
}

// Unfit says why a node cannot be granted the job now, in words; empty means that it can.
func (g *Granter) Unfit(id lease.NodeID) string {
	p := *g.peer(id)
	switch {
	case !g.known(id):
		return "not a member"
	case g.witness(id):
		return "is a witness"
	case g.leaving(id):
		return "is leaving the cluster"
	case g.cfg.NoFailover[id]:
		return "is tagged nofailover"
	case p.heardAt == 0 || p.gone || g.now.Since(p.heardAt) > g.cfg.Timing.Silence:
		return "is not heard"
	case p.said.Goodbye:
		return "is leaving"
	case p.said.State != Standby:
		return "is " + string(p.said.State) + ", not standby"
	case !p.said.Healthy:
		return "cannot reach the metastore"
	case p.said.Unwritable:
		return "has a disk that takes no writes"
	case id != g.cfg.Self && !slices.Contains(p.said.Hears, g.cfg.Self):
		return "does not hear the leader"
	case g.cfg.Follow != "" && (g.followed.Phase != lease.Granted || g.followed.Holder != id):
		return "does not hold " + string(g.cfg.Follow)
	}
	return g.unfitHolder(p)
}

// unfitHolder keeps the job from being granted back to the very life it is being taken from.
func (g *Granter) unfitHolder(p peer) string {
	if g.view.HeldBy(p.id, p.said.Token) {
		return "holds the job and is suspected"
	}
	return ""
}

func (g *Granter) known(id lease.NodeID) bool {
	return slices.ContainsFunc(g.nodes, func(n lease.Node) bool { return n.ID == id })
}

func (g *Granter) witness(id lease.NodeID) bool {
	return slices.ContainsFunc(g.nodes, func(n lease.Node) bool { return n.ID == id && n.Witness })
}

func (g *Granter) leaving(id lease.NodeID) bool {
	return slices.ContainsFunc(g.nodes, func(n lease.Node) bool { return n.ID == id && n.Leaving })
}

// order sorts candidates, best first: the operator's wish, priority, the least load of other jobs, a warm standby, after a first
// failure the node that had it (a restart in place costs nobody anything), then the name.
func (g *Granter) order(a, b peer) int {
	return cmp.Or(
		cmp.Compare(g.wish(b.id), g.wish(a.id)),
		cmp.Compare(g.cfg.Priority[b.id], g.cfg.Priority[a.id]),
		cmp.Compare(g.load(a.id), g.load(b.id)),
		cmp.Compare(rank(b.said.Warm), rank(a.said.Warm)),
		cmp.Compare(g.home(b.id), g.home(a.id)),
		cmp.Compare(a.id, b.id),
	)
}

// wish ranks by what the operator asked for: the named node, else any other than the last holder.
func (g *Granter) wish(id lease.NodeID) int {
	switch move := g.view.Move; {
	case move == nil:
		return 0
	case move.To != "":
		return rank(move.To == id)
	}
	return rank(g.view.Holder != id)
}

// home ranks the last holder first after one failed life, last after more of them.
func (g *Granter) home(id lease.NodeID) int {
	if g.view.Phase != lease.Released || len(g.failures) == 0 || g.view.Holder != id {
		return 0
	}
	if len(g.failures) == 1 {
		return 1
	}
	return -1
}

func rank(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
