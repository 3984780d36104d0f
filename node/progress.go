package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Progress shows what a job of this host says of itself at length, and its past scheduled runs.
func (o *Operators) Progress(ctx context.Context, req *duoflowv1.ProgressRequest) (*duoflowv1.ProgressResponse, error) {
	n := o.n
	answer := &duoflowv1.ProgressResponse{Node: string(n.self)}
	s, problem := n.hostedSeat(lease.JobName(req.GetJob()))
	if problem != nil {
		return nil, problem
	}
	detail, err := s.hosted.Detail()
	if err != nil {
		return nil, progressFailed(s, err)
	}
	answer.Epoch = detail.Epoch
	if len(detail.JSON) > 0 {
		age := millis(time.Since(detail.At))
		answer.Detail, answer.DetailAgeMs = strings.ToValidUTF8(string(detail.JSON), "?"), &age
	}
	if req.GetRuns() == 0 {
		return answer, nil
	}
	runs, err := s.hosted.Runs(ctx, int(req.GetRuns()))
	if err != nil {
		return nil, progressFailed(s, err)
	}
	for _, r := range runs {
		answer.Runs = append(answer.Runs, pastRun(r))
	}
	return answer, nil
}

// hostedSeat is that of a job which this host can run.
func (n *Node) hostedSeat(name lease.JobName) (*seat, *admin.Problem) {
	for _, s := range n.seats {
		if s.name == name && s.hosted != nil {
			return s, nil
		}
	}
	return nil, &admin.Problem{
		Kind: duoflowv1.Problem_KIND_USAGE, What: fmt.Sprintf("job %s: node %s does not run it", name, n.self), Mend: "ask a node that does",
	}
}

func progressFailed(s *seat, err error) *admin.Problem {
	return &admin.Problem{Kind: duoflowv1.Problem_KIND_FAILED, What: fmt.Sprintf("job %s: %v", s.name, err), Mend: "look with duoctl doctor"}
}

func pastRun(r fence.PastRun) *duoflowv1.PastRun {
	out := &duoflowv1.PastRun{
		SlotUnixMs: r.Slot.UnixMilli(), Epoch: r.Epoch, Node: r.Node, State: r.State, BeganUnixMs: r.Began.UnixMilli(), Exit: int32(r.Exit),
	}
	if !r.Ended.IsZero() {
		out.EndedUnixMs = r.Ended.UnixMilli()
	}
	return out
}
