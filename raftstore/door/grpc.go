package door

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

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
	guest.Shaking()
	secured, info, err := s.TransportCredentials.ServerHandshake(conn)
	guest.Shaken(err)
	if err != nil {
		return nil, nil, err
	}
	return secured, authInfo{info, guest}, nil
}

// Clone implements credentials.TransportCredentials.
func (s shaking) Clone() credentials.TransportCredentials {
	return shaking{s.TransportCredentials.Clone()}
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
