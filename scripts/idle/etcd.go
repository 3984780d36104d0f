package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/duoflow/duoflow/scripts/lab"
)

// etcdVersion is built from the Go module proxy, in a module of its own; the one that scripts/bench uses too.
const etcdVersion = "v3.7.3"

// etcdTimes are set so that etcd's members watch each other as closely as the daemons do in `lan`.
var etcdTimes = []string{"--heartbeat-interval", "50", "--election-timeout", "300"}

// startEtcd starts three members, without TLS and without clients, which is the least they can cost.
func (s *stage) startEtcd(ctx context.Context) error {
	bin, err := buildEtcd(ctx)
	if err != nil {
		return err
	}
	url := func(host string, port int) string { return fmt.Sprintf("http://%s:%d", s.lab.Net.Addr(host), port) }
	var cluster []string
	for _, host := range hosts {
		cluster = append(cluster, host+"="+url(host, 2380))
	}
	for _, host := range hosts {
		p, err := s.lab.Host(host).Start(lab.Spec{Name: "etcd", Args: append([]string{
			bin, "--name", host, "--data-dir", filepath.Join(s.lab.Dir, "etcd-"+host), "--log-level", "error",
			"--listen-client-urls", url(host, 2379), "--advertise-client-urls", url(host, 2379),
			"--listen-peer-urls", url(host, 2380), "--initial-advertise-peer-urls", url(host, 2380),
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
		}, etcdTimes...)})
		if err != nil {
			return err
		}
		s.watched = append(s.watched, watched{"etcd " + etcdVersion + " " + host, false, p})
	}
	return nil
}

// buildEtcd builds the server once, outside our own module, so that nothing of it gets into go.mod.
func buildEtcd(ctx context.Context) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "bench", "etcd-"+etcdVersion)
	bin := filepath.Join(dir, "etcd")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	module := []byte("module bench.invalid/etcd\n\ngo 1.26\n")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "go.mod"), module, 0o644)); err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	server := "go.etcd.io/etcd/server/v3"
	for _, args := range [][]string{{"get", server + "@" + etcdVersion}, {"build", "-o", "etcd", server}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build etcd: %w: %s", err, out)
		}
	}
	return bin, nil
}
