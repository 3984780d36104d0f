package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// link is one endpoint. It connects at the first call.
type link struct {
	endpoint string
	conn     *grpc.ClientConn
	admin    duoflowv1.AdminClient
}

// links makes one link per endpoint; the caller closes them with closeAll.
func (a *app) links() ([]*link, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	return s.links()
}

// linkTo makes a link to a node that another one has named.
func (a *app) linkTo(address string) (*link, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	s.Endpoints = []string{address}
	all, err := s.links()
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (s settings) links() ([]*link, error) {
	transport, err := s.credentials()
	if err != nil {
		return nil, err
	}
	var all []*link
	for _, endpoint := range s.Endpoints {
		conn, err := grpc.NewClient("passthrough:///"+endpoint,
			grpc.WithTransportCredentials(transport),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("endpoint %s: %w", endpoint, err)
		}
		all = append(all, &link{endpoint: endpoint, conn: conn, admin: duoflowv1.NewAdminClient(conn)})
	}
	return all, nil
}

func closeAll(links []*link) {
	for _, l := range links {
		l.conn.Close()
	}
}

// credentials are mutual TLS, or none when every endpoint is a loopback address.
func (s settings) credentials() (credentials.TransportCredentials, error) {
	if s.CA == "" {
		return insecure.NewCredentials(), s.checkLoopback()
	}
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return nil, usage(fmt.Sprintf("load certificate %s with key %s: %v", s.Cert, s.Key, err), "check --cert and --key")
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, usage(fmt.Sprintf("load authority: %v", err), "check --ca")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usage(fmt.Sprintf("load authority: %s holds no certificate", s.CA), "check --ca")
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS13,
	}), nil
}

func (s settings) checkLoopback() error {
	for _, endpoint := range s.Endpoints {
		host, _, _ := net.SplitHostPort(endpoint) // checked by settings.check
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return usage(fmt.Sprintf("endpoint %s is not on this host and no certificates are given", endpoint),
				"give --ca, --cert and --key")
		}
	}
	return nil
}

// try gives one of the remaining links its share of the time that is left.
func try[T any](
	ctx context.Context, remaining int, l *link, call func(context.Context, duoflowv1.AdminClient) (T, error),
) (T, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(remaining))
		defer cancel()
	}
	return call(ctx, l.admin)
}

// isSilent says that no node answered: the next endpoint may.
func isSilent(err error) bool {
	code := status.Code(err)
	return problemOf(err) == nil && (code == codes.Unavailable || code == codes.DeadlineExceeded)
}

// noAnswer joins the failures of all endpoints: a timeout only if each was one.
func noAnswer(silent []error) error {
	if len(silent) == 1 {
		return silent[0]
	}
	f := &failure{code: exitTimeout}
	texts := make([]string, 0, len(silent))
	for _, err := range silent {
		texts = append(texts, err.Error())
		if exitCode(err) != exitTimeout {
			f.code = exitFailed
		}
	}
	f.what = "no endpoint answered: " + strings.Join(texts, "; ")
	f.mend = mendHandshake(f.what)
	return f
}

// viewed is an answer that says how far it can be trusted.
type viewed interface{ GetView() *duoflowv1.View }

// best asks the endpoints in turn until an answer is authoritative; else the first local view must do.
// A refusal by a node ends it, for the other nodes would say the same; but one that has no quorum speaks for itself alone.
func best[T viewed](
	ctx context.Context, links []*link, call func(context.Context, duoflowv1.AdminClient) (T, error),
) (T, *link, error) {
	var local T
	var from *link
	var alone error // the first refusal for want of a quorum
	var silent []error
	for i, l := range links {
		answer, err := try(ctx, len(links)-i, l, call)
		switch {
		case problemOf(err).GetKind() == duoflowv1.Problem_KIND_NO_QUORUM:
			alone = cmp.Or(alone, remote(l.endpoint, err))
		case err != nil && !isSilent(err):
			return local, l, remote(l.endpoint, err)
		case err != nil:
			silent = append(silent, remote(l.endpoint, err))
		case answer.GetView().GetAuthoritative():
			return answer, l, nil
		case from == nil:
			local, from = answer, l
		}
	}
	switch {
	case from != nil:
		return local, from, nil
	case alone != nil:
		return local, nil, alone
	}
	return local, nil, noAnswer(silent)
}

func statusCall(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.StatusResponse, error) {
	return admin.Status(ctx, &duoflowv1.StatusRequest{})
}

// interrupted says that the operator, not the cluster, ended the command.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
