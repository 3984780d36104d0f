package node

import (
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/web"
)

// View is what load balancers and the status page are told.
func (n *Node) View() web.View {
	p, raft := n.snapshot(), n.log.Status()
	v := web.View{
		Node: string(n.self), Witness: n.cfg.Witness, Quorum: n.quorum(p),
		Leader: string(n.wire.names[raft.Leader]), Age: n.machine.Boot().Since(p.at),
	}
	active := false
	for _, s := range n.seats {
		job := n.wire.ledger.job(s.name)
		seen := p.jobs[s.name]
		active = active || seen.state == control.Active
		if n.cfg.Witness {
			continue
		}
		said := p.line(job, job.Holder, n.machine.Boot())
		v.Jobs = append(v.Jobs, web.JobView{
			Name: string(s.name), State: string(seen.state), Active: seen.state == control.Active,
			Epoch: uint64(job.Epoch), Holder: string(job.Holder),
			Detection: seen.detection[job.Holder].Reason(),
			Status:    said.Text, StatusAgeMS: int64(millis(said.Age)), Schedule: said.Slots,
		})
		if !seen.said.Healthy {
			v.Reason = "job " + string(s.name) + ": the metastore cannot be reached, or is not writable"
		}
	}
	if v.Leader == "" && !active {
		v.Reason = "no raft leader is known"
	}
	v.Ready = v.Reason == ""
	return v
}
