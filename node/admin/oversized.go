package admin

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/duoflow/duoflow/raftstore/door"
)

// oversized ends the connection of who sends a request that is longer than any may be. gRPC answers it before the guard hears of the
// call, and tells nobody here.
type oversized struct{}

// receivedKey finds, in the context of a call, whether its request has been received whole: an answer may be too long as well.
type receivedKey struct{}

var _ stats.Handler = oversized{}

// TagRPC implements stats.Handler.
func (oversized) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, receivedKey{}, new(atomic.Bool))
}

// HandleRPC implements stats.Handler.
func (oversized) HandleRPC(ctx context.Context, event stats.RPCStats) {
	received, _ := ctx.Value(receivedKey{}).(*atomic.Bool)
	switch event := event.(type) {
	case *stats.InPayload:
		received.Store(true)
	case *stats.End:
		if guest, _, ok := door.From(ctx); ok && !received.Load() && status.Code(event.Error) == codes.ResourceExhausted {
			guest.Refuse(door.Protocol, event.Error)
		}
	}
}

// TagConn implements stats.Handler.
func (oversized) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (oversized) HandleConn(context.Context, stats.ConnStats) {}
