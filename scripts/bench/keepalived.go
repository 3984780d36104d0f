package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// keepalived is VRRP between two hosts, with scripts that start and stop the writer.
type keepalived struct {
	fleet
	version string
}

const keepalivedConfig = `global_defs {
  vrrp_version 3
  script_user root
  enable_script_security
}
vrrp_instance bench {
  interface eth0
  state BACKUP
  nopreempt
  virtual_router_id 51
  priority %d
  advert_int 0.1
  unicast_src_ip %s
  unicast_peer { %s }
  virtual_ipaddress { %s dev eth0 }
  notify_master "%[5]s start"
  notify_backup "%[5]s stop"
  notify_fault "%[5]s stop"
  notify_stop "%[5]s stop"
}
`

// notifyScript keeps the writer's process group in a file. Stopping gives it 2 s, as duoflow does after a failover.
const notifyScript = `#!/bin/sh
exec 9>%[1]s.lock; flock 9
stop() {
  [ -f %[1]s ] || return 0
  pid=$(cat %[1]s); rm -f %[1]s
  kill -TERM -"$pid" 2>/dev/null
  for _ in $(seq 100); do kill -0 -"$pid" 2>/dev/null || return 0; sleep 0.02; done
  kill -KILL -"$pid" 2>/dev/null
}
stop
if [ "$1" = start ]; then
  export BENCH_NODE='%[2]s' BENCH_DSN='%[3]s'
  setsid '%[4]s' >>%[1]s.log 2>&1 9>&- &
  echo $! >%[1]s
fi
`

func newKeepalived(ctx context.Context, s *stage) (System, error) {
	path, err := findKeepalived(ctx)
	if err != nil {
		return nil, err
	}
	text, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ask keepalived for its version: %w", err)
	}
	line, _, _ := strings.Cut(string(text), " (")
	k := &keepalived{fleet: newFleet(s.lab), version: line}
	dir, err := scratch(s.lab, "keepalived")
	if err != nil {
		return nil, err
	}
	for i, host := range hosts[:2] {
		config, err := k.configure(s, dir, i)
		if err != nil {
			return nil, err
		}
		k.add(host, func() (lab.Spec, error) {
			base := filepath.Join(dir, host)
			return lab.Spec{Name: "keepalived", Env: s.env(host), Args: []string{path, "--dont-fork", "--log-console",
				"--vrrp", "--use-file", config, "--pid", base + ".pid", "--vrrp_pid", base + "-vrrp.pid"}}, nil
		})
	}
	return k, nil
}

// findKeepalived installs Debian's package when it is missing.
func findKeepalived(ctx context.Context) (string, error) {
	path, err := exec.LookPath("keepalived")
	if err == nil {
		return path, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "keepalived"}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			return "", fmt.Errorf("install keepalived: %w: %s", failed, out)
		}
	}
	if path, err = exec.LookPath("keepalived"); err != nil {
		return "", fmt.Errorf("find keepalived: %w", err)
	}
	return path, nil
}

func (k *keepalived) configure(s *stage, dir string, i int) (string, error) {
	me, other := hosts[i], hosts[1-i]
	base := filepath.Join(dir, me)
	address := s.lab.Net.Addr(me)
	shared := address[:strings.LastIndex(address, ".")] + ".200/32"
	config := fmt.Sprintf(keepalivedConfig, 150-50*i, address, s.lab.Net.Addr(other), shared, base+"-notify")
	script := fmt.Sprintf(notifyScript, base+"-writer", me, s.peerDSN(), s.writer)
	err := errors.Join(
		os.WriteFile(base+".conf", []byte(config), 0o600),
		os.WriteFile(base+"-notify", []byte(script), 0o700))
	if err != nil {
		return "", fmt.Errorf("configure keepalived: %w", err)
	}
	return base + ".conf", nil
}

func (k *keepalived) About() About {
	return About{
		Name: "keepalived", Version: k.version, Detection: 340 * time.Millisecond,
		Settings: "VRRPv3 unicast, priorities 150 and 100, nopreempt, advert_int 0.1 s, notify scripts",
	}
}

// Active has nothing to wait for: who is master keepalived tells only its scripts.
func (k *keepalived) Active(context.Context) (string, error) { return "", nil }

// Managers are keepalived and its VRRP process, which does the work.
func (k *keepalived) Managers(host string) []int {
	pids := k.fleet.Managers(host)
	if len(pids) == 0 {
		return nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pids[0]))
	if err != nil {
		return pids
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (k *keepalived) Switchover(_ context.Context, from string) error { return k.terminate(from) }
