package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// dialWithin bounds one try to connect. A connection whose packets are not acknowledged for as long is given up.
const dialWithin = 2 * time.Second

// Dial returns a connection of the operator "lab", an admin, from a host to a node's operators' service. It connects when it is
// used, and anew when it was lost.
func (c *Cluster) Dial(from, node string) (*grpc.ClientConn, error) {
	secured, err := c.operatorTLS()
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, addr string) (conn net.Conn, err error) {
		err = c.lab.Net.Do(from, func() error {
			conn, err = (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp4", addr)
			return err
		})
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Nodes[node].Admin(),
		grpc.WithContextDialer(dial), grpc.WithTransportCredentials(credentials.NewTLS(secured)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: dialWithin,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: dialWithin}))
	if err != nil {
		return nil, fmt.Errorf("dial node %s from %s: %w", node, from, err)
	}
	return conn, nil
}

func (c *Cluster) operatorTLS() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.tls, "lab.pem"), filepath.Join(c.tls, "lab.key"))
	if err != nil {
		return nil, fmt.Errorf("read operator's certificate: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(c.tls, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("read cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
