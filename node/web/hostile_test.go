package web

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func knock(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// crowd opens connections and keeps them open. The server may reset one before the dial has seen it stand.
func crowd(t *testing.T, s *Server, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", s.Addr())
		switch {
		case err == nil:
			t.Cleanup(func() { conn.Close() })
		case !errors.Is(err, syscall.ECONNRESET):
			t.Fatal(err)
		}
	}
}

// gone wants the server to end a connection, and returns what it said before.
func gone(t *testing.T, what string, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(readTimeout + 5*time.Second)); err != nil {
		return "" // a handshake that failed has closed it
	}
	said, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: still open", what)
	}
	return string(said)
}

func TestStrangersAreTurnedAway(t *testing.T) {
	s := newServer(t, twoJobs)
	run(t, s)
	write := func(text string) net.Conn {
		conn := knock(t, s)
		_, _ = conn.Write([]byte(text)) // refused before its end
		return conn
	}
	silent, half := knock(t, s), write("GET /active HTTP/1.1\r\nHost:")
	if said := gone(t, "garbage", write(strings.Repeat("\xff", 1<<20))); strings.Contains(said, "200 OK") {
		t.Errorf("garbage: %s", said)
	}
	huge := write("GET /active HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")
	if said := gone(t, "huge header", huge); !strings.Contains(said, " 431 ") {
		t.Errorf("huge header: %q", said)
	}
	gone(t, "gRPC", write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	gone(t, "half a request", half)
	gone(t, "silent", silent)
}

// TestBalancerGetsThroughACrowd: many silent connections from the balancer's own address, and one that is kept open.
func TestBalancerGetsThroughACrowd(t *testing.T) {
	s := newServer(t, twoJobs)
	run(t, s)
	kept := knock(t, s)
	answers := bufio.NewReader(kept)
	ask := func() {
		if _, err := kept.Write([]byte("GET /active HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", answer.StatusCode, err)
		}
	}
	ask()
	crowd(t, s, 200)
	if status, _, err := fetch(t, http.DefaultClient, http.MethodGet, "http://"+s.Addr()+"/active"); err != nil || status != http.StatusOK {
		t.Errorf("%d, %v", status, err)
	}
	ask()
}

// TestNoHTTP2: one connection is one request at a time.
func TestNoHTTP2(t *testing.T) {
	ours := newAuthority(t)
	s, err := New(Config{
		Listen: "127.0.0.1:0", View: twoJobs, Registry: prometheus.NewRegistry(),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours.issue(t, "a")},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	secured := tls.Client(knock(t, s), &tls.Config{
		RootCAs: ours.pool(), ServerName: "127.0.0.1", NextProtos: []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{ours.issue(t, "balancer")},
	})
	if err := secured.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := secured.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("speaks %q", got)
	}
	gone(t, "silent after the handshake", secured)
}
