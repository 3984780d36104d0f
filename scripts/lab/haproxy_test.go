package lab_test

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// greeter tells everybody who connects which epoch runs, and where.
const greeter = `case $DUOFLOW_NODE in a) at=%s;; b) at=%s;; esac
exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 64, ReuseAddr => 1) or die $@;
while ($c = $s->accept) { print $c "$ENV{DUOFLOW_NODE} $ENV{DUOFLOW_EPOCH}\n"; close $c }' "$at:8080"`

// TestHAProxy: the real one, set up as scripts/monitoring/haproxy.cfg says, never takes two nodes for active while hosts die, freeze and hand
// over, sends no client back to an older epoch, and finds the new host each time.
func TestHAProxy(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	job := shell(fmt.Sprintf(greeter, l.Net.Addr("a"), l.Net.Addr("b")))
	c, _ := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}})
	must(t, c.Start())
	h := balance(ctx, t, l, c)
	clients := &callers{h: h}
	done := clients.come(ctx)
	t.Cleanup(done)
	tellOnFailure(ctx, t, c)
	eventuallyWithin(t, time.Minute, "the first client is served", func() bool { return clients.last().by.Epoch > 0 })
	stop := h.watch(ctx)
	t.Cleanup(stop)
	old := clients.last().by
	moved := func() bool { return clients.last().by.Epoch > old.Epoch }
	took := map[string][]time.Duration{}
	for began := time.Now(); time.Since(began) < 20*time.Second || len(took) < 3; {
		for _, harm := range []struct {
			name     string
			do, mend func(n *lab.Node)
		}{
			{"switchover", func(*lab.Node) { order(ctx, t, c, moved) }, func(*lab.Node) {}},
			{"kill", func(n *lab.Node) { must(t, n.Kill(ctx)) }, func(n *lab.Node) { must(t, n.Start()) }},
			{"freeze", func(n *lab.Node) { must(t, n.Freeze(ctx)) }, func(n *lab.Node) { must(t, n.Thaw(ctx)) }},
		} {
			old = clients.last().by // an overloaded host may have lost it meanwhile
			eventuallyWithin(t, time.Minute, "the other host may have it", func() bool { return ready(ctx, c, other(old.Node)) })
			struck := time.Now()
			harm.do(c.Nodes[old.Node])
			eventuallyWithin(t, time.Minute, harm.name+": clients come to a new epoch", moved)
			took[harm.name] = append(took[harm.name], clients.last().at.Sub(struck))
			harm.mend(c.Nodes[old.Node])
		}
	}
	done()
	stop()
	for name, all := range took {
		slices.Sort(all)
		t.Logf("%s: from the fault, or the order, to the first client at the new host, n = %d: p50 %s, max %s", name, len(all),
			all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
	}
	h.judge()
	clients.judge(t)
}

// order asks for a switchover, again when who was asked has just woken up and cannot tell whether it comes to pass.
func order(ctx context.Context, t *testing.T, c *lab.Cluster, moved func() bool) {
	t.Helper()
	eventuallyWithin(t, time.Minute, "a switchover is accepted", func() bool {
		output, code, err := c.Ctl(ctx, "switchover", "--yes")
		must(t, err)
		if code != 0 {
			t.Logf("switchover: exit code %d: %s", code, output)
		}
		return code == 0 || moved()
	})
}

// tellOnFailure leaves what is needed to see why the job did not move.
func tellOnFailure(ctx context.Context, t *testing.T, c *lab.Cluster) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, what := range []string{"status", "history"} {
			output, _, err := c.Ctl(context.WithoutCancel(ctx), what)
			t.Logf("%s %v", output, err)
		}
		for name, n := range c.Nodes {
			if text, err := os.ReadFile(n.LogPath()); err == nil {
				lines := strings.Split(string(text), "\n")
				t.Logf("%s: %s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
			}
		}
	})
}

// balancer is a real HAProxy.
type balancer struct {
	t            *testing.T
	front, stats string // addresses

	mu    sync.Mutex
	looks int
	twice []string // looks at which two nodes were up
}

// balance starts one with the sample configuration, of which only addresses and paths are changed. It ends with the test.
func balance(ctx context.Context, t *testing.T, l *lab.Lab, c *lab.Cluster) *balancer {
	t.Helper()
	dir := t.TempDir()
	tls := filepath.Join(l.Dir, "tls")
	mustCtl(ctx, t, c, "tls", "issue", "--authority", tls, "--operator", "balancer", "--role", "viewer", "--out", dir)
	pem, err := os.ReadFile(filepath.Join(dir, "balancer.pem"))
	must(t, err)
	key, err := os.ReadFile(filepath.Join(dir, "balancer.key"))
	must(t, err)
	both := filepath.Join(dir, "both.pem")
	must(t, os.WriteFile(both, append(pem, key...), 0o600))
	h := &balancer{t: t, front: net.JoinHostPort(l.Net.Addr(lab.Hub), "8080"), stats: filepath.Join(dir, "sock")}
	sample, err := os.ReadFile("../monitoring/haproxy.cfg")
	must(t, err)
	text := string(sample)
	for _, change := range [][2]string{
		{"/run/haproxy/duoflow.sock", h.stats}, {"/etc/haproxy/duoflow/ca.pem crt", filepath.Join(tls, "ca.pem") + " crt"},
		{"crt /etc/haproxy/duoflow/balancer.pem", "crt " + both}, {"bind 127.0.0.1:8080", "bind " + h.front},
		{" 10.0.0.1:", " " + l.Net.Addr("a") + ":"}, {" 10.0.0.2:", " " + l.Net.Addr("b") + ":"},
	} {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("the sample has no %q", change[0])
		}
		text = strings.ReplaceAll(text, change[0], change[1])
	}
	config := filepath.Join(dir, "haproxy.cfg")
	must(t, os.WriteFile(config, []byte(text), 0o600))
	command(t, "haproxy", "-c", "-f", config)
	cmd := exec.Command("haproxy", "-db", "-f", config)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return h
}

// ask sends a command to the stats socket.
func (h *balancer) ask(command string) (string, error) {
	conn, err := net.Dial("unix", h.stats)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// up are the nodes that clients are sent to.
func (h *balancer) up() ([]string, error) {
	text, err := h.ask("show stat")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(text), "# "))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, errors.Join(err, fmt.Errorf("stats: %q", text))
	}
	backend, server, status := slices.Index(rows[0], "pxname"), slices.Index(rows[0], "svname"), slices.Index(rows[0], "status")
	var all []string
	servers := 0
	for _, row := range rows[1:] {
		if row[backend] != "scheduler_active" || row[server] == "BACKEND" {
			continue
		}
		servers++
		if strings.HasPrefix(row[status], "UP") || row[status] == "no check" {
			all = append(all, row[server])
		}
	}
	if servers != 2 {
		return nil, fmt.Errorf("%d servers in %q", servers, text)
	}
	return all, nil
}

// watch looks every 10 ms, until it is stopped, which is waited for.
func (h *balancer) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			all, err := h.up()
			if err != nil {
				h.t.Errorf("look at HAProxy: %v", err)
				return
			}
			h.mu.Lock()
			if h.looks++; len(all) > 1 {
				h.twice = append(h.twice, time.Now().Format("05.000"))
			}
			h.mu.Unlock()
			_ = lab.Pause(ctx, 10*time.Millisecond)
		}
	})
	return func() { cancel(); group.Wait() }
}

func (h *balancer) judge() {
	h.t.Helper()
	h.t.Logf("HAProxy was looked at %d times", h.looks)
	if len(h.twice) > 0 {
		h.t.Errorf("two nodes were up at %d of %d looks: %v", len(h.twice), h.looks, h.twice)
	}
	if h.looks < 200 {
		h.t.Errorf("looked at only %d times", h.looks)
	}
}

// greeting is what a client hears.
func (h *balancer) greeting() (lab.Active, bool) {
	conn, err := net.DialTimeout("tcp", h.front, time.Second)
	if err != nil {
		return lab.Active{}, false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return lab.Active{}, false
	}
	var at lab.Active
	_, err = fmt.Fscanf(conn, "%s %d\n", &at.Node, &at.Epoch)
	return at, err == nil
}

// callers are clients that come through the balancer, one after the other.
type callers struct {
	h *balancer

	mu     sync.Mutex
	asked  int
	served []service
	back   []string // clients that were sent back to an older epoch
}

// service is the first client that an epoch has served.
type service struct {
	by lab.Active
	at time.Time
}

// come lets one come every 10 ms, until it is stopped, which is waited for.
func (c *callers) come(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			if at, ok := c.h.greeting(); ok {
				c.note(at)
			}
			_ = lab.Pause(ctx, 10*time.Millisecond)
		}
	})
	return func() { cancel(); group.Wait() }
}

func (c *callers) note(at lab.Active) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	last := len(c.served) - 1
	switch {
	case last < 0 || at.Epoch > c.served[last].by.Epoch:
		c.served = append(c.served, service{at, time.Now()})
	case at != c.served[last].by:
		c.back = append(c.back, fmt.Sprintf("%+v after %+v", at, c.served[last].by))
	}
}

// last is the newest epoch that has served a client.
func (c *callers) last() service {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.served) == 0 {
		return service{}
	}
	return c.served[len(c.served)-1]
}

func (c *callers) judge(t *testing.T) {
	t.Helper()
	t.Logf("%d clients were served by %d epochs", c.asked, len(c.served))
	if len(c.back) > 0 {
		t.Errorf("sent back to an older epoch: %v", c.back)
	}
}
