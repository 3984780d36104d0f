package web

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/duoflow/duoflow/raftstore/door"
)

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// TestReasonsAreTold: why somebody was turned away at the port is in the log, also when TLS or net/http did it.
func TestReasonsAreTold(t *testing.T) {
	ours, theirs, said := newAuthority(t), newAuthority(t), &journal{}
	s, err := New(Config{
		Listen: "127.0.0.1:0", View: twoJobs, Registry: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(said, nil)),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours.issue(t, "a")},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
			VerifyConnection: func(state tls.ConnectionState) error {
				if name := state.PeerCertificates[0].Subject.CommonName; name == "olga" {
					return fmt.Errorf("%w: %s", door.ErrRevoked, name)
				}
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	url := "https://" + s.Addr() + "/active"
	ask := func(client *http.Client, header string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X", header)
		answer, err := client.Do(request)
		client.CloseIdleConnections()
		if err != nil {
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	old := ours
	old.until = time.Now().Add(-time.Minute)
	for reason, knock := range map[string]func() int{
		"expired":   func() int { return ask(ours.client(old.issue(t, "olaf")), "") },
		"revoked":   func() int { return ask(ours.client(ours.issue(t, "olga")), "") },
		"handshake": func() int { return ask(ours.client(theirs.issue(t, "stranger")), "") },
		"plain": func() int {
			status, _, _ := fetch(t, http.DefaultClient, http.MethodGet, "http://"+s.Addr()+"/active")
			return status
		},
		"protocol": func() int { return ask(ours.client(ours.issue(t, "vera")), strings.Repeat("x", 64<<10)) },
	} {
		if status := knock(); status == http.StatusOK {
			t.Errorf("%s: answered", reason)
		}
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(said.String(), "port=http reason="+reason+" "); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nobody was turned away as %s: %s", reason, said)
			}
		}
	}
	before := strings.Count(said.String(), "turned away")
	if status := ask(ours.client(ours.issue(t, "vera")), ""); status != http.StatusOK {
		t.Errorf("who may: %d", status)
	}
	if text := said.String(); before != 5 || strings.Count(text, "turned away") != before {
		t.Errorf("%s", text)
	}
}

// TestACertificateMayBeTakenBack: a request over an open connection is refused then, and a live page ends.
func TestACertificateMayBeTakenBack(t *testing.T) {
	ours, said := newAuthority(t), &journal{}
	var taken atomic.Bool
	s, err := New(Config{
		Listen: "127.0.0.1:0", View: twoJobs, Registry: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(said, nil)),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours.issue(t, "a")},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
			VerifyConnection: func(tls.ConnectionState) error {
				if taken.Load() {
					return door.ErrRevoked
				}
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	url, client := "https://"+s.Addr(), ours.client(ours.issue(t, "vera"))
	live, err := client.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	ask := func() (int, string) { // over one connection, which fetch would close
		answer, err := client.Get(url + "/active")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if status, text := ask(); status != http.StatusOK {
		t.Fatalf("%d, %s", status, text)
	}
	taken.Store(true)
	if status, text := ask(); status != http.StatusForbidden || !strings.Contains(text, "revoked") {
		t.Errorf("%d, %s", status, text)
	}
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, live.Body); ended <- err }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the live page goes on")
	}
	if !strings.Contains(said.String(), "port=http reason=revoked") {
		t.Errorf("%s", said)
	}
}
