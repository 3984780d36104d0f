package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ErrStranger marks, wrapped in the error of a tls.Config's VerifyConnection, a sound certificate of somebody who has
// no business here.
var ErrStranger = errors.New("not one of those who have business here")

// Credentials makes guests known to the handlers of a gRPC server, see From, and refuses those that inner refuses.
func Credentials(inner credentials.TransportCredentials) credentials.TransportCredentials {
	return shaking{inner}
}

type shaking struct {
	credentials.TransportCredentials
}

// authInfo is what gRPC keeps of a connection.
type authInfo struct {
	credentials.AuthInfo
	guest *Guest
}

// ServerHandshake implements credentials.TransportCredentials.
func (s shaking) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	guest, ok := conn.(*Guest)
	if !ok {
		return nil, nil, errors.New("the listener has no door")
	}
	guest.shake(true, false)
	secured, info, err := s.TransportCredentials.ServerHandshake(conn)
	guest.shake(false, err == nil)
	if err != nil {
		guest.Refuse(reasonOf(err), err)
		return nil, nil, err
	}
	return secured, authInfo{info, guest}, nil
}

func (g *Guest) shake(under, done bool) {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	g.shaking, g.shaken = under, done
}

// Clone implements credentials.TransportCredentials.
func (s shaking) Clone() credentials.TransportCredentials {
	return shaking{s.TransportCredentials.Clone()}
}

// reasonOf sorts the error of a handshake.
func reasonOf(err error) Reason {
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		return Plain
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Silent
	case errors.Is(err, ErrStranger):
		return Stranger
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Closed
	}
	return Handshake
}

// From finds the guest that a call of a gRPC server came from, and its TLS connection, nil without TLS.
func From(ctx context.Context) (*Guest, *tls.ConnectionState, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, nil, false
	}
	info, ok := p.AuthInfo.(authInfo)
	if !ok {
		return nil, nil, false
	}
	if secured, ok := info.AuthInfo.(credentials.TLSInfo); ok {
		return info.guest, &secured.State, true
	}
	return info.guest, nil, true
}
