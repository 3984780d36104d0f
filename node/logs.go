package node

import (
	"context"
	"fmt"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/node/admin"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Logs shows what a job has written on this host.
func (o *Operators) Logs(_ context.Context, req *duoflowv1.LogsRequest) (*duoflowv1.LogsResponse, error) {
	for _, s := range o.n.seats {
		if string(s.name) != req.GetJob() || s.hosted == nil {
			continue
		}
		after := airflowctl.Mark{File: req.GetAfter().GetFile(), Offset: req.GetAfter().GetOffset()}
		lines, mark, err := s.hosted.Output(after, int(req.GetLines()))
		if err != nil {
			return nil, fmt.Errorf("job %s on %s: %w", s.name, o.n.self, err)
		}
		return &duoflowv1.LogsResponse{
			Node: string(o.n.self), Lines: lines, Mark: &duoflowv1.LogMark{File: mark.File, Offset: mark.Offset},
		}, nil
	}
	return nil, &admin.Problem{
		Kind: duoflowv1.Problem_KIND_USAGE, What: fmt.Sprintf("node %s runs no job %q", o.n.self, req.GetJob()),
		Mend: "ask a node that does, with a job of its configuration",
	}
}
