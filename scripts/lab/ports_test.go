package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	noiseFor = 20 * time.Second
	// How many silent connections the noise tries to hold at each of two peer ports, and at each other port.
	heldAtPeer, heldElsewhere = 2500, 250
	// maxGrowth of a daemon's resident memory, bytes, and of its log, lines.
	maxGrowth = 64 << 20
	maxLines  = 100
)

// TestPortsUnderNoise: the host of the standby throws all kinds of things at the ports of the active node and of the
// raft leader. Nobody notices, and it is counted.
func TestPortsUnderNoise(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// A psql every now and then: starting one costs more than all that the noise does to a daemon.
	job := shell(strings.ReplaceAll(writer, "0.02", "0.5"))
	// All of it shares the processors of one machine, with others: where none is idle, 300 ms without a beat come from that
	// alone. See scripts/lab/DESIGN.md for what `lan` holds.
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}, Detection: "wan"})
	must(t, c.Start())
	active, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, active)
	awaitLeader(ctx, t, c, "t")
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(t, l)}}
	attacked := []string{active.Node, "t"}
	before, term := map[string]daemon{}, metric(t, web, c.Nodes["t"], "duoflow_raft_term")
	for _, node := range attacked {
		before[node] = look(t, c.Nodes[node])
	}

	text, err := json.Marshal(noiseAt(l, c, attacked))
	must(t, err)
	source, err := l.Host(other(active.Node)).Start(lab.Spec{
		Name: "noise", Args: []string{"nice", "-n", "19", os.Args[0]}, // its own hunger for CPU is not what is examined
		Env: append(os.Environ(), noiseEnv+"="+string(text)),
	})
	must(t, err)
	for until := time.Now().Add(noiseFor); time.Now().Before(until); must(t, lab.Pause(ctx, 500*time.Millisecond)) {
		if source.Ended() {
			t.Fatalf("the noise ended: %s", source.LogTail(3))
		}
		status, err := c.Status(ctx)
		must(t, err)
		if now := status.GetJobs()[0]; now.GetEpoch() != active.Epoch || now.GetHolder() != active.Node {
			t.Fatalf("epoch %d on %s, want %+v: %s", now.GetEpoch(), now.GetHolder(), active, mustCtl(ctx, t, c, "history"))
		}
		for _, node := range attacked {
			answer, err := web.Get("https://" + c.Nodes[node].HTTP() + "/health")
			must(t, err)
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("health of %s: %d", node, answer.StatusCode)
			}
		}
	}
	for _, node := range attacked {
		after := look(t, c.Nodes[node])
		t.Logf("%s: resident %d -> %d KiB, log %d -> %d lines", node,
			before[node].resident>>10, after.resident>>10, before[node].lines, after.lines)
		if grown := after.resident - before[node].resident; grown > maxGrowth {
			t.Errorf("%s grew by %d MiB", node, grown>>20)
		}
		if written := after.lines - before[node].lines; written > maxLines {
			t.Errorf("%s wrote %d lines: %s", node, written, c.Nodes[node].Process().LogTail(20))
		}
		checkRefusals(t, web, c.Nodes[node])
	}
	must(t, source.Kill())
	if now := metric(t, web, c.Nodes["t"], "duoflow_raft_term"); now != term {
		t.Errorf("raft term went from %v to %v", term, now)
	}
	if leads := metric(t, web, c.Nodes["t"], "duoflow_raft_leader"); leads != 1 {
		t.Error("t no longer leads")
	}
	mustCtl(ctx, t, c, "switchover", "--to", other(active.Node), "--yes")
	next, err := c.AwaitActive(ctx, "scheduler", active.Epoch)
	must(t, err)
	awaitRow(ctx, t, conn, next)
}

// noiseAt is every port of the nodes; most of it goes to the peers' ports.
func noiseAt(l *lab.Lab, c *lab.Cluster, nodes []string) noise {
	n := noise{Cert: filepath.Join(l.Dir, "tls", "lab.pem"), Key: filepath.Join(l.Dir, "tls", "lab.key")}
	for _, node := range nodes {
		n.TCP, n.Hold = append(n.TCP, c.Nodes[node].Peer()), append(n.Hold, heldAtPeer)
	}
	first := c.Nodes[nodes[0]]
	for _, port := range []string{first.Admin(), first.HTTP(), first.Gossip()} {
		n.TCP, n.Hold = append(n.TCP, port), append(n.Hold, heldElsewhere)
	}
	n.UDP = []string{first.Gossip()}
	return n
}

// awaitLeader waits until a node leads the log.
func awaitLeader(ctx context.Context, t *testing.T, c *lab.Cluster, want string) {
	t.Helper()
	eventuallyWithin(t, time.Minute, "raft leader "+want, func() bool { // it may have to be well for a while before
		status, err := c.Status(ctx)
		must(t, err)
		for _, n := range status.GetNodes() {
			if n.GetName() == want && n.GetRaftRole() == "leader" {
				return true
			}
		}
		return false
	})
}

// daemon is what noise must not make grow.
type daemon struct {
	resident int64
	lines    int
}

func look(t *testing.T, n *lab.Node) daemon {
	t.Helper()
	log, err := os.ReadFile(n.LogPath())
	must(t, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Process().PID()))
	must(t, err)
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	must(t, err)
	return daemon{resident: kib << 10, lines: bytes.Count(log, []byte("\n"))}
}

// checkRefusals wants the noise to be counted under what it is.
func checkRefusals(t *testing.T, web *http.Client, n *lab.Node) {
	t.Helper()
	var told []string
	for _, reason := range []string{"busy", "silent", "closed", "plain", "handshake", "stranger"} {
		count := metric(t, web, n, `duoflow_peer_refused_total{reason="`+reason+`"}`)
		told = append(told, fmt.Sprintf("%s %v", reason, count))
		if count == 0 && reason != "silent" { // in a crowd all have to go before their time
			t.Errorf("%s counted nobody as %s", n.Name, reason)
		}
	}
	t.Logf("%s refused: %s", n.Name, strings.Join(told, ", "))
}

// metric reads one value.
func metric(t *testing.T, web *http.Client, n *lab.Node, name string) float64 {
	t.Helper()
	answer, err := web.Get("https://" + n.HTTP() + "/metrics")
	must(t, err)
	value, ok := valueOf(answer, name)
	if !ok {
		t.Fatalf("%s has no metric %s", n.Name, name)
	}
	return value
}

// valueOf finds one value among metrics.
func valueOf(answer *http.Response, name string) (float64, bool) {
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return number, err == nil
		}
	}
	return 0, false
}
