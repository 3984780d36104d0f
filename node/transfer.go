package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

// pollEvery is how often a waiting operator's call looks at the picture.
const pollEvery = 5 * time.Millisecond

// transfer is one operator's request to move a job.
type transfer struct {
	job     lease.JobName
	move    lease.Move
	in      time.Duration // later; 0: now
	by      string
	expect  lease.Epoch
	force   bool
	dryRun  bool
	wait    bool
	started time.Time
}

// Switchover moves a job while its holder cooperates.
func (o *Operators) Switchover(
	ctx context.Context, req *duoflowv1.SwitchoverRequest,
) (*duoflowv1.TransferResponse, error) {
	return o.n.transfer(ctx, transfer{
		job: lease.JobName(req.GetJob()), move: lease.Move{To: lease.NodeID(req.GetTo())},
		in: time.Duration(req.GetInMs()) * time.Millisecond, by: admin.CallerName(ctx),
		expect: lease.Epoch(req.GetExpectEpoch()), dryRun: req.GetDryRun(), wait: req.GetWait(), started: o.n.machine.Wall(),
	})
}

// Restart ends the present life of a job in order, to be followed by one in the same place.
func (o *Operators) Restart(ctx context.Context, req *duoflowv1.RestartRequest) (*duoflowv1.TransferResponse, error) {
	job := lease.JobName(req.GetJob())
	return o.n.transfer(ctx, transfer{
		job: job, move: lease.Move{To: o.n.wire.ledger.job(job).Holder, Here: true}, by: admin.CallerName(ctx),
		expect: lease.Epoch(req.GetExpectEpoch()), dryRun: req.GetDryRun(), wait: req.GetWait(), started: o.n.machine.Wall(),
	})
}

// Failover moves a job without asking its holder; with force also without quorum, by the fence alone.
func (o *Operators) Failover(
	ctx context.Context, req *duoflowv1.FailoverRequest,
) (*duoflowv1.TransferResponse, error) {
	return o.n.transfer(ctx, transfer{
		job: lease.JobName(req.GetJob()), move: lease.Move{To: lease.NodeID(req.GetTo()), Now: true},
		by: admin.CallerName(ctx), expect: lease.Epoch(req.GetExpectEpoch()), force: req.GetForce(), dryRun: req.GetDryRun(), wait: req.GetWait(),
		started: o.n.machine.Wall(),
	})
}

func (n *Node) transfer(ctx context.Context, t transfer) (*duoflowv1.TransferResponse, error) {
	before := n.wire.ledger.job(t.job)
	answer := &duoflowv1.TransferResponse{
		Job: string(t.job), EpochBefore: uint64(before.Epoch), From: string(before.Holder), To: string(t.move.To),
	}
	problem := n.transferProblem(t, before)
	if t.dryRun {
		answer.Accepted, answer.Reason = problem == nil, "would be asked of the cluster"
		if problem != nil {
			answer.Reason = problem.Error()
		}
		return answer, nil
	}
	if problem != nil {
		return nil, problem
	}
	answer.Accepted = true
	err := n.ask(ctx, t, before)
	switch {
	case (errors.Is(err, errNoQuorum) || errors.Is(err, errLate)) && t.force:
		return n.takeAlone(ctx, t, answer)
	case err != nil:
		return nil, disagreed(t.job, err)
	case !t.wait || t.in > 0:
		return answer, nil
	}
	return n.awaitActive(ctx, t, answer, before.Epoch+1)
}

// transferProblem says why a request should not even be tried; nil when it may.
func (n *Node) transferProblem(t transfer, before lease.Job) *admin.Problem {
	p := n.snapshot()
	switch {
	case t.expect != 0 && t.expect != before.Epoch:
		return moved(t.job, fmt.Sprintf("epoch is %d, you expected %d", before.Epoch, t.expect))
	case t.force && !n.quorum(p):
		return nil // takeAlone looks at what matters then
	case before.Stopped():
		return unsafe(t.job, n.wire.ledger.try(askFor(t, before)).Why, "`duoctl resume` it first")
	case t.move.To == "" && t.in == 0 && !t.move.Here:
		return n.nobodyFit(t.job, before, p)
	}
	if out := n.wire.ledger.try(askFor(t, before)); !out.Accepted {
		return unsafe(t.job, out.Why, "choose another node")
	}
	if why := p.jobs[t.job].unfit[t.move.To]; why != "" && t.in == 0 && !t.move.Here {
		return unsafe(t.job, fmt.Sprintf("%s %s", t.move.To, why), "choose another node, or mend this one first")
	}
	return nil
}

func (n *Node) nobodyFit(job lease.JobName, before lease.Job, p picture) *admin.Problem {
	for _, id := range n.members().ids() {
		if id != before.Holder && p.jobs[job].unfit[id] == "" {
			return nil
		}
	}
	return unsafe(job, "no other node could be granted it now", "`duoctl status` says why, node by node")
}

func moved(job lease.JobName, what string) *admin.Problem {
	return &admin.Problem{
		Kind: duoflowv1.Problem_KIND_MOVED, What: fmt.Sprintf("job %s: %s", job, what), Mend: "look at the status again",
	}
}

func unsafe(job lease.JobName, what, mend string) *admin.Problem {
	return &admin.Problem{
		Kind: duoflowv1.Problem_KIND_UNSAFE, What: fmt.Sprintf("job %s: %s", job, what), Mend: mend,
	}
}

func askFor(t transfer, before lease.Job) lease.Command {
	return lease.Command{Ask: &lease.Ask{
		Job: t.job, Epoch: before.Epoch, Move: t.move, In: t.in, By: lease.Text(t.by), At: t.started.UnixMilli(),
	}}
}

var (
	errNoQuorum = errors.New("no quorum") // and the request is in no log
	errLate     = errors.New("not agreed on in time, and it may still be")
)

// agree puts an operator's command into the log and returns what became of it. An errNoQuorum or errLate is wrapped in nothing.
func (n *Node) agree(ctx context.Context, c lease.Command) (lease.Outcome, error) {
	if !n.quorum(n.snapshot()) {
		return lease.Outcome{}, errNoQuorum
	}
	ctx, cancel := n.machine.Within(ctx, proposeWithin)
	defer cancel()
	command := c.Encode()
	outcome, done := n.wire.ledger.watch(command)
	defer done()
	err := n.log.Propose(ctx, command)
	switch {
	case errors.Is(err, raftstore.ErrNoLeader):
		return lease.Outcome{}, errNoQuorum
	case errors.Is(err, context.DeadlineExceeded):
		return lease.Outcome{}, errLate
	case err != nil:
		return lease.Outcome{}, fmt.Errorf("propose an operator's wish: %w", err)
	}
	return outcome(), nil
}

// disagreed makes the problem of what agree has returned.
func disagreed(job lease.JobName, err error) error {
	switch {
	case errors.Is(err, errNoQuorum):
		return &admin.Problem{
			Kind: duoflowv1.Problem_KIND_NO_QUORUM, What: fmt.Sprintf("job %s: no majority of nodes agrees", job),
			Mend: "bring a second node back, or ask the node that shall run it for `failover --force`",
		}
	case errors.Is(err, errLate):
		return &admin.Problem{
			Kind: duoflowv1.Problem_KIND_TIMEOUT, What: fmt.Sprintf("job %s: no majority has agreed to it in time", job),
			Mend: "it may still come to pass; look at the status again",
		}
	}
	return err
}

// ask puts the wish into the log.
func (n *Node) ask(ctx context.Context, t transfer, before lease.Job) error {
	out, err := n.agree(ctx, askFor(t, before))
	switch {
	case err != nil || out.Accepted:
		return err
	case n.wire.ledger.job(t.job).Epoch != before.Epoch:
		return moved(t.job, out.Why)
	}
	return unsafe(t.job, out.Why, "look at the status again")
}

// takeAlone has this host take the fence without the cluster's word. The fence row makes it safe whatever the others
// are doing meanwhile; the log catches up when there is a quorum again.
func (n *Node) takeAlone(
	ctx context.Context, t transfer, answer *duoflowv1.TransferResponse,
) (*duoflowv1.TransferResponse, error) {
	here := n.snapshot().jobs[t.job]
	switch {
	case n.cfg.Witness:
		return nil, unsafe(t.job, string(n.self)+" is a witness", "ask a scheduler host with --endpoint")
	case t.move.To != "" && t.move.To != n.self:
		return nil, unsafe(t.job, "without quorum a node can only be told to take over itself",
			fmt.Sprintf("ask %s with --endpoint", t.move.To))
	case here.state != control.Standby:
		return nil, unsafe(t.job, fmt.Sprintf("%s is %s, not standby", n.self, here.state), "look at the status again")
	case !here.said.Healthy:
		return nil, unsafe(t.job, fmt.Sprintf("%s cannot reach the metastore", n.self), "mend that first")
	}
	epoch := max(here.said.Row.Epoch, here.said.HighestRole, n.wire.ledger.job(t.job).Epoch) + 1
	n.logger.Warn("forced takeover without quorum", "job", t.job, "epoch", epoch)
	n.wire.mail.post(t.job, control.Force{Epoch: epoch})
	answer.To, answer.EpochAfter = string(n.self), uint64(epoch)
	answer.Reason = "without quorum, by the fence alone; the log catches up when there is a quorum again"
	if !t.wait {
		return answer, nil
	}
	return n.awaitActive(ctx, t, answer, epoch)
}

// awaitActive returns when an epoch of at least atLeast is active, or ctx ends.
func (n *Node) awaitActive(
	ctx context.Context, t transfer, answer *duoflowv1.TransferResponse, atLeast lease.Epoch,
) (*duoflowv1.TransferResponse, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if id, epoch, ok := n.activeSince(t.job, atLeast); ok {
			answer.Completed, answer.To, answer.EpochAfter = true, string(id), uint64(epoch)
			answer.Phases = n.transferPhases(t, epoch)
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, &admin.Problem{
				Kind: duoflowv1.Problem_KIND_TIMEOUT,
				What: fmt.Sprintf("job %s: not active under a new epoch yet", t.job),
				Mend: "it may still become so; `duoctl status` shows the state",
			}
		case <-ticker.C:
		}
	}
}

func (n *Node) activeSince(job lease.JobName, atLeast lease.Epoch) (lease.NodeID, lease.Epoch, bool) {
	p := n.snapshot()
	for _, id := range n.members().ids() {
		said, ok := p.beats[id].Jobs[job]
		if ok && said.State == control.Active && said.Epoch >= atLeast {
			return id, said.Epoch, true
		}
	}
	return "", 0, false
}

// transferPhases is the new holder's own account, preceded by what it took to get there.
func (n *Node) transferPhases(t transfer, epoch lease.Epoch) []*duoflowv1.PhaseTook {
	total := n.machine.Wall().Sub(t.started)
	var timings []lease.Timing
	for _, e := range n.wire.ledger.job(t.job).History {
		if e.Epoch == epoch && e.Kind.Begins() {
			timings, _ = split(e.Phases)
		}
	}
	rest := total
	for _, phase := range timings {
		rest -= phase.Took
	}
	return phaseTooks(append([]lease.Timing{{Name: "hand-over", Took: max(rest, 0)}}, timings...))
}
