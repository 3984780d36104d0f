package node

import (
	"cmp"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/node/web"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// View is what load balancers and the status page are told.
func (n *Node) View() web.View {
	p, raft := n.snapshot(), n.log.Status()
	v := web.View{
		Node: string(n.self), Witness: n.cfg.Witness, Quorum: n.quorum(p),
		Leader: string(n.wire.name(raft.Leader)), Age: n.machine.Boot().Since(p.at),
	}
	active := false
	for _, s := range n.seats {
		job := n.wire.ledger.agreed(s.name)
		seen := p.jobs[s.name]
		active = active || seen.state == control.Active
		said := p.line(job, job.Holder, n.machine.Boot())
		v.Jobs = append(v.Jobs, web.JobView{
			Name: string(s.name), State: string(seen.state), Active: seen.state == control.Active,
			Epoch: uint64(job.Epoch), Holder: string(job.Holder),
			Detection: seen.detection[job.Holder].Reason(),
			Status:    said.Text, StatusAgeMS: int64(millis(said.Age)), Schedule: said.Slots,
			Paused: pauseText(n.pauseOf(job, p)), Planned: plannedText(n.plannedOf(job, p)),
			On: n.on(job, p), Suspect: seen.suspicion.Detail,
		})
		if n.cfg.Shadow {
			v.Jobs[len(v.Jobs)-1].Unsafe = shadowReason
		}
		if !n.cfg.Witness && !seen.said.Healthy {
			v.Reason = "job " + string(s.name) + ": the metastore cannot be reached, or is not writable"
		}
	}
	if v.Leader == "" && !active {
		v.Reason = "no raft leader is known"
	}
	v.Ready = v.Reason == ""
	for _, id := range n.members().ids() {
		v.Nodes = append(v.Nodes, nodeView(n.nodeStatus(id, p, raft)))
	}
	v.Moves, v.Now = n.moves(), time.Now()
	return v
}

func pauseText(p *duoflowv1.PauseStatus) string {
	if p == nil {
		return ""
	}
	text := p.GetLevel() + " until it is resumed"
	if p.LeftMs != nil {
		text = fmt.Sprintf("%s for another %s", p.GetLevel(), seconds(p.GetLeftMs()))
	}
	return text + byWhom(p.GetBy(), p.GetReason())
}

func plannedText(p *duoflowv1.PlannedMove) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("switchover to %s in %s%s", cmp.Or(p.GetTo(), "the best eligible node"), seconds(p.GetLeftMs()), byWhom(p.GetBy(), ""))
}

func seconds(millis uint64) time.Duration {
	return (time.Duration(millis) * time.Millisecond).Round(time.Second)
}

func byWhom(who, why string) string {
	text := ", by " + cmp.Or(who, "nobody known")
	if why != "" {
		text += ": " + why
	}
	return text
}

// pageMoves is how many transitions the page shows.
const pageMoves = 20

func (n *Node) moves() []web.MoveView {
	var jobs [][]*duoflowv1.HistoryEntry
	for _, s := range n.seats {
		jobs = append(jobs, n.historyOf(s, pageMoves))
	}
	var out []web.MoveView
	for _, e := range newestFirst(jobs, pageMoves) {
		m := web.MoveView{Job: e.GetJob(), Epoch: e.GetEpoch(), Kind: e.GetKind(), Node: e.GetNode(), Reason: e.GetReason()}
		if e.GetAtUnixMs() > 0 {
			m.At = time.UnixMilli(e.GetAtUnixMs())
		}
		for _, phase := range e.GetPhases() {
			m.Took += time.Duration(phase.GetMillis() * float64(time.Millisecond))
		}
		out = append(out, m)
	}
	return out
}

func (n *Node) on(job lease.Job, p picture) []web.OnView {
	var out []web.OnView
	for _, id := range n.members().ids() {
		on := jobOnNode(job, id, p, n.machine.Boot())
		view := web.OnView{Node: on.GetNode(), State: stateText(on, job.Epoch), Unfit: on.GetIneligibleReason()}
		if id == job.Holder || n.members().get(id).Witness {
			view.Unfit = ""
		}
		out = append(out, view)
	}
	return out
}

// stateText is what a node said last of a job. When that is of an epoch that is over it may be dead; when it is of one that we
// do not know yet, we have been away.
func stateText(on *duoflowv1.JobOnNode, present lease.Epoch) string {
	switch has := lease.Epoch(on.GetEpoch()); {
	case on.GetState() == string(control.Standby) || has == 0 || has == present:
		return on.GetState()
	case has < present:
		return fmt.Sprintf("%s in epoch %d, which is over", on.GetState(), has)
	default:
		return fmt.Sprintf("%s in epoch %d", on.GetState(), has)
	}
}

func nodeView(s *duoflowv1.NodeStatus) web.NodeView {
	v := web.NodeView{
		Name: s.GetName(), Role: "scheduler host", HeardMS: -1, Connected: s.GetConnected(), Version: s.GetVersion(), Trouble: s.GetTrouble(),
	}
	if s.GetWitness() {
		v.Role = "witness"
	}
	if s.GetRaftRole() != "" {
		v.Role += ", " + s.GetRaftRole()
	}
	if s.LastBeatAgeMs != nil {
		v.HeardMS = int64(s.GetLastBeatAgeMs())
	}
	return v
}
