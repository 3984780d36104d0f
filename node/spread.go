package node

import (
	"context"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Spread plans the moves that bring the jobs to where they would be if all were granted anew. It moves none.
func (o *Operators) Spread(context.Context, *duoflowv1.SpreadRequest) (*duoflowv1.SpreadResponse, error) {
	n, p := o.n, o.n.snapshot()
	answer := &duoflowv1.SpreadResponse{View: n.view(p)}
	weights := n.cfg.weights()
	var placed []control.Placed
	epochs := map[lease.JobName]lease.Epoch{}
	loads, change := map[lease.NodeID]int{}, map[lease.NodeID]int{}
	for _, s := range n.seats {
		if s.cfg.Follow != "" {
			continue // its weight is its leader's
		}
		job := n.wire.ledger.agreed(s.name)
		place := n.placed(s, job, p)
		place.Weight = weights[s.name]
		placed, epochs[s.name] = append(placed, place), job.Epoch
		loads[place.At] += place.Weight
	}
	for _, shift := range control.Spread(placed) {
		weight := weights[shift.Job]
		change[shift.From] -= weight
		change[shift.To] += weight
		answer.Moves = append(answer.Moves, &duoflowv1.SpreadMove{
			Job: string(shift.Job), From: string(shift.From), To: string(shift.To), Epoch: uint64(epochs[shift.Job]), Weight: uint32(weight),
		})
	}
	for _, m := range n.members().all {
		if !m.Witness && !m.Joining {
			answer.Loads = append(answer.Loads, &duoflowv1.NodeLoad{
				Node: string(m.ID), Now: uint32(loads[m.ID]), Then: uint32(loads[m.ID] + change[m.ID]),
			})
		}
	}
	return answer, nil
}

// placed is a job as Spread looks at it. One that is on the move, paused, suspected or not yet active is left where it is: somebody
// is busy with it.
func (n *Node) placed(s *seat, job lease.Job, p picture) control.Placed {
	place := control.Placed{Job: s.name, Priority: n.cfg.priorities(s.cfg)}
	if job.Phase != lease.Granted {
		return place
	}
	place.At = job.Holder
	said, seen := p.beats[job.Holder].Jobs[s.name], p.jobs[s.name]
	place.Stays = job.Move != nil || job.Plan != nil || job.Pause != nil || seen.suspicion.Cause != "" ||
		said.State != control.Active || said.Epoch != job.Epoch
	for _, id := range n.members().ids() {
		if why, known := seen.unfit[id]; known && why == "" && id != job.Holder {
			place.Fit = append(place.Fit, id)
		}
	}
	return place
}
