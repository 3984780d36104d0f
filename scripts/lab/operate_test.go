package lab_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestOperate goes through what an operator does with three real nodes: look, switch over, examine, lose the quorum,
// take over by force, get it back.
func TestOperate(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, conn := writers(ctx, t, l)
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	standby := other(first.Node)
	awaitRow(ctx, t, conn, first)
	checkStatus(ctx, t, c)
	checkHTTP(t, l, c, first.Node, standby)

	t.Run("switchover", func(t *testing.T) {
		output, code, err := c.Ctl(ctx, "switchover", "--to", "t", "--yes")
		must(t, err)
		if code != 3 || !strings.Contains(output, "witness") {
			t.Errorf("switchover to the witness: exit code %d, %s", code, output)
		}
		mustCtl(ctx, t, c, "switchover", "--to", standby, "--yes")
	})
	second, err := c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	if second.Node != standby {
		t.Errorf("switched over to %s, want %s", second.Node, standby)
	}
	awaitRow(ctx, t, conn, second)

	t.Run("doctor", func(t *testing.T) {
		var answer struct{ Mode string }
		output := mustCtl(ctx, t, c, "doctor", "--endpoint", c.Nodes[first.Node].Admin(), "-o", "json")
		if json.Unmarshal([]byte(output), &answer) != nil || !strings.Contains(output, `"fenced"`) {
			t.Errorf("doctor said %s", output)
		}
	})

	// The tie-breaker and the active host die. One node of three cannot be granted anything.
	must(t, c.Nodes["t"].Kill(ctx))
	must(t, c.Nodes[second.Node].Kill(ctx))
	last := first.Node
	eventually(t, "the last node knows that it is alone", func() bool {
		_, code, err := c.Ctl(ctx, "status", "--endpoint", c.Nodes[last].Admin())
		return err == nil && code == 6
	})
	output, code, err := c.Ctl(ctx, "failover", "--endpoint", c.Nodes[last].Admin(), "--yes")
	must(t, err)
	if code != 4 {
		t.Errorf("failover without quorum and without --force: exit code %d, %s", code, output)
	}
	mustCtl(ctx, t, c, "failover", "--force", "--endpoint", c.Nodes[last].Admin(), "--yes")
	forced := lab.Active{Node: last, Epoch: second.Epoch + 1}
	awaitRow(ctx, t, conn, forced)

	must(t, c.Start("t", second.Node))
	third, err := c.AwaitActive(ctx, "scheduler", second.Epoch)
	must(t, err)
	if third != forced {
		t.Errorf("after quorum is back %+v is active, want %+v", third, forced)
	}
	if history := mustCtl(ctx, t, c, "history", "-o", "json"); !strings.Contains(history, `"observe"`) {
		t.Errorf("the log has not caught up: %s", history)
	}
}

// writers is a cluster whose job commits rows to public.work.
func writers(ctx context.Context, t *testing.T, l *lab.Lab) (*lab.Cluster, *pgx.Conn) {
	t.Helper()
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": shell(writer)}})
	must(t, c.Start())
	return c, conn
}

func shell(command string) lab.Job {
	return lab.Job{Kind: "command", Command: []string{"sh", "-c", command}}
}

// prepared is a cluster that is not started, with the table public.work.
func prepared(ctx context.Context, t *testing.T, l *lab.Lab, options lab.ClusterOptions) (*lab.Cluster, *pgx.Conn) {
	t.Helper()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	conn, err := pgx.Connect(ctx, store.DSNOf(lab.Owner))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(ctx, "CREATE TABLE public.work (id bigint GENERATED ALWAYS AS IDENTITY, node text, epoch bigint)")
	must(t, err)
	c, err := l.NewCluster(ctx, store, options)
	must(t, err)
	return c, conn
}

func other(node string) string {
	if node == "a" {
		return "b"
	}
	return "a"
}

func mustCtl(ctx context.Context, t *testing.T, c *lab.Cluster, args ...string) string {
	t.Helper()
	output, code, err := c.Ctl(ctx, args...)
	must(t, err)
	if code != 0 {
		t.Fatalf("duoctl %v: exit code %d: %s", args, code, output)
	}
	return output
}

// checkStatus wants of every node its address, version, role and, of others, the round trip.
func checkStatus(ctx context.Context, t *testing.T, c *lab.Cluster) {
	t.Helper()
	eventually(t, "gossip has measured every node", func() bool {
		status, err := c.Status(ctx, "a")
		must(t, err)
		for _, n := range status.GetNodes() {
			measured := n.GetRttMs() > 0 || n.GetName() == status.GetNode()
			if n.GetAddress() == "" || n.GetVersion() == "" || n.GetRaftRole() == "" || n.GetGossipState() != "alive" || !measured {
				return false
			}
		}
		return len(status.GetNodes()) == 3
	})
}

// checkHTTP asks every node what a load balancer would; only the active one may say that it is.
func checkHTTP(t *testing.T, l *lab.Lab, c *lab.Cluster, active, standby string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(t, l)}}
	for _, ask := range []struct {
		node, path string
		code       int
	}{
		{active, "/active", 200}, {standby, "/active", 503}, {"t", "/active", 503},
		{active, "/standby", 503}, {standby, "/standby", 200}, {"t", "/witness", 200}, {standby, "/witness", 503},
		{active, "/health", 200}, {standby, "/ready", 200}, {"t", "/ready", 200}, {standby, "/", 200},
	} {
		answer, err := client.Get("https://" + c.Nodes[ask.node].HTTP() + ask.path)
		must(t, err)
		answer.Body.Close()
		if answer.StatusCode != ask.code {
			t.Errorf("%s of %s: %d, want %d", ask.path, ask.node, answer.StatusCode, ask.code)
		}
	}
	answer, err := client.Get("https://" + c.Nodes[active].HTTP() + "/metrics")
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	for _, line := range []string{`duoflow_job_state{duoflow_job="scheduler",state="active"} 1`, "duoflow_quorum 1", "duoflow_takeover_phase_seconds_bucket"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("metrics of %s lack %s", active, line)
		}
	}
}

func operatorTLS(t *testing.T, l *lab.Lab) *tls.Config {
	t.Helper()
	dir := filepath.Join(l.Dir, "tls")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "lab.pem"), filepath.Join(dir, "lab.key"))
	must(t, err)
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}
}
