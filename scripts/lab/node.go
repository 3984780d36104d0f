package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// stopLimit bounds an orderly stop of a daemon: a planned grace of 30 s and some.
const stopLimit = 45 * time.Second

// Node is one duoflowd on a host of its own. Kill, Freeze, Thaw and PowerOff of its Host take the
// daemon and its jobs together, as a machine's end does; KillDaemon takes the daemon alone.
type Node struct {
	*Host

	// Wrap is a program with arguments that the daemon is started through, and that becomes it by exec(2), as unshare(1) does;
	// empty = none.
	Wrap []string
	// Program is started in place of the cluster's own duoflowd; "" = that one. Env is added to the daemon's environment.
	Program string
	Env     []string

	cluster *Cluster
	dir     string
	process *Process
}

// Start starts the daemon. It may be called again after it has ended.
func (n *Node) Start() error {
	if n.process != nil && !n.process.Ended() {
		return fmt.Errorf("start node %s: it runs already", n.Name)
	}
	program, env := n.Program, n.cluster.options.Env
	if program == "" {
		program = filepath.Join(n.cluster.bin, "duoflowd")
	}
	if env == nil {
		env = cleanEnv()
	}
	var err error
	n.process, err = n.Host.Start(Spec{
		Name: "duoflowd", Dir: n.dir, Env: slices.Concat(env, n.Env),
		Args: slices.Concat(n.Wrap, []string{program, "--config", n.ConfigPath()}),
	})
	return err
}

// Process is the daemon, nil before Start.
func (n *Node) Process() *Process { return n.process }

// KillDaemon sends SIGKILL to the daemon alone; what becomes of its jobs is the daemon's doing.
func (n *Node) KillDaemon() error { return n.process.Kill() }

// StopDaemon ends the daemon in order.
func (n *Node) StopDaemon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	return n.process.Stop(ctx)
}

// ConfigPath is the daemon's configuration file.
func (n *Node) ConfigPath() string { return filepath.Join(n.dir, "duoflowd.yaml") }

// DataDir is the daemon's data_dir.
func (n *Node) DataDir() string { return filepath.Join(n.dir, "data") }

// Peer is the address that the other nodes connect to.
func (n *Node) Peer() string { return n.cluster.addr(n.Name, peerPort) }

// Gossip is the address of the membership layer, for TCP and UDP.
func (n *Node) Gossip() string { return n.cluster.addr(n.Name, gossipPort) }

// Admin is the address of the operators' service.
func (n *Node) Admin() string { return n.cluster.addr(n.Name, adminPort) }

// HTTP is the address of the health and metrics service, which wants a client certificate.
func (n *Node) HTTP() string { return n.cluster.addr(n.Name, httpPort) }

// LogPath is the daemon's log, over all its lives.
func (n *Node) LogPath() string { return n.logPath("duoflowd") }

// WriteConfig writes the configuration anew, changed by edit unless that is nil. A running daemon
// reads it at its next start.
func (n *Node) WriteConfig(edit func(config map[string]any)) error {
	config := n.config()
	if edit != nil {
		edit(config)
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode configuration of node %s: %w", n.Name, err)
	}
	next := n.ConfigPath() + ".new"
	if err := errors.Join(os.WriteFile(next, text, 0o600), os.Rename(next, n.ConfigPath())); err != nil {
		return fmt.Errorf("write configuration of node %s: %w", n.Name, err)
	}
	return nil
}

func (n *Node) config() map[string]any {
	c := n.cluster
	nodes, jobs := map[string]any{}, map[string]any{}
	known, joins := c.options.Nodes, slices.Contains(c.options.Later, n.Name)
	if joins {
		known = append(slices.Clone(known), n.Name)
	}
	for _, name := range known {
		nodes[name] = map[string]any{"peer": c.addr(name, peerPort), "witness": c.witness(name)}
	}
	for name, job := range c.options.Jobs {
		jobs[name] = n.job(job)
	}
	config := map[string]any{
		"cluster": fmt.Sprintf("lab%d", c.lab.claim.number), "node": n.Name, "witness": c.witness(n.Name),
		"data_dir": n.DataDir(), "nodes": nodes, "jobs": jobs,
		"listen": map[string]any{
			"peer": c.addr(n.Name, peerPort), "gossip": c.addr(n.Name, gossipPort),
			"admin": c.addr(n.Name, adminPort), "http": c.addr(n.Name, httpPort),
		},
		"tls": map[string]any{
			"ca":   filepath.Join(c.tls, "ca.pem"),
			"cert": filepath.Join(c.tls, n.Name+".pem"),
			"key":  filepath.Join(c.tls, n.Name+".key"),
		},
		"gossip": map[string]any{"keyring": filepath.Join(c.tls, "gossip.key")},
	}
	if joins {
		config["join"] = true
	}
	if c.options.Detection != "" {
		config["detection"] = c.options.Detection
	}
	return config
}

// job is a job's part of the configuration; a witness has no way into the metastore.
func (n *Node) job(job Job) map[string]any {
	out := map[string]any{"kind": job.Kind}
	for key, value := range map[string]string{"python": job.Python, "follow": job.Follow, "user": job.User, "schedule": job.Schedule} {
		if value != "" {
			out[key] = value
		}
	}
	if len(job.Command) > 0 {
		command := slices.Clone(job.Command)
		for i := range command {
			command[i] = strings.ReplaceAll(command[i], "{node}", n.Name)
		}
		out["command"] = command
	}
	if len(job.Env) > 0 {
		out["env"] = job.Env
	}
	if len(job.NoRetry) > 0 && job.Schedule != "" {
		out["no_retry"] = job.NoRetry
	}
	if job.Warm {
		out["warm"] = true
	}
	if job.Grace > 0 {
		out["grace"] = job.Grace.String()
	}
	if len(job.Hooks) > 0 {
		out["hooks"] = job.Hooks
	}
	if len(job.Broker) > 0 {
		out["broker"] = job.Broker
	}
	if password, ok := n.cluster.passwords[n.Name]; ok {
		out["fence"] = map[string]any{
			"dsn": n.cluster.store.DSN(fencer(n.Name), password, job.database()), "group": job.group(),
		}
	}
	return out
}
