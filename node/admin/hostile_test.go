package admin_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
)

// knock opens a connection to the server.
func knock(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// crowd opens connections and keeps them open. The server may reset one before the dial has seen it stand.
func crowd(t *testing.T, addr string, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", addr)
		switch {
		case err == nil:
			t.Cleanup(func() { conn.Close() })
		case !errors.Is(err, syscall.ECONNRESET):
			t.Fatal(err)
		}
	}
}

// gone wants the server to end a connection within ten seconds.
func gone(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return // a handshake that failed has closed it
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: still open", what)
	}
}

// TestStrangersAreTurnedAway: who does not come with a certificate and a permitted call has to go, and is told of.
func TestStrangersAreTurnedAway(t *testing.T) {
	authority := newAuthority(t)
	config := authority.server()
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if name := state.PeerCertificates[0].Subject.CommonName; name == "otto" {
			return fmt.Errorf("%w: %s", door.ErrRevoked, name)
		}
		return nil
	}
	server := serve(t, newFakeNode(), config)
	silent := knock(t, server.addr)
	idle := tls.Client(knock(t, server.addr), &tls.Config{
		RootCAs: authority.pool, ServerName: "127.0.0.1", NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{authority.issue("olga", "operator")},
	})
	if err := idle.Handshake(); err != nil {
		t.Fatal(err)
	}
	garbage := knock(t, server.addr)
	_, _ = garbage.Write([]byte(strings.Repeat("x", 1<<20))) // refused before its end
	request := knock(t, server.addr)
	_, _ = request.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	anonymous := tls.Client(knock(t, server.addr), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	_ = anonymous.Handshake()
	shown := func(certificate tls.Certificate) net.Conn {
		conn := tls.Client(knock(t, server.addr), &tls.Config{
			RootCAs: authority.pool, ServerName: "127.0.0.1", NextProtos: []string{"h2"}, Certificates: []tls.Certificate{certificate},
		})
		_ = conn.Handshake()
		return conn
	}
	old := *authority
	old.until = time.Now().Add(-time.Minute)
	expired, revoked := shown(old.issue("olaf", "operator")), shown(authority.issue("otto", "operator"))
	for what, conn := range map[string]net.Conn{
		"expired": expired, "revoked": revoked,
		"silent": silent, "idle": idle, "garbage": garbage, "request": request, "anonymous": anonymous,
	} {
		gone(t, what, conn)
	}
	for _, reason := range []string{"silent", "plain", "handshake", "expired", "revoked"} {
		eventually(t, "told of "+reason, func() bool {
			return strings.Contains(server.log.String(), "port=admin reason="+reason)
		})
	}
}

// TestOperatorGetsThroughACrowd: many silent connections from the operator's own address.
func TestOperatorGetsThroughACrowd(t *testing.T) {
	authority := newAuthority(t)
	server := serve(t, newFakeNode(), authority.server())
	client := dial(t, server.addr, authority.client(authority.issue("vera", "viewer")))
	crowd(t, server.addr, 300)
	if _, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
	eventually(t, "told of the crowd", func() bool { return strings.Contains(server.log.String(), "port=admin reason=busy") })
}

func TestHugeHeaderIsRefused(t *testing.T) {
	server := serve(t, newFakeNode(), nil)
	client := dial(t, server.addr, nil)
	ctx := metadata.AppendToOutgoingContext(within(t, 10*time.Second), "x", strings.Repeat("x", 1<<20))
	if _, err := client.Version(ctx, &duoflowv1.VersionRequest{}); err == nil {
		t.Error("answered")
	}
	if _, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

// TestHugeRequestIsRefused: also of an operator, whose connection ends; it is said why.
func TestHugeRequestIsRefused(t *testing.T) {
	authority := newAuthority(t)
	server := serve(t, newFakeNode(), authority.server())
	client := dial(t, server.addr, authority.client(authority.issue("olga", "operator")))
	if _, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	huge := &duoflowv1.HistoryRequest{Job: strings.Repeat("x", 1<<20)}
	if _, err := client.History(within(t, 10*time.Second), huge); err == nil {
		t.Error("answered")
	}
	eventually(t, "told of it", func() bool {
		return strings.Contains(server.log.String(), "port=admin reason=protocol") && strings.Contains(server.log.String(), "larger than max")
	})
	if _, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

// TestACertificateMayEndWhileItsConnectionIsOpen: what is not good any more is refused at the next call.
func TestACertificateMayEndWhileItsConnectionIsOpen(t *testing.T) {
	authority, other := newAuthority(t), newAuthority(t)
	ask := func(t *testing.T, then *tls.Config, reason string) {
		t.Helper()
		var now atomic.Pointer[tls.Config]
		config := authority.server()
		now.Store(config.Clone())
		config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return now.Load(), nil }
		server := serve(t, newFakeNode(), config)
		client := dial(t, server.addr, authority.client(authority.issue("otto", "operator")))
		if _, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		now.Store(then)
		_, err := client.Version(within(t, 10*time.Second), &duoflowv1.VersionRequest{})
		if err == nil || !strings.Contains(err.Error(), "not good any more") {
			t.Errorf("%v", err)
		}
		eventually(t, "told of it", func() bool { return strings.Contains(server.log.String(), "port=admin reason="+reason) })
	}
	revoked := authority.server()
	revoked.VerifyConnection = func(tls.ConnectionState) error { return door.ErrRevoked }
	t.Run("revoked", func(t *testing.T) { ask(t, revoked, "revoked") })
	foreign := authority.server()
	foreign.ClientCAs = other.pool
	t.Run("authority", func(t *testing.T) { ask(t, foreign, "handshake") })
}
