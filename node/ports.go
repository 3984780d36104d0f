package node

import (
	"context"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/raftstore"
)

// replicatedLog is what the node needs of raftstore.
type replicatedLog interface {
	Run(ctx context.Context) error
	Propose(ctx context.Context, command []byte) error
	// Read returns nil when all that was committed before the call has been applied here.
	Read(ctx context.Context) error
	// Change makes one step to other members, and Examine says why it would not be made.
	Change(ctx context.Context, c raftstore.Change) error
	Examine(ctx context.Context, c raftstore.Change) error
	Broadcast(payload []byte)
	Status() raftstore.Status
	// Unwritable says why the log's disk takes no writes; "" = it does.
	Unwritable() string
	// Tick lets the log's time pass.
	Tick(n int)
}

// membership is what the node needs of gossip. Hints only: nothing that decides may read it.
type membership interface {
	Run(ctx context.Context) error
	Members() []gossip.Member
}

// HostedJob is one job as this host can run it; airflowctl.Job in production. Every method returns
// airflowctl.ErrSuperseded or airflowctl.ErrRefused, wrapped, when trying again is pointless; nil means done. Each
// is safe to repeat with the same arguments.
type HostedJob interface {
	Run(ctx context.Context) error
	Clear(ctx context.Context) error
	Take(ctx context.Context, claim fence.Claim) error
	Drain(ctx context.Context, claim fence.Claim) error
	Adopt(ctx context.Context, claim fence.Claim) error
	Start(ctx context.Context, claim fence.Claim) error
	Stop(ctx context.Context, epoch uint64, grace time.Duration) error
	Surrender(ctx context.Context, claim fence.Claim) error
	Mirror(ctx context.Context, claim fence.Claim) error
	Doctor(ctx context.Context) (fence.Report, error)
	Status() airflowctl.Status
	Output(after airflowctl.Mark, n int) ([]string, airflowctl.Mark, error)
	// Detail and Runs answer the operators' Progress.
	Detail() (airflowctl.Detail, error)
	Runs(ctx context.Context, limit int) ([]fence.PastRun, error)
}

var (
	_ HostedJob = (*airflowctl.Job)(nil)
	_ HostedJob = (*airflowctl.Shadow)(nil)
)
