package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
)

// guard stands before every call: who asks, may they, is the request well formed; and it keeps the log.
type guard struct {
	log  *slog.Logger
	open bool // the listener has no TLS
	tls  *tls.Config
}

func (g *guard) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	began := time.Now()
	verb := strings.ToLower(path.Base(info.FullMethod))
	who, err := callerOf(ctx, g.open)
	if err == nil {
		err = g.stillGood(ctx, who)
	}
	if err == nil {
		err = permit(who, verb, needs(info.FullMethod, request))
	}
	if err == nil {
		err = check(request)
	}
	if err != nil {
		g.record(ctx, slog.LevelWarn, who, verb, err, began)
		return nil, statusError(err)
	}
	who.guest.Admit(who.name)
	response, err := handle(context.WithValue(ctx, callerKey{}, who.name), request)
	g.record(ctx, levelOf(info.FullMethod), who, verb, err, began)
	if err != nil {
		return nil, statusError(err)
	}
	repair(response)
	return response, nil
}

// stillGood looks at the certificate as if the connection were new: an operator may keep one open for long, and what was true when it
// was made, that his authority is trusted and has not taken the certificate back, need not be any more.
func (g *guard) stillGood(ctx context.Context, who caller) error {
	_, secured, ok := door.From(ctx)
	if g.open || !ok {
		return nil
	}
	fresh := g.tls
	if fresh.GetConfigForClient != nil {
		now, err := fresh.GetConfigForClient(&tls.ClientHelloInfo{})
		if err != nil {
			return fmt.Errorf("look at certificate: %w", err)
		}
		if now != nil {
			fresh = now
		}
	}
	err := verify(fresh, *secured)
	if err == nil {
		return nil
	}
	who.guest.Shaken(err)
	return &Problem{
		Kind: duoflowv1.Problem_KIND_DENIED, What: fmt.Sprintf("the certificate of %q is not good any more: %v", who.name, err),
		Mend: "have another one made: duoctl tls issue",
	}
}

// verify is what a handshake does with a client's certificate.
func verify(config *tls.Config, state tls.ConnectionState) error {
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: config.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil && config.VerifyConnection != nil {
		err = config.VerifyConnection(state)
	}
	return err
}

// refuseUnknown sends away who calls for another service.
func refuseUnknown(_ any, stream grpc.ServerStream) error {
	if guest, _, ok := door.From(stream.Context()); ok {
		guest.Refuse(door.Protocol, errors.New("it called for a service that is not here"))
	}
	return status.Error(codes.Unimplemented, "only operators of duoflow are served here")
}

func permit(who caller, verb string, need role) error {
	if who.role >= need {
		return nil
	}
	return &Problem{
		Kind: duoflowv1.Problem_KIND_DENIED,
		What: fmt.Sprintf("%s needs the role %s, the certificate of %q is a %s", verb, need, who.name, who.role),
		Mend: fmt.Sprintf("use a certificate whose OU is %s", need),
	}
}

// levelOf keeps what dashboards poll out of the log, and in it what changes the cluster.
func levelOf(method string) slog.Level {
	if needed[method] == viewer {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (g *guard) record(
	ctx context.Context, level slog.Level, who caller, verb string, err error, began time.Time,
) {
	attrs := []slog.Attr{
		slog.String("caller", who.name), slog.String("peer", who.addr), slog.String("verb", verb),
		slog.Duration("took", time.Since(began)),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	g.log.LogAttrs(ctx, level, "operator request", attrs...)
}
