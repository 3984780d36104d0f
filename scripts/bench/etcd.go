package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/etcd"
	"github.com/duoflow/duoflow/scripts/lab"
)

// etcdLock is `etcdctl lock` on a cluster of three members, as fast as it may legally be set. Each etcdctl talks to the
// member of its own host: with all endpoints it may hang on the dead one.
type etcdLock struct {
	fleet
	etcd.Cluster
	stage *stage
}

func newEtcd(ctx context.Context, s *stage) (System, error) {
	bin, err := etcd.Build(ctx, "etcd", "etcdctl")
	if err != nil {
		return nil, err
	}
	data, err := scratch(s.lab, "etcd")
	if err != nil {
		return nil, err
	}
	e := &etcdLock{fleet: newFleet(s.lab), stage: s, Cluster: etcd.Cluster{
		Bin: bin, Data: data, Hosts: hosts, Addr: s.lab.Net.Addr, Beat: 20 * time.Millisecond, Election: 100 * time.Millisecond,
	}}
	for _, host := range hosts {
		e.add(host, func() (lab.Spec, error) {
			return lab.Spec{Name: "etcd", Env: s.env(host), Args: e.Member(host)}, nil
		})
	}
	for _, host := range hosts[:2] {
		e.add(host, func() (lab.Spec, error) {
			return lab.Spec{Name: "etcdctl", Env: s.env(host), Args: []string{filepath.Join(bin, "etcdctl"),
				"--endpoints", e.Client(host), "lock", "--ttl=1", "bench", s.writer}}, nil
		})
	}
	return e, nil
}

func (e *etcdLock) About() About {
	return About{
		Name: "etcd", Version: "etcd and etcdctl " + etcd.Version, Detection: time.Second,
		Settings: "etcdctl lock, TTL 1 s, heartbeat 20 ms, election 100 ms, own member, store leader on t",
	}
}

func (e *etcdLock) Start(ctx context.Context) error {
	if _, err := scratch(e.lab, "etcd"); err != nil {
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
func (e *etcdLock) until(ctx context.Context, ready func(context.Context) error) error {
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
func (e *etcdLock) Active(ctx context.Context) (string, error) {
	return "", errors.Join(e.until(ctx, e.leadFromT), e.until(ctx, e.bothAsked))
}

func (e *etcdLock) bothAsked(ctx context.Context) error {
	text, err := e.ctl(ctx, "--endpoints", e.Client("t"), "get", "bench", "--prefix", "--keys-only")
	if err != nil {
		return err
	}
	if n := len(strings.Fields(string(text))); n < 2 {
		return fmt.Errorf("%d have asked for the lock", n)
	}
	return nil
}

func (e *etcdLock) leadFromT(ctx context.Context) error {
	all := strings.Join([]string{e.Client("a"), e.Client("b"), e.Client("t")}, ",")
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
		if m.Endpoint == e.Client("t") {
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

func (e *etcdLock) ctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(e.Bin, "etcdctl"), args...)
	cmd.Env = e.stage.env("")
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run etcdctl: %w: %s", err, text)
	}
	return text, nil
}

// Switchover ends the writer: etcdctl ignores a SIGTERM of its own while its child runs, and lets the lock go when that
// has ended. It is the quickest way there is.
func (e *etcdLock) Switchover(ctx context.Context, _ string) error {
	pid, err := e.stage.writerPID(ctx)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}
