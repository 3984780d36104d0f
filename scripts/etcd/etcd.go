// Package etcd builds the etcd that benchmarks set beside duoflow, and knows how its members are started.
package etcd

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

// Version is built from the Go module proxy.
const Version = "v3.7.3"

// packages of the programs that Build knows.
var packages = map[string]string{"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"}

// Build makes programs that are not there yet, etcd or etcdctl, and returns their folder. They are built in a module of
// their own, so that nothing of them gets into go.mod.
func Build(ctx context.Context, programs ...string) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "bench", "etcd-"+Version)
	get, builds := []string{"get"}, [][]string{}
	for _, name := range programs {
		if packages[name] == "" {
			return "", fmt.Errorf("build etcd: no program of it is called %q here", name)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			get = append(get, packages[name]+"@"+Version)
			builds = append(builds, []string{"build", "-o", name, packages[name]})
		}
	}
	if len(builds) == 0 {
		return dir, nil
	}
	module := []byte("module bench.invalid/etcd\n\ngo 1.26\n")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "go.mod"), module, 0o644)); err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	for _, args := range append([][]string{get}, builds...) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build etcd: %w: %s", err, out)
		}
	}
	return dir, nil
}

// Cluster is members without TLS, one on each host, which know each other from the start. All fields are needed.
type Cluster struct {
	Bin   string // folder of the program
	Data  string // holds a folder for each member, which etcd makes
	Hosts []string
	Addr  func(host string) string // IP address

	Beat, Election time.Duration // how often the leader is heard, and how long a follower waits for it; whole ms
}

// Client is the URL that clients use, such as http://10.77.0.11:2379.
func (c Cluster) Client(host string) string { return c.url(host, 2379) }

func (c Cluster) peer(host string) string { return c.url(host, 2380) }

func (c Cluster) url(host string, port int) string {
	return fmt.Sprintf("http://%s:%d", c.Addr(host), port)
}

// Member is the command line of a host's member.
func (c Cluster) Member(host string) []string {
	var all []string
	for _, h := range c.Hosts {
		all = append(all, h+"="+c.peer(h))
	}
	return []string{
		filepath.Join(c.Bin, "etcd"), "--name", host, "--data-dir", filepath.Join(c.Data, host), "--log-level", "error",
		"--listen-client-urls", c.Client(host), "--advertise-client-urls", c.Client(host),
		"--listen-peer-urls", c.peer(host), "--initial-advertise-peer-urls", c.peer(host),
		"--initial-cluster", strings.Join(all, ","), "--initial-cluster-state", "new",
		"--heartbeat-interval", milliseconds(c.Beat), "--election-timeout", milliseconds(c.Election),
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
