package node

import (
	"context"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Pause holds back what the cluster does by itself about a job.
func (o *Operators) Pause(ctx context.Context, req *duoflowv1.PauseRequest) (*duoflowv1.PauseResponse, error) {
	at := o.n.machine.Wall().UnixMilli()
	by := lease.Text(admin.CallerName(ctx))
	h := heldBack{job: lease.JobName(req.GetJob()), expect: req.ExpectOrder, dryRun: req.GetDryRun()}
	h.hold = lease.Hold{Cause: lease.CauseOperator, At: at, Pause: &lease.Pause{
		Level: lease.Level(req.GetLevel()), For: time.Duration(req.GetForMs()) * time.Millisecond,
		By: by, Reason: lease.Text(req.GetReason()), At: at,
	}}
	answer, err := o.n.holdBack(ctx, h)
	if err != nil || h.dryRun || !req.GetWait() || h.hold.Pause.Level != lease.PauseStopped {
		return answer, err
	}
	return o.n.awaitStopped(ctx, h.job, answer)
}

// Resume ends a pause.
func (o *Operators) Resume(ctx context.Context, req *duoflowv1.ResumeRequest) (*duoflowv1.PauseResponse, error) {
	return o.n.holdBack(ctx, heldBack{
		job: lease.JobName(req.GetJob()), expect: req.ExpectOrder, dryRun: req.GetDryRun(),
		hold: lease.Hold{Cause: lease.CauseOperator, By: lease.Text(admin.CallerName(ctx)), At: o.n.machine.Wall().UnixMilli()},
	})
}

// heldBack is one operator's request to pause a job, or to end that.
type heldBack struct {
	job    lease.JobName
	expect *uint64 // nil: whatever was ordered last
	hold   lease.Hold
	dryRun bool
}

func (n *Node) holdBack(ctx context.Context, h heldBack) (*duoflowv1.PauseResponse, error) {
	before := n.wire.ledger.job(h.job)
	h.hold.Job, h.hold.Order = h.job, before.Order
	answer := &duoflowv1.PauseResponse{Job: string(h.job), Before: n.pauseOf(before, n.snapshot())}
	problem := n.holdProblem(h, before)
	switch {
	case problem == nil:
	case h.dryRun:
		answer.Reason = problem.Error()
		return answer, nil
	default:
		return nil, problem
	}
	answer.Accepted = true
	answer.After = n.pauseOf(lease.Job{Pause: h.hold.Pause, Order: before.Order + 1}, n.snapshot())
	if h.dryRun {
		answer.Reason = "would be asked of the cluster"
		return answer, nil
	}
	out, err := n.agree(ctx, lease.Command{Hold: &h.hold})
	switch {
	case err != nil:
		return nil, disagreed(h.job, err)
	case !out.Accepted:
		return nil, moved(h.job, out.Why)
	}
	return answer, nil
}

// holdProblem says why a request should not even be tried; nil when it may.
func (n *Node) holdProblem(h heldBack, before lease.Job) *admin.Problem {
	if h.expect != nil && *h.expect != before.Order {
		return moved(h.job, fmt.Sprintf("order %d was given since the one you know, %d", before.Order, *h.expect))
	}
	if out := n.wire.ledger.try(lease.Command{Hold: &h.hold}); !out.Accepted {
		return unsafe(h.job, out.Why, "look at the status again")
	}
	return nil
}

// awaitStopped returns when the log says that nobody runs the job, or ctx ends.
func (n *Node) awaitStopped(
	ctx context.Context, job lease.JobName, answer *duoflowv1.PauseResponse,
) (*duoflowv1.PauseResponse, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		switch now := n.wire.ledger.job(job); {
		case now.Phase != lease.Granted:
			answer.Completed = true
			return answer, nil
		case !now.Stopped():
			return nil, moved(job, "the pause has ended before the job was stopped")
		}
		select {
		case <-ctx.Done():
			return nil, &admin.Problem{
				Kind: duoflowv1.Problem_KIND_TIMEOUT, What: fmt.Sprintf("job %s: its holder has not stopped it yet", job),
				Mend: "it may still do so; `duoctl status` shows the state",
			}
		case <-ticker.C:
		}
	}
}

// Cancel takes back a move that is planned, or asked for and not begun.
func (o *Operators) Cancel(ctx context.Context, req *duoflowv1.CancelRequest) (*duoflowv1.CancelResponse, error) {
	n, job := o.n, lease.JobName(req.GetJob())
	before := n.wire.ledger.job(job)
	c := lease.Command{Ask: &lease.Ask{
		Job: job, Epoch: before.Epoch, Cancel: true, By: lease.Text(admin.CallerName(ctx)), At: n.machine.Wall().UnixMilli(),
	}}
	answer := &duoflowv1.CancelResponse{Pending: pendingOf(before), Planned: n.plannedOf(before, n.snapshot())}
	out := n.wire.ledger.try(c)
	answer.Accepted, answer.Reason = out.Accepted, out.Why
	switch {
	case req.GetDryRun():
		return answer, nil
	case !out.Accepted:
		return nil, unsafe(job, out.Why, "look at the status again")
	}
	out, err := n.agree(ctx, c)
	switch {
	case err != nil:
		return nil, disagreed(job, err)
	case !out.Accepted:
		return nil, moved(job, out.Why)
	}
	return answer, nil
}

// pauseOf is what people are told of a job's pause; nil when there is none.
func (n *Node) pauseOf(job lease.Job, p picture) *duoflowv1.PauseStatus {
	if job.Pause == nil {
		return nil
	}
	status := &duoflowv1.PauseStatus{
		Level: string(job.Pause.Level), ForMs: millis(job.Pause.For), By: job.Pause.By, Reason: job.Pause.Reason, AtUnixMs: job.Pause.At,
	}
	if job.Pause.For > 0 {
		left := millis(job.Pause.For - n.ordered(job, p))
		status.LeftMs = &left
	}
	return status
}

// ordered is how long ago the job's last pause or plan was learnt of; 0 when the picture is older than that.
func (n *Node) ordered(job lease.Job, p picture) time.Duration {
	seen := p.jobs[job.Name]
	if seen.order != job.Order {
		return 0
	}
	return seen.ordered + n.machine.Boot().Since(p.at)
}

func (n *Node) plannedOf(job lease.Job, p picture) *duoflowv1.PlannedMove {
	if job.Plan == nil {
		return nil
	}
	return &duoflowv1.PlannedMove{
		To: string(job.Plan.Move.To), LeftMs: millis(job.Plan.In - n.ordered(job, p)), By: job.Plan.By, AtUnixMs: job.Plan.At,
	}
}

func pendingOf(job lease.Job) *duoflowv1.PendingTransfer {
	if job.Move == nil {
		return nil
	}
	return &duoflowv1.PendingTransfer{Kind: moveKind(*job.Move), To: string(job.Move.To)}
}

func moveKind(m lease.Move) string {
	switch {
	case m.Now:
		return "failover"
	case m.Here:
		return "restart"
	}
	return "switchover"
}
