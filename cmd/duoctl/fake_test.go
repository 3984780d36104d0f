package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// fakeCluster behaves like a node that leads: it moves the job scheduler between a and b.
type fakeCluster struct {
	mu       sync.Mutex
	status   *duoflowv1.StatusResponse
	history  *duoflowv1.HistoryResponse
	doctor   *duoflowv1.DoctorResponse
	progress *duoflowv1.ProgressResponse
	moved    bool          // the job moves between the operator's look and the request
	slow     bool          // a transfer goes on only when its progress has been looked at
	stuck    bool          // a transfer never completes
	broken   error         // what a transfer answers instead of being carried out
	looked   chan struct{} // told at each Status, when somebody waits
	changes  int           // transfers carried out, or changes of members
	asked    []string      // changes of members, in order
	spread   []string      // jobs that are to go from a to b
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		status: sampleStatus(), history: sampleHistory(), doctor: sampleDoctor(), progress: sampleProgress(), looked: make(chan struct{}),
	}
}

func (c *fakeCluster) loseQuorum() {
	c.status.View = &duoflowv1.View{AgeMs: 12_345, Reason: "local view: no quorum"}
	c.history.View = c.status.GetView()
	c.status.Leader = ""
}

func (c *fakeCluster) Status(context.Context, *duoflowv1.StatusRequest) (*duoflowv1.StatusResponse, error) {
	c.mu.Lock()
	answer := proto.Clone(c.status).(*duoflowv1.StatusResponse)
	c.mu.Unlock()
	select {
	case c.looked <- struct{}{}:
	default:
	}
	return answer, nil
}

func (c *fakeCluster) Switchover(
	ctx context.Context, r *duoflowv1.SwitchoverRequest,
) (*duoflowv1.TransferResponse, error) {
	if r.GetInMs() > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		job := c.status.GetJobs()[1]
		job.Planned = &duoflowv1.PlannedMove{To: r.GetTo(), LeftMs: r.GetInMs(), By: admin.CallerName(ctx)}
		return &duoflowv1.TransferResponse{Accepted: true, Job: r.GetJob(), EpochBefore: job.GetEpoch(), From: job.GetHolder(), To: r.GetTo()}, nil
	}
	return c.transfer(ctx, &duoflowv1.FailoverRequest{
		Job: r.GetJob(), To: r.GetTo(), DryRun: r.GetDryRun(), Wait: r.GetWait(), ExpectEpoch: r.GetExpectEpoch(),
	})
}

func (c *fakeCluster) Restart(
	ctx context.Context, r *duoflowv1.RestartRequest,
) (*duoflowv1.TransferResponse, error) {
	return c.transfer(ctx, &duoflowv1.FailoverRequest{
		Job: r.GetJob(), To: "a", DryRun: r.GetDryRun(), Wait: r.GetWait(), ExpectEpoch: r.GetExpectEpoch(),
	})
}

func (c *fakeCluster) Cancel(_ context.Context, r *duoflowv1.CancelRequest) (*duoflowv1.CancelResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	job := c.status.GetJobs()[1]
	answer := &duoflowv1.CancelResponse{Accepted: job.GetPlanned() != nil, Planned: job.GetPlanned()}
	switch {
	case answer.GetAccepted() && !r.GetDryRun():
		job.Planned = nil
	case answer.GetAccepted():
	case r.GetDryRun():
		answer.Reason = "no move is asked for or planned"
	default:
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: "job scheduler: no move is asked for or planned"}
	}
	return answer, nil
}

func (c *fakeCluster) Pause(ctx context.Context, r *duoflowv1.PauseRequest) (*duoflowv1.PauseResponse, error) {
	pause := &duoflowv1.PauseStatus{Level: r.GetLevel(), ForMs: r.GetForMs(), By: admin.CallerName(ctx), Reason: r.GetReason()}
	if r.GetForMs() > 0 {
		pause.LeftMs = &r.ForMs
	}
	answer, err := c.hold(pause, r.GetExpectOrder(), r.GetDryRun())
	if err == nil && r.GetWait() && !r.GetDryRun() && r.GetLevel() == "stopped" {
		answer.Completed = true
	}
	return answer, err
}

func (c *fakeCluster) Resume(_ context.Context, r *duoflowv1.ResumeRequest) (*duoflowv1.PauseResponse, error) {
	return c.hold(nil, r.GetExpectOrder(), r.GetDryRun())
}

func (c *fakeCluster) hold(pause *duoflowv1.PauseStatus, seen uint64, dryRun bool) (*duoflowv1.PauseResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	job := c.status.GetJobs()[1]
	if c.moved {
		job.Order++
	}
	answer := &duoflowv1.PauseResponse{Accepted: true, Job: job.GetName(), Before: job.GetPause(), After: pause}
	switch {
	case seen != job.GetOrder():
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_MOVED, What: "job scheduler: another order was given since"}
	case pause == nil && job.GetPause() == nil && dryRun:
		return &duoflowv1.PauseResponse{Job: job.GetName(), Reason: "it is not paused"}, nil
	case pause == nil && job.GetPause() == nil:
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: "job scheduler: it is not paused"}
	case !dryRun:
		c.changes++
		job.Pause, job.Order = pause, job.GetOrder()+1
	}
	return answer, nil
}

func (c *fakeCluster) Failover(
	ctx context.Context, r *duoflowv1.FailoverRequest,
) (*duoflowv1.TransferResponse, error) {
	return c.transfer(ctx, r)
}

func (c *fakeCluster) transfer(
	ctx context.Context, r *duoflowv1.FailoverRequest,
) (*duoflowv1.TransferResponse, error) {
	job := c.status.GetJobs()[1]
	answer, err := c.decide(r, job)
	if err != nil || !answer.GetAccepted() || r.GetDryRun() {
		return answer, err
	}
	if c.stuck {
		<-ctx.Done()
		return nil, &admin.Problem{
			Kind: duoflowv1.Problem_KIND_TIMEOUT, What: "job scheduler: a is still stopping", Mend: "look with duoctl status",
		}
	}
	if err := c.show(ctx, job.GetNodes()[0], "stopping"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	job.Epoch, job.Holder = answer.GetEpochAfter(), answer.GetTo()
	if r.GetWait() {
		answer.Completed = true
		answer.Phases = []*duoflowv1.PhaseTook{{Name: "stop", Millis: 31.25}, {Name: "fence", Millis: 4.5}, {Name: "start", Millis: 1250}}
	}
	return answer, nil
}

// decide is what the leader would say.
func (c *fakeCluster) decide(r *duoflowv1.FailoverRequest, job *duoflowv1.JobStatus) (*duoflowv1.TransferResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved {
		job.Epoch++
	}
	to := r.GetTo()
	if to == "" {
		to = "b"
	}
	switch {
	case c.broken != nil:
		return nil, c.broken
	case !c.status.GetView().GetAuthoritative() && !r.GetForce():
		return nil, &admin.Problem{
			Kind: duoflowv1.Problem_KIND_NO_QUORUM, What: "no majority of nodes can be reached", Mend: "bring a node back, or use failover --force",
		}
	case r.GetExpectEpoch() != job.GetEpoch():
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_MOVED, What: fmt.Sprintf("job scheduler is at epoch %d by now", job.GetEpoch())}
	case to == "t" && r.GetDryRun():
		return &duoflowv1.TransferResponse{Reason: "node t is a witness", Job: r.GetJob(), EpochBefore: job.GetEpoch(), From: job.GetHolder()}, nil
	case to == "t":
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: "node t is a witness", Mend: "name another node"}
	}
	return &duoflowv1.TransferResponse{
		Accepted: true, Job: r.GetJob(), EpochBefore: job.GetEpoch(), EpochAfter: job.GetEpoch() + 1, From: job.GetHolder(), To: to,
	}, nil
}

// show puts a node into a state, and when slow waits until somebody has seen it.
func (c *fakeCluster) show(ctx context.Context, node *duoflowv1.JobOnNode, state string) error {
	c.mu.Lock()
	node.State = state
	c.mu.Unlock()
	for range 2 { // the first look may have begun before the change
		if !c.slow {
			return nil
		}
		select {
		case <-c.looked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *fakeCluster) History(_ context.Context, r *duoflowv1.HistoryRequest) (*duoflowv1.HistoryResponse, error) {
	answer := proto.Clone(c.history).(*duoflowv1.HistoryResponse)
	answer.Entries = answer.Entries[:min(len(answer.Entries), int(r.GetLimit()))]
	return answer, nil
}

func (c *fakeCluster) Doctor(context.Context, *duoflowv1.DoctorRequest) (*duoflowv1.DoctorResponse, error) {
	return c.doctor, nil
}

// Spread plans to move jobs from a to b; only scheduler can be moved here.
func (c *fakeCluster) Spread(context.Context, *duoflowv1.SpreadRequest) (*duoflowv1.SpreadResponse, error) {
	answer := &duoflowv1.SpreadResponse{View: c.status.GetView(), Loads: []*duoflowv1.NodeLoad{
		{Node: "a", Now: 3, Then: 3 - uint32(len(c.spread))}, {Node: "b", Then: uint32(len(c.spread))},
	}}
	for i, job := range c.spread {
		answer.Moves = append(answer.Moves, &duoflowv1.SpreadMove{Job: job, From: "a", To: "b", Epoch: 12 + uint64(i), Weight: 1})
	}
	return answer, nil
}

func sampleStatus() *duoflowv1.StatusResponse {
	healthy := &duoflowv1.MetastoreStatus{Reachable: true, Writable: true}
	return &duoflowv1.StatusResponse{
		Cluster: "prod", Node: "a", View: &duoflowv1.View{Authoritative: true}, Term: 7, Leader: "t", Commit: 120, Applied: 120, Life: "0",
		Nodes: []*duoflowv1.NodeStatus{
			{Name: "a", Address: "10.0.0.1:7400", Version: "v1.2.3", RaftRole: "follower", GossipState: "alive", Connected: true,
				LastBeatAgeMs: proto.Uint64(0), FsyncP99Ms: 2.25},
			{Name: "b", Address: "10.0.0.2:7400", Version: "v1.2.3", RaftRole: "doubtful", GossipState: "suspect",
				LastBeatAgeMs: proto.Uint64(4120), RttMs: 0.42, FsyncP99Ms: 18.4, Trouble: "the raft log has a bad checksum at index 119"},
			{Name: "t", Witness: true, Address: "10.0.0.3:7400", RaftRole: "leader", Connected: true},
		},
		Jobs: []*duoflowv1.JobStatus{
			{Name: "etl", Kind: "command", Follow: "scheduler", Unsafe: true, UnsafeReason: "fence: lease-only", Nodes: []*duoflowv1.JobOnNode{
				{Node: "a", State: "standby", IneligibleReason: "not the active node of scheduler"},
			}},
			{Name: "scheduler", Kind: "airflow", Epoch: 12, Holder: "a", Phase: "granted",
				Fence: &duoflowv1.FenceRow{Epoch: 12, Node: "a"}, MirrorAgeMs: proto.Uint64(2100),
				SuspectReason: "no loop for 3 s", Pending: &duoflowv1.PendingTransfer{Kind: "switchover", To: "b", AgeMs: 320},
				Nodes: []*duoflowv1.JobOnNode{
					{Node: "a", State: "active", Epoch: 12, WarmReady: true, Eligible: true, Metastore: healthy, ProgressAgeMs: proto.Uint64(3050),
						DetectionMs: 621, DetectionReason: "raised from 300ms to 621ms: its beats come up to 207ms apart (p99.9 of 1216)"},
					{Node: "b", State: "standby", WarmReady: true, IneligibleReason: "metastore", Metastore: &duoflowv1.MetastoreStatus{
						Error: "connect:\n\tconnection refused",
					}},
					{Node: "t", State: "witness", IneligibleReason: "witness"},
				}},
			{Name: "tiles", Kind: "command", Epoch: 4, Holder: "a", Phase: "granted", Fence: &duoflowv1.FenceRow{Epoch: 4, Node: "a"},
				Nodes: []*duoflowv1.JobOnNode{
					{Node: "a", State: "active", Epoch: 4, Eligible: true, Metastore: healthy, StatusAgeMs: proto.Uint64(1240),
						Schedule: "slot 2026-11-25T02:00:00Z runs since 2026-11-25T02:00:01Z",
						Status:   "2019: ingest 1.2 M rows\x1b[2J (3 of 12 chunks, 41 %, about 25 s left)"},
				}},
		},
	}
}

func sampleHistory() *duoflowv1.HistoryResponse {
	return &duoflowv1.HistoryResponse{View: &duoflowv1.View{Authoritative: true}, Entries: []*duoflowv1.HistoryEntry{
		{Job: "scheduler", Epoch: 12, Node: "a", Kind: "grant", Reason: "b: connection refused", AtUnixMs: 1_790_000_000_123, Index: 118,
			Phases: []*duoflowv1.PhaseTook{{Name: "fence", Millis: 8.5}, {Name: "start", Millis: 31}}},
		{Job: "scheduler", Epoch: 11, Node: "b", Kind: "release", Reason: "process ended with code 1", Index: 101,
			LastLines: []string{"Traceback (most recent call last):", "\x1b[31mOperationalError\x1b[0m"}},
	}}
}

func sampleDoctor() *duoflowv1.DoctorResponse {
	return &duoflowv1.DoctorResponse{Node: "a", Mode: "lease-only", Findings: []*duoflowv1.Finding{
		{Name: "fsync", Ok: true, Detail: "p99 2.3 ms"},
		{Job: "scheduler", Name: "createrole", Detail: "role duoflow lacks CREATEROLE", Mend: "ALTER ROLE duoflow CREATEROLE"},
	}}
}

func (c *fakeCluster) Explain(_ context.Context, r *duoflowv1.ExplainRequest) (*duoflowv1.ExplainResponse, error) {
	if r.GetEpoch() > 12 {
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_FAILED, What: "job scheduler: epoch 13 is not in the history"}
	}
	return sampleTale(), nil
}

func (c *fakeCluster) Logs(_ context.Context, r *duoflowv1.LogsRequest) (*duoflowv1.LogsResponse, error) {
	lines := []string{"one", "two\x1b[2J", "three"}
	return &duoflowv1.LogsResponse{
		Node: "a", Lines: lines[max(0, len(lines)-int(r.GetLines())):], Mark: &duoflowv1.LogMark{File: 1, Offset: 9},
	}, nil
}

func (c *fakeCluster) Config(_ context.Context, r *duoflowv1.ConfigRequest) (*duoflowv1.ConfigResponse, error) {
	answer := &duoflowv1.ConfigResponse{Node: "a", Path: "/etc/duoflow/node.yaml", Text: "cluster: prod\ndetection: lan\n", Candidate: r.GetCandidate()}
	if strings.Contains(r.GetCandidate(), "quick") {
		answer.Problems = []string{`detection: "quick"; want fast, lan or wan`}
	}
	return answer, nil
}

func (c *fakeCluster) Progress(context.Context, *duoflowv1.ProgressRequest) (*duoflowv1.ProgressResponse, error) {
	return c.progress, nil
}

func (c *fakeCluster) Backup(_ context.Context, r *duoflowv1.BackupRequest) (*duoflowv1.BackupResponse, error) {
	view := c.status.GetView()
	if !r.GetLocal() && !view.GetAuthoritative() {
		return nil, &admin.Problem{Kind: duoflowv1.Problem_KIND_NO_QUORUM, What: "no majority confirms what is agreed on", Mend: "ask another node"}
	}
	state := sampleState()
	return &duoflowv1.BackupResponse{
		View: view, Cluster: "prod", Life: "0", Node: "a", Version: "v1.2.3", Index: 120, Term: 7, AtUnixMs: 1_790_000_000_123, State: state.Snapshot(),
	}, nil
}

// sampleState is what the cluster has agreed on.
func sampleState() lease.State {
	var s lease.State
	for i, c := range []lease.Command{
		{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}, Jobs: []lease.JobName{"etl", "scheduler"}}},
		{Grant: &lease.Grant{Job: "scheduler", Next: 12, Node: "a", Token: "0123456789abcdef0123456789abcdef", Cause: lease.CauseFirst, At: 1_790_000_000_000}},
		{Hold: &lease.Hold{Job: "etl", Pause: &lease.Pause{Level: lease.PauseMoves}, Cause: lease.CauseOperator}},
	} {
		s.ApplyAt(uint64(i+2), c)
	}
	return s
}
