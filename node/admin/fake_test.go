package admin_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// fakeNode answers every verb, remembers what it was asked, and fails or hangs when told to.
type fakeNode struct {
	mu       sync.Mutex
	asked    []any
	fail     error
	hang     bool          // until the context ends
	hanging  chan struct{} // told once per hanging call
	linger   time.Duration // between the end of the context and the return of a hanging call
	returned atomic.Int32  // hanging calls that have returned
	status   *duoflowv1.StatusResponse
	history  *duoflowv1.HistoryResponse
}

func newFakeNode() *fakeNode {
	return &fakeNode{
		hanging: make(chan struct{}, 16),
		status:  &duoflowv1.StatusResponse{Cluster: "prod", View: &duoflowv1.View{Authoritative: true}},
		history: &duoflowv1.HistoryResponse{View: &duoflowv1.View{Authoritative: true}},
	}
}

func (n *fakeNode) ChangeMember(ctx context.Context, r *duoflowv1.ChangeMemberRequest) (*duoflowv1.ChangeMemberResponse, error) {
	return &duoflowv1.ChangeMemberResponse{Accepted: true}, n.meet(ctx, r)
}

func (n *fakeNode) meet(ctx context.Context, request any) error {
	n.mu.Lock()
	n.asked = append(n.asked, request)
	fail, hang := n.fail, n.hang
	n.mu.Unlock()
	if hang {
		n.hanging <- struct{}{}
		<-ctx.Done()
		time.Sleep(n.linger)
		n.returned.Add(1)
		return ctx.Err()
	}
	return fail
}

func (n *fakeNode) calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

func (n *fakeNode) last() any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[len(n.asked)-1]
}

func (n *fakeNode) Status(ctx context.Context, r *duoflowv1.StatusRequest) (*duoflowv1.StatusResponse, error) {
	return n.status, n.meet(ctx, r)
}

func (n *fakeNode) Switchover(ctx context.Context, r *duoflowv1.SwitchoverRequest) (*duoflowv1.TransferResponse, error) {
	return &duoflowv1.TransferResponse{Accepted: true, Job: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) Failover(ctx context.Context, r *duoflowv1.FailoverRequest) (*duoflowv1.TransferResponse, error) {
	return &duoflowv1.TransferResponse{Accepted: true, Job: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) Restart(ctx context.Context, r *duoflowv1.RestartRequest) (*duoflowv1.TransferResponse, error) {
	return &duoflowv1.TransferResponse{Accepted: true, Job: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) Cancel(ctx context.Context, r *duoflowv1.CancelRequest) (*duoflowv1.CancelResponse, error) {
	return &duoflowv1.CancelResponse{Accepted: true}, n.meet(ctx, r)
}

func (n *fakeNode) Pause(ctx context.Context, r *duoflowv1.PauseRequest) (*duoflowv1.PauseResponse, error) {
	after := &duoflowv1.PauseStatus{Level: r.GetLevel(), By: admin.CallerName(ctx)}
	return &duoflowv1.PauseResponse{Accepted: true, Job: r.GetJob(), After: after}, n.meet(ctx, r)
}

func (n *fakeNode) Resume(ctx context.Context, r *duoflowv1.ResumeRequest) (*duoflowv1.PauseResponse, error) {
	return &duoflowv1.PauseResponse{Accepted: true, Job: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) History(ctx context.Context, r *duoflowv1.HistoryRequest) (*duoflowv1.HistoryResponse, error) {
	return n.history, n.meet(ctx, r)
}

func (n *fakeNode) Explain(ctx context.Context, r *duoflowv1.ExplainRequest) (*duoflowv1.ExplainResponse, error) {
	return &duoflowv1.ExplainResponse{Job: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) Logs(ctx context.Context, r *duoflowv1.LogsRequest) (*duoflowv1.LogsResponse, error) {
	return &duoflowv1.LogsResponse{Lines: []string{r.GetJob()}}, n.meet(ctx, r)
}

func (n *fakeNode) Config(ctx context.Context, r *duoflowv1.ConfigRequest) (*duoflowv1.ConfigResponse, error) {
	return &duoflowv1.ConfigResponse{Candidate: r.GetCandidate()}, n.meet(ctx, r)
}

func (n *fakeNode) Doctor(ctx context.Context, r *duoflowv1.DoctorRequest) (*duoflowv1.DoctorResponse, error) {
	return &duoflowv1.DoctorResponse{Mode: "fenced"}, n.meet(ctx, r)
}

func (n *fakeNode) Backup(ctx context.Context, r *duoflowv1.BackupRequest) (*duoflowv1.BackupResponse, error) {
	return &duoflowv1.BackupResponse{Cluster: "prod"}, n.meet(ctx, r)
}

func (n *fakeNode) Progress(ctx context.Context, r *duoflowv1.ProgressRequest) (*duoflowv1.ProgressResponse, error) {
	return &duoflowv1.ProgressResponse{Node: r.GetJob()}, n.meet(ctx, r)
}

func (n *fakeNode) Spread(ctx context.Context, r *duoflowv1.SpreadRequest) (*duoflowv1.SpreadResponse, error) {
	return &duoflowv1.SpreadResponse{Moves: []*duoflowv1.SpreadMove{{Job: "scheduler", From: "a", To: "b"}}}, n.meet(ctx, r)
}
