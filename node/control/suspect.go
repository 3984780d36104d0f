package control

import (
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// suspect is the leader's opinion of the present holder. Proof comes before silence: a refused redial or a new life
// needs no waiting, silence needs the whole detection time.
//
// A blind holder is given twice the detection time, and so long must another node have seen the metastore: one that is gone for
// everybody is noticed by one node before the other, when it goes and when it comes back.
//
// No rule here touches safety. A wrong suspicion costs one clean failover, for the fence is taken either way.
func (g *Granter) suspect() Suspicion {
	if g.view.Phase != lease.Granted {
		return Suspicion{}
	}
	h := g.peer(g.view.Holder)
	patience := g.patience(h)
	unheard := g.now.Since(max(h.heardAt, g.since))
	heard := h.heardAt != 0
	switch {
	case g.view.Move != nil && g.view.Move.Now:
		return Suspicion{Cause: lease.CauseFailover, Detail: "an operator asked"}
	case h.gone:
		return Suspicion{lease.CauseGone, fmt.Sprintf("%s: connection closed and redial refused", h.id), unheard}
	case heard && h.said.Token != g.view.Token:
		return Suspicion{Cause: lease.CauseReborn, Detail: fmt.Sprintf("%s: its daemon has restarted", h.id)}
	case unheard > patience && !g.alone():
		return Suspicion{lease.CauseSilent, fmt.Sprintf("%s: not heard for %s", h.id, unheard.Round(time.Millisecond)), unheard}
	case heard && h.said.Goodbye && h.said.State == Left:
		return Suspicion{Cause: lease.CauseGoodbye, Detail: fmt.Sprintf("%s: its daemon is leaving", h.id)}
	case h.blindSince != 0 && g.now.Since(h.blindSince) > 2*patience && h.said.State != Stopping && g.seenFor(2*patience, h.id):
		return Suspicion{Cause: lease.CauseBlind, Detail: fmt.Sprintf("%s: cannot reach the metastore", h.id)}
	}
	return g.suspectFollower(h.id)
}

// seenFor reports whether another node that could have the job has seen the metastore for longer than d.
func (g *Granter) seenFor(d time.Duration, but lease.NodeID) bool {
	for i := range g.peers {
		if p := &g.peers[i]; p.id != but && p.seesSince != 0 && g.now.Since(p.seesSince) > d && g.Unfit(p.id) == "" {
			return true
		}
	}
	return false
}

func (g *Granter) suspectFollower(holder lease.NodeID) Suspicion {
	if g.cfg.Follow == "" || g.followed.Phase != lease.Granted || g.followed.Holder == holder {
		return Suspicion{}
	}
	return Suspicion{
		Cause:  lease.CauseFollow,
		Detail: fmt.Sprintf("%s is on %s", g.cfg.Follow, g.followed.Holder),
	}
}
