package node

import (
	"context"
	"fmt"

	"github.com/duoflow/duoflow/node/admin"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Doctor examines this node: it performs a fence against a scratch role of every job, or of the one asked for.
func (o *Operators) Doctor(ctx context.Context, req *duoflowv1.DoctorRequest) (*duoflowv1.DoctorResponse, error) {
	n := o.n
	answer := &duoflowv1.DoctorResponse{Node: string(n.self)}
	answer.Findings = n.examine()
	for _, s := range n.seats {
		if s.hosted == nil || (req.GetJob() != "" && req.GetJob() != string(s.name)) {
			continue
		}
		report, err := s.hosted.Doctor(ctx)
		if err != nil {
			return nil, &admin.Problem{
				Kind: duoflowv1.Problem_KIND_FAILED, What: fmt.Sprintf("job %s: examine metastore: %v", s.name, err),
				Mend: "check fence.dsn of this node and that Postgres answers",
			}
		}
		if answer.GetMode() != "lease-only" {
			answer.Mode = report.Mode
		}
		for _, f := range report.Findings {
			answer.Findings = append(answer.Findings, &duoflowv1.Finding{
				Job: string(s.name), Name: f.Name, Ok: f.OK, Detail: f.Detail, Mend: f.Mend,
			})
		}
	}
	return answer, nil
}
