package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// etcdVersion is built from the Go module proxy, in a module of its own.
const etcdVersion = "v3.7.3"

// etcd is `etcdctl lock` on a cluster of three members, as fast as it may legally be set. Each etcdctl talks to the
// member of its own host: with all endpoints it may hang on the dead one.
type etcd struct {
	fleet
	stage *stage
	bin   string
	dir   string
}

func newEtcd(ctx context.Context, s *stage) (System, error) {
	bin, err := buildEtcd(ctx)
	if err != nil {
		return nil, err
	}
	e := &etcd{fleet: newFleet(s.lab), stage: s, bin: bin}
	if e.dir, err = scratch(s.lab, "etcd"); err != nil {
		return nil, err
	}
	for _, host := range hosts {
		e.add(host, func() (lab.Spec, error) { return e.member(host), nil })
	}
	for _, host := range hosts[:2] {
		e.add(host, func() (lab.Spec, error) {
			return lab.Spec{Name: "etcdctl", Env: s.env(host), Args: []string{filepath.Join(bin, "etcdctl"),
				"--endpoints", e.client(host), "lock", "--ttl=1", "bench", s.writer}}, nil
		})
	}
	return e, nil
}

// buildEtcd builds server and etcdctl once, outside our own module, so that nothing of them gets into go.mod.
func buildEtcd(ctx context.Context) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "bench", "etcd-"+etcdVersion)
	if _, err := os.Stat(filepath.Join(dir, "etcdctl")); err == nil {
		return dir, nil
	}
	module := []byte("module bench.invalid/etcd\n\ngo 1.26\n")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "go.mod"), module, 0o644)); err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	server, ctl := "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3"
	for _, args := range [][]string{
		{"get", server + "@" + etcdVersion, ctl + "@" + etcdVersion},
		{"build", "-o", "etcd", server}, {"build", "-o", "etcdctl", ctl}, // etcdctl last: it says that all is there
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build etcd: %w: %s", err, out)
		}
	}
	return dir, nil
}

func (e *etcd) About() About {
	return About{
		Name: "etcd", Version: "etcd and etcdctl " + etcdVersion, Detection: time.Second,
		Settings: "etcdctl lock, TTL 1 s, heartbeat 20 ms, election 100 ms, own member, store leader on t",
	}
}

func (e *etcd) client(host string) string { return "http://" + e.lab.Net.Addr(host) + ":2379" }
func (e *etcd) peer(host string) string   { return "http://" + e.lab.Net.Addr(host) + ":2380" }

func (e *etcd) member(host string) lab.Spec {
	var cluster []string
	for _, h := range hosts {
		cluster = append(cluster, h+"="+e.peer(h))
	}
	return lab.Spec{Name: "etcd", Env: e.stage.env(host), Args: []string{
		filepath.Join(e.bin, "etcd"), "--name", host, "--data-dir", filepath.Join(e.dir, host), "--log-level", "error",
		"--listen-client-urls", e.client(host), "--advertise-client-urls", e.client(host),
		"--listen-peer-urls", e.peer(host), "--initial-advertise-peer-urls", e.peer(host),
		"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
		"--heartbeat-interval", "20", "--election-timeout", "100",
	}}
}

func (e *etcd) Start(ctx context.Context) error {
	var err error
	if e.dir, err = scratch(e.lab, "etcd"); err != nil {
		return err
	}
	for _, host := range hosts {
		if err := e.runs[host][0].run(); err != nil {
			return err
		}
	}
	if err := e.until(ctx, e.leadFromT); err != nil { // an etcdctl before that ends, and is back only a second later
		return err
	}
	return e.fleet.Start(ctx)
}

// until repeats something that fails before it succeeds.
func (e *etcd) until(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if waited := lab.Pause(ctx, 50*time.Millisecond); waited != nil {
			return fmt.Errorf("wait for etcd to settle: %w; last: %w", waited, err)
		}
	}
}

// member is one line of `etcdctl endpoint status`.
type memberStatus struct {
	Endpoint string
	Status   struct {
		Header struct {
			ID uint64 `json:"member_id"`
		} `json:"header"`
		Leader uint64 `json:"leader"`
	}
}

// Active moves the leadership of the store to t, so that the death of the active host needs no election there, and
// waits until both hosts have asked for the lock. Who holds it is left to the database to say.
func (e *etcd) Active(ctx context.Context) (string, error) {
	return "", errors.Join(e.until(ctx, e.leadFromT), e.until(ctx, e.bothAsked))
}

func (e *etcd) bothAsked(ctx context.Context) error {
	text, err := e.ctl(ctx, "--endpoints", e.client("t"), "get", "bench", "--prefix", "--keys-only")
	if err != nil {
		return err
	}
	if n := len(strings.Fields(string(text))); n < 2 {
		return fmt.Errorf("%d have asked for the lock", n)
	}
	return nil
}

func (e *etcd) leadFromT(ctx context.Context) error {
	all := strings.Join([]string{e.client("a"), e.client("b"), e.client("t")}, ",")
	text, err := e.ctl(ctx, "--endpoints", all, "endpoint", "status", "-w", "json")
	if err != nil {
		return err
	}
	var members []memberStatus
	if err := json.Unmarshal(text, &members); err != nil {
		return fmt.Errorf("read status of etcd: %w", err)
	}
	at := map[uint64]string{}
	var wanted uint64
	for _, m := range members {
		at[m.Status.Header.ID] = m.Endpoint
		if m.Endpoint == e.client("t") {
			wanted = m.Status.Header.ID
		}
	}
	if len(at) != len(hosts) || wanted == 0 || at[members[0].Status.Leader] == "" {
		return fmt.Errorf("etcd has no leader or not all members: %s", text)
	}
	if members[0].Status.Leader == wanted {
		return nil
	}
	if _, err = e.ctl(ctx, "--endpoints", at[members[0].Status.Leader], "move-leader", fmt.Sprintf("%x", wanted)); err != nil {
		return err
	}
	return errors.New("etcd's leader has just been moved")
}

func (e *etcd) ctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(e.bin, "etcdctl"), args...)
	cmd.Env = e.stage.env("")
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run etcdctl: %w: %s", err, text)
	}
	return text, nil
}

// Switchover ends the writer: etcdctl ignores a SIGTERM of its own while its child runs, and lets the lock go when that
// has ended. It is the quickest way there is.
func (e *etcd) Switchover(ctx context.Context, _ string) error {
	pid, err := e.stage.writerPID(ctx)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}
