package admin

import (
	"context"
	"runtime"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// service hands requests that the guard has let through to the node.
type service struct {
	duoflowv1.UnimplementedAdminServer
	node    Node
	version string
}

func (s *service) Status(
	ctx context.Context, request *duoflowv1.StatusRequest,
) (*duoflowv1.StatusResponse, error) {
	return s.node.Status(ctx, request)
}

func (s *service) Switchover(
	ctx context.Context, request *duoflowv1.SwitchoverRequest,
) (*duoflowv1.TransferResponse, error) {
	ctx, cancel := limit(ctx, request.GetTimeoutMs())
	defer cancel()
	return s.node.Switchover(ctx, request)
}

func (s *service) Failover(
	ctx context.Context, request *duoflowv1.FailoverRequest,
) (*duoflowv1.TransferResponse, error) {
	ctx, cancel := limit(ctx, request.GetTimeoutMs())
	defer cancel()
	return s.node.Failover(ctx, request)
}

func (s *service) Restart(
	ctx context.Context, request *duoflowv1.RestartRequest,
) (*duoflowv1.TransferResponse, error) {
	ctx, cancel := limit(ctx, request.GetTimeoutMs())
	defer cancel()
	return s.node.Restart(ctx, request)
}

func (s *service) Cancel(
	ctx context.Context, request *duoflowv1.CancelRequest,
) (*duoflowv1.CancelResponse, error) {
	return s.node.Cancel(ctx, request)
}

func (s *service) Pause(
	ctx context.Context, request *duoflowv1.PauseRequest,
) (*duoflowv1.PauseResponse, error) {
	ctx, cancel := limit(ctx, request.GetTimeoutMs())
	defer cancel()
	return s.node.Pause(ctx, request)
}

func (s *service) Resume(
	ctx context.Context, request *duoflowv1.ResumeRequest,
) (*duoflowv1.PauseResponse, error) {
	return s.node.Resume(ctx, request)
}

func (s *service) ChangeMember(
	ctx context.Context, request *duoflowv1.ChangeMemberRequest,
) (*duoflowv1.ChangeMemberResponse, error) {
	ctx, cancel := limit(ctx, request.GetTimeoutMs())
	defer cancel()
	return s.node.ChangeMember(ctx, request)
}

func (s *service) History(
	ctx context.Context, request *duoflowv1.HistoryRequest,
) (*duoflowv1.HistoryResponse, error) {
	if request.GetLimit() == 0 {
		request.Limit = defaultHistory
	}
	return s.node.History(ctx, request)
}

func (s *service) Explain(
	ctx context.Context, request *duoflowv1.ExplainRequest,
) (*duoflowv1.ExplainResponse, error) {
	return s.node.Explain(ctx, request)
}

func (s *service) Logs(
	ctx context.Context, request *duoflowv1.LogsRequest,
) (*duoflowv1.LogsResponse, error) {
	if request.GetLines() == 0 {
		request.Lines = defaultLines
	}
	return s.node.Logs(ctx, request)
}

func (s *service) Config(
	ctx context.Context, request *duoflowv1.ConfigRequest,
) (*duoflowv1.ConfigResponse, error) {
	return s.node.Config(ctx, request)
}

func (s *service) Doctor(
	ctx context.Context, request *duoflowv1.DoctorRequest,
) (*duoflowv1.DoctorResponse, error) {
	return s.node.Doctor(ctx, request)
}

func (s *service) Progress(
	ctx context.Context, request *duoflowv1.ProgressRequest,
) (*duoflowv1.ProgressResponse, error) {
	return s.node.Progress(ctx, request)
}

func (s *service) Backup(
	ctx context.Context, request *duoflowv1.BackupRequest,
) (*duoflowv1.BackupResponse, error) {
	return s.node.Backup(ctx, request)
}

func (s *service) Version(
	context.Context, *duoflowv1.VersionRequest,
) (*duoflowv1.VersionResponse, error) {
	return &duoflowv1.VersionResponse{
		Version: s.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}, nil
}

// limit ends the context after millis; 0 leaves it to the call's own deadline.
func limit(ctx context.Context, millis uint64) (context.Context, context.CancelFunc) {
	if millis == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(millis)*time.Millisecond)
}

func (s *service) Spread(
	ctx context.Context, request *duoflowv1.SpreadRequest,
) (*duoflowv1.SpreadResponse, error) {
	return s.node.Spread(ctx, request)
}
