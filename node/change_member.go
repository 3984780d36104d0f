package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

// memberChange is one operator's request to add a node to the cluster or to remove one.
type memberChange struct {
	step         raftstore.Change
	node         lease.NodeID
	by           string
	dryRun, wait bool
}

// ChangeMember adds a node to the cluster or removes one.
func (o *Operators) ChangeMember(ctx context.Context, req *duoflowv1.ChangeMemberRequest) (*duoflowv1.ChangeMemberResponse, error) {
	c := memberChange{by: lease.Text(admin.CallerName(ctx)), dryRun: req.GetDryRun(), wait: req.GetWait()}
	if add := req.GetAdd(); add != nil {
		c.node = lease.NodeID(add.GetName())
		m := member{ID: c.node, Peer: add.GetPeer(), Gossip: add.GetGossip(), Witness: add.GetWitness()}
		if problem := o.n.cfg.outside(m); problem != nil {
			return nil, problem
		}
		peer := m.peer()
		c.step.Add = &peer
	} else {
		c.node = lease.NodeID(req.GetRemove())
		c.step.Remove = RaftID(c.node)
	}
	return o.n.changeMember(ctx, c)
}

// outside refuses, without TLS, a member that is not on this host, as the configuration does; nil when it may be added.
func (c *Config) outside(m member) *admin.Problem {
	for _, addr := range []string{m.Peer, m.Gossip} {
		if why := c.exposed(addr); why != "" {
			return &admin.Problem{
				Kind: duoflowv1.Problem_KIND_USAGE, What: fmt.Sprintf("node %s: %s", m.ID, why),
				Mend: "a cluster over several hosts needs certificates: `duoctl tls init`",
			}
		}
	}
	return nil
}

func (n *Node) changeMember(ctx context.Context, c memberChange) (*duoflowv1.ChangeMemberResponse, error) {
	if reason := n.doneAlready(c); reason != "" {
		answer := &duoflowv1.ChangeMemberResponse{Accepted: true, Reason: reason, Completed: c.step.Remove != 0, Members: n.memberStatus()}
		if c.dryRun || !c.wait || c.step.Remove != 0 {
			return answer, nil
		}
		if err := n.awaitVoter(ctx, c.node); err != nil {
			return nil, err
		}
		answer.Completed, answer.Members = true, n.memberStatus()
		return answer, nil
	}
	problem := n.changeProblem(ctx, c)
	switch {
	case c.dryRun && problem != nil && problem.Kind == duoflowv1.Problem_KIND_UNSAFE:
		return &duoflowv1.ChangeMemberResponse{Reason: problem.Error(), Members: n.memberStatus()}, nil
	case problem != nil:
		return nil, problem
	case c.dryRun:
		return &duoflowv1.ChangeMemberResponse{Accepted: true, Reason: "would be asked of the cluster", Members: n.memberStatus()}, nil
	}
	var err error
	if c.step.Remove != 0 {
		err = n.removeMember(ctx, c)
	} else {
		err = n.log.Change(ctx, c.step)
	}
	if err != nil {
		return nil, n.unchanged(c, err)
	}
	n.logger.Info("members changed by an operator", "peer", c.node, "removed", c.step.Remove != 0, "by", c.by)
	answer := &duoflowv1.ChangeMemberResponse{Accepted: true, Completed: c.step.Remove != 0}
	if c.step.Add != nil && c.wait {
		if err := n.awaitVoter(ctx, c.node); err != nil {
			return nil, err
		}
		answer.Completed = true
	}
	answer.Members = n.memberStatus()
	return answer, nil
}

// doneAlready says that a change was made before; empty when it was not. An operator whose request was not answered asks again.
func (n *Node) doneAlready(c memberChange) string {
	raft := n.log.Status()
	if !raft.Ready {
		return ""
	}
	known, ok := raft.Members.Member(RaftID(c.node))
	switch {
	case c.step.Add != nil && ok && known.Name == c.step.Add.Name && known.Addr == c.step.Add.Addr && known.Note == c.step.Add.Note:
		return fmt.Sprintf("node %s is a member already", c.node)
	case c.step.Remove != 0 && raft.Members.WasRemoved(c.step.Remove):
		return fmt.Sprintf("node %s was removed already", c.node)
	}
	return ""
}

// changeProblem says why a change should not even be tried; nil when it may.
func (n *Node) changeProblem(ctx context.Context, c memberChange) *admin.Problem {
	if err := n.log.Examine(ctx, c.step); err != nil {
		return n.unchanged(c, err)
	}
	beats := n.snapshot().beats
	for _, m := range n.members().all {
		if doubt := beats[m.ID].Doubt; m.ID != c.node && doubt != "" && !m.Joining {
			return &admin.Problem{
				Kind: duoflowv1.Problem_KIND_UNSAFE, What: fmt.Sprintf("node %s does not vote now: %s", m.ID, doubt),
				Mend: "it ends by itself when all others can be reached; change the members then, or remove that node first",
			}
		}
	}
	if c.step.Remove == 0 || n.members().get(c.node).Joining {
		return nil
	}
	if out := n.wire.ledger.try(lease.Command{Retire: &lease.Retire{Node: c.node}}); !out.Accepted {
		return n.held(out)
	}
	return nil
}

// held is the refusal to remove a node that the jobs need.
func (n *Node) held(out lease.Outcome) *admin.Problem {
	p := &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: out.Why, Mend: "look at the status again"}
	if out.Job != "" {
		p.What = fmt.Sprintf("job %s: %s", out.Job, out.Why)
		p.Mend = fmt.Sprintf("`duoctl switchover --job %s` first; a job that follows another one moves with that", out.Job)
	}
	return p
}

// removeMember has the node granted nothing any more, and then removes it. In this order nothing can be granted to it between the
// look at what it holds and its removal. If it is not removed after all that is taken back.
func (n *Node) removeMember(ctx context.Context, c memberChange) error {
	if !n.removing.CompareAndSwap(false, true) {
		return &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: "another removal is under way", Mend: "wait until that is done, and try again"}
	}
	defer n.removing.Store(false)
	if n.members().get(c.node).Joining {
		return n.log.Change(ctx, c.step)
	}
	out, err := n.agree(ctx, lease.Command{Retire: &lease.Retire{Node: c.node, By: c.by, At: n.machine.Wall().UnixMilli()}})
	switch {
	case err != nil:
		return err
	case !out.Accepted:
		return n.held(out)
	}
	err = n.log.Change(ctx, c.step)
	if neverChanged(err) {
		if _, undone := n.agree(context.WithoutCancel(ctx), n.takenBack(c.node, c.by)); undone != nil {
			err = errors.Join(err, fmt.Errorf("%s is granted nothing until a raft leader takes that back: %w", c.node, undone))
		}
	}
	return err
}

func (n *Node) takenBack(node lease.NodeID, by string) lease.Command {
	return lease.Command{Retire: &lease.Retire{Node: node, Undo: true, By: by, At: n.machine.Wall().UnixMilli()}}
}

// takeBack ends what is left of a removal with which nobody goes on: the leader that began it is gone, or it was not agreed on in time. A
// node is removed by the leader alone, so that knows.
func (n *Node) takeBack(parts context.Context) {
	if n.removing.Load() {
		return
	}
	for _, agreed := range n.wire.ledger.nodes() {
		if m := n.members().get(agreed.ID); agreed.Leaving && m.ID != "" && !m.Joining {
			n.propose(parts, n.takenBack(agreed.ID, ""), nil)
		}
	}
}

// neverChanged reports whether an error means that the members are for sure those of before.
func neverChanged(err error) bool {
	for _, sure := range []error{raftstore.ErrRefused, raftstore.ErrNotLeader, raftstore.ErrChanging, raftstore.ErrDropped} {
		if errors.Is(err, sure) {
			return true
		}
	}
	return false
}

// unchanged makes the problem of an error.
func (n *Node) unchanged(c memberChange, err error) *admin.Problem {
	var problem *admin.Problem
	p := &admin.Problem{Kind: duoflowv1.Problem_KIND_FAILED, What: fmt.Sprintf("node %s: %v", c.node, err), Mend: "see the log of this node"}
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.Is(err, raftstore.ErrRefused):
		p.Kind, p.Mend = duoflowv1.Problem_KIND_UNSAFE, "`duoctl member list` shows who belongs to the cluster"
	case errors.Is(err, raftstore.ErrChanging):
		p.Kind, p.Mend = duoflowv1.Problem_KIND_UNSAFE, "wait until that is done, or for the next raft leader, and try again"
	case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrDropped):
		p.Kind, p.Mend = duoflowv1.Problem_KIND_MOVED, "ask the raft leader"
		p.What = fmt.Sprintf("node %s cannot change members, it is not the raft leader", n.self)
		if leader := n.wire.name(n.log.Status().Leader); leader == "" {
			p.Kind, p.Mend = duoflowv1.Problem_KIND_NO_QUORUM, "bring a majority of the nodes back"
			p.What = "no raft leader is known, and without one members are not changed"
		} else if leader != n.self {
			p.Mend = fmt.Sprintf("ask %s", leader)
		}
	case errors.Is(err, errNoQuorum):
		p.Kind, p.Mend = duoflowv1.Problem_KIND_NO_QUORUM, "bring a majority of the nodes back"
	case errors.Is(err, errLate), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p.Kind, p.Mend = duoflowv1.Problem_KIND_TIMEOUT, "it may still come to be; `duoctl member list` shows it"
	}
	return p
}

// awaitVoter returns when a node votes and the cluster may grant it something, or ctx ends.
func (n *Node) awaitVoter(ctx context.Context, id lease.NodeID) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if n.members().get(id).ID == "" {
			return &admin.Problem{Kind: duoflowv1.Problem_KIND_MOVED, What: fmt.Sprintf("node %s was removed meanwhile", id), Mend: "look at the members again"}
		}
		for _, agreed := range n.wire.ledger.nodes() {
			if agreed.ID == id {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return &admin.Problem{
				Kind: duoflowv1.Problem_KIND_TIMEOUT, What: fmt.Sprintf("node %s is a member and does not vote yet: it has not caught up with the log", id),
				Mend: "see that duoflowd runs there with `join: true`, and that both ways between it and every other node are open; it gets its vote by itself then",
			}
		case <-ticker.C:
		}
	}
}

// memberStatus lists the members, by name.
func (n *Node) memberStatus() []*duoflowv1.MemberStatus {
	leaving := map[lease.NodeID]bool{}
	for _, agreed := range n.wire.ledger.nodes() {
		leaving[agreed.ID] = agreed.Leaving
	}
	var all []*duoflowv1.MemberStatus
	for _, m := range n.members().all {
		s := &duoflowv1.MemberStatus{Name: string(m.ID), Peer: m.Peer, Witness: m.Witness, Role: "voter", Leaving: leaving[m.ID]}
		if m.Joining {
			s.Role = "learner"
		}
		all = append(all, s)
	}
	return all
}
