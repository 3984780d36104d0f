package node

import (
	"context"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Backup takes a picture of what the cluster has agreed on.
func (o *Operators) Backup(ctx context.Context, req *duoflowv1.BackupRequest) (*duoflowv1.BackupResponse, error) {
	n := o.n
	view, err := n.viewFor(ctx, !req.GetLocal())
	if err != nil {
		return nil, err
	}
	raft := n.log.Status()
	state, index := n.wire.ledger.picture()
	return &duoflowv1.BackupResponse{
		View: view, Cluster: n.cfg.Cluster, Life: raft.Life.String(), Node: string(n.self), Version: n.version,
		Index: max(index, raft.Applied), Term: raft.Term, AtUnixMs: n.machine.Wall().UnixMilli(), State: state,
	}, nil
}
