package airflowctl

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// silent is a management API that takes requests and answers none; asked gets one for each.
func silent(t *testing.T) (url string, asked chan struct{}) {
	t.Helper()
	asked = make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // before that the server does not notice that the client is gone
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// brokerJob is a job whose broker is at a URL, and which takes its turns there.
func brokerJob(t *testing.T, url string, required bool) *Job {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := New(Config{
		Name: "scheduler", Node: "a", Kind: Airflow, Root: t.TempDir(), FenceDSN: "postgres://x@127.0.0.1:1/x", Group: "workers", Observer: nobody{},
		Broker: &Broker{Required: required, Config: broker.Config{Management: url, User: "duoflow", PasswordFile: password, AMQP: "127.0.0.1:1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	joined.Go(func() { j.keepBroker(ctx) })
	t.Cleanup(func() {
		cancel()
		joined.Wait()
		if err := j.output.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func brokerClaim(epoch uint64) fence.Claim {
	return fence.Claim{Epoch: epoch, Node: "a", Token: strings.Repeat("0", 32)}
}

// TestASilentBrokerStopsNobody: a start waits for it, but not for ever, and says so; unless the broker is required.
func TestASilentBrokerStopsNobody(t *testing.T) {
	url, _ := silent(t)
	for _, required := range []bool{false, true} {
		j := brokerJob(t, url, required)
		j.turnBroker(t.Context(), brokerClaim(1))
		_, found, err := j.awaitBroker(t.Context(), brokerClaim(1))
		line := j.Status().Line.Text
		switch {
		case found:
			t.Error("credentials from a broker that says nothing")
		case required && (!errors.Is(err, ErrRefused) || line != ""):
			t.Errorf("required: %v, people are told %q", err, line)
		case !required && (err != nil || !strings.HasPrefix(line, "UNSAFE: broker not fenced")):
			t.Errorf("not required: %v, people are told %q", err, line)
		}
		j.endTurn(1)
		if line := j.Status().Line.Text; line != "" {
			t.Errorf("the epoch is over, and people are told %q", line)
		}
		if _, _, err := j.awaitBroker(t.Context(), brokerClaim(1)); err == nil {
			t.Error("a start without a turn")
		}
	}
}

// TestATurnEndsWithItsEpoch: who waits for an answer to the one before does not hold the next one up.
func TestATurnEndsWithItsEpoch(t *testing.T) {
	url, asked := silent(t)
	j := brokerJob(t, url, true)
	for epoch := range uint64(20) {
		j.turnBroker(t.Context(), brokerClaim(epoch+1))
		j.turnBroker(t.Context(), brokerClaim(epoch+1)) // changes nothing
		<-asked
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := j.awaitBroker(ctx, brokerClaim(20)); !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was given up: %v", err)
	}
}

func TestCheckOfABroker(t *testing.T) {
	j := brokerJob(t, "http://127.0.0.1:1", false)
	if got := j.checkBroker(t.Context(), false); len(got) != 0 {
		t.Errorf("at a daemon's start a broker that is down is found to be wrong: %v", got)
	}
	if got := j.checkBroker(t.Context(), true); len(got) != 1 || got[0].OK || strings.Contains(got[0].Detail, "hush") {
		t.Errorf("the doctor finds %v", got)
	}
	cfg := j.cfg
	cfg.Env = []string{"AIRFLOW__CORE__EXECUTOR=LocalExecutor"}
	for _, f := range cfg.checkSettings() {
		if f.Name == "broker's executor" && f.OK {
			t.Errorf("an executor that sends nothing: %v", f)
		}
	}
	cfg.Kind = Command
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "gets no user at the broker") {
		t.Errorf("a command with a broker: %v", err)
	}
}
