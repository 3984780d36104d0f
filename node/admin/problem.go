package admin

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Problem is a refusal that tells the operator what is wrong, where, and what to do. It travels as the
// detail of a gRPC status, and duoctl turns its Kind into an exit code.
type Problem struct {
	// Kind must not be KIND_UNSPECIFIED.
	Kind duoflowv1.Problem_Kind
	// What is wrong, and where: "job scheduler: node t is a witness".
	What string
	// Mend is what to do; "" when there is nothing to say.
	Mend string
}

// Error is What, then Mend.
func (p *Problem) Error() string {
	if p.Mend == "" {
		return p.What
	}
	return p.What + "; " + p.Mend
}

// codeOf is the gRPC code of each kind, as admin.proto documents it.
var codeOf = map[duoflowv1.Problem_Kind]codes.Code{
	duoflowv1.Problem_KIND_USAGE:     codes.InvalidArgument,
	duoflowv1.Problem_KIND_UNSAFE:    codes.FailedPrecondition,
	duoflowv1.Problem_KIND_NO_QUORUM: codes.Unavailable,
	duoflowv1.Problem_KIND_TIMEOUT:   codes.DeadlineExceeded,
	duoflowv1.Problem_KIND_MOVED:     codes.Aborted,
	duoflowv1.Problem_KIND_FAILED:    codes.Internal,
	duoflowv1.Problem_KIND_DENIED:    codes.PermissionDenied,
}

// GRPCStatus makes the status that travels; gRPC calls it.
func (p *Problem) GRPCStatus() *status.Status {
	code, ok := codeOf[p.Kind]
	if !ok {
		code = codes.Internal
	}
	detail := &duoflowv1.Problem{Kind: p.Kind, What: p.What, Mend: p.Mend}
	repair(detail)
	text := (&Problem{What: detail.GetWhat(), Mend: detail.GetMend()}).Error()
	full, err := status.New(code, text).WithDetails(detail)
	if err != nil {
		panic(fmt.Sprintf("marshal problem: %v", err)) // every field was made valid
	}
	return full
}

// statusError makes every error one that carries a status, and every one of a Node a Problem.
func statusError(err error) error {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem.GRPCStatus().Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	kind := duoflowv1.Problem_KIND_FAILED
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		kind = duoflowv1.Problem_KIND_TIMEOUT
	}
	return (&Problem{Kind: kind, What: err.Error()}).GRPCStatus().Err()
}
