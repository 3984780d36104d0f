package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/node/web"
	"github.com/duoflow/duoflow/raftstore"
)

// run makes the parts, joins them and runs them until ctx ends.
func run(ctx context.Context, cfg node.Config, logger *slog.Logger) error {
	overseer, err := findManager(logger)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	certificates, err := cfg.LoadTLS(logger)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	open := newServing(listeners)
	secure := certificates.TLS()
	if cfg.InsecureLoopback {
		logger.Warn("insecure_loopback: nobody is authenticated; for a demo on one machine only")
	}
	n, err := join(ctx, setting{cfg: cfg, certificates: certificates, logger: logger, overseer: overseer, open: open})
	if err != nil {
		return err
	}
	operators, err := admin.New(admin.Config{
		Listen: cfg.Listen.Admin, TLS: secure, Node: n.Operators(), Version: programVersion(), Logger: logger, Listening: open.begun,
	})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	health, err := web.New(web.Config{
		Listen: cfg.Listen.HTTP, TLS: secure, View: n.View, Registry: n.Registry(), Logger: logger, Listening: open.begun,
	})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return runAll(ctx, n, operators, health, func(ctx context.Context) { overseer.report(ctx, open) })
}

// listeners are peers, gossip, operators and HTTP.
const listeners = 4

// runAll ends the surfaces only after the node, so that a stopping node can still be asked how far it is. report ends with ctx.
func runAll(ctx context.Context, n *node.Node, operators *admin.Server, health *web.Server, report func(context.Context)) error {
	surfaces, stop := context.WithCancel(context.WithoutCancel(ctx))
	group, grouped := errgroup.WithContext(ctx)
	group.Go(func() error { report(grouped); return nil })
	group.Go(func() error { return operators.Run(surfaces) })
	group.Go(func() error { return health.Run(surfaces) })
	group.Go(func() error {
		defer stop()
		return n.Run(grouped)
	})
	err := group.Wait()
	switch {
	case errors.Is(err, node.ErrRemoved): // to start it again is of no use
		return &exitError{exitRemoved, err}
	case err != nil:
		return &exitError{exitFailed, err}
	}
	return nil
}

// setting is what a node is joined in.
type setting struct {
	cfg          node.Config
	certificates *node.Certificates
	logger       *slog.Logger
	overseer     *manager
	open         *serving
}

// join makes the parts of a node. Everything that is wrong with this host is found here, before anything runs.
func join(ctx context.Context, in setting) (*node.Node, error) {
	cfg, certificates, logger := in.cfg, in.certificates, in.logger
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return nil, &exitError{exitFailed, fmt.Errorf("make data_dir: %w", err)}
	}
	wire := node.NewWire(cfg, logger)
	log, err := newLog(in, wire)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	members, err := newGossip(in, wire)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	jobs, err := newJobs(ctx, cfg, wire, func() uint64 { return log.Life().Number }, logger)
	if err != nil {
		return nil, err
	}
	if err := veilBeside(jobs, logger); err != nil {
		return nil, &exitError{exitFailed, err}
	}
	parts := node.Parts{
		Config: cfg, Version: programVersion(), Token: node.NewToken(), Wire: wire,
		Log: log, Gossip: members, Jobs: jobs, Logger: logger, Hurry: spread, Alive: in.overseer.alive,
	}
	if certificates != nil {
		parts.CertificateEnds = certificates.Expires
	}
	return node.New(parts)
}

// spread gives the program all processors while it is in a hurry, and one while it is not: with more, each hand-over
// between two goroutines wakes a thread, which finds nothing to do.
func spread(hurry bool) {
	if hurry {
		runtime.SetDefaultGOMAXPROCS()
	} else {
		runtime.GOMAXPROCS(1)
	}
}

func newLog(in setting, wire *node.Wire) (*raftstore.Store, error) {
	c := in.cfg.LogStore()
	c.TLS, c.Logger, c.Observer, c.Listening = in.certificates.TLS(), in.logger, wire, in.open.begun
	return raftstore.New(c, wire.StateMachine())
}

func newGossip(in setting, wire *node.Wire) (*gossip.Gossip, error) {
	cfg := in.cfg
	ring, err := cfg.LoadKeyring(in.logger)
	if err != nil {
		return nil, err
	}
	role := "scheduler"
	if cfg.Witness {
		role = "witness"
	}
	_, port, _ := net.SplitHostPort(cfg.Listen.Gossip) // the configuration was checked
	seeds := func() []string { return wire.Seeds(port) }
	return gossip.New(gossip.Config{
		Node: cfg.Node, Cluster: cfg.Cluster, Listen: cfg.Listen.Gossip, Seeds: seeds(), Moved: seeds,
		Keys: ring.Keys(), Rotated: ring.Keys, Logger: in.logger, Listening: in.open.begun,
		Meta: gossip.Meta{
			Version: programVersion(), Role: role,
			Peer: cfg.Listen.Peer, Admin: cfg.Listen.Admin, HTTP: cfg.Listen.HTTP,
		},
	})
}

// rightsWithin bounds the question, asked once at start, whether the fencer has its rights.
const rightsWithin = 5 * time.Second

// connectsAtOnce is how many sessions are connected to one metastore at a time. One job never needs more.
const connectsAtOnce = 8

func newJobs(
	ctx context.Context, cfg node.Config, wire *node.Wire, life func() uint64, logger *slog.Logger,
) (map[lease.JobName]node.HostedJob, error) {
	jobs, gate := map[lease.JobName]node.HostedJob{}, fence.NewGate(connectsAtOnce)
	if cfg.Witness {
		return jobs, nil
	}
	for name, j := range cfg.Jobs {
		hosted := airflowctl.Config{
			Name: name, Node: cfg.Node, Kind: airflowctl.Kind(j.Kind), Python: j.Python, Command: j.Command,
			Warm: j.Warm, AcceptRevisions: j.AcceptRevisions, User: j.User, Env: environment(j.Env), Dir: j.Dir,
			Root:     filepath.Join(cfg.DataDir, "jobs", name),
			Schedule: j.Schedule, Runner: runner(j), Hooks: j.Hooks.Commands(), HookTimeout: j.Hooks.Timeout,
			FenceDSN: j.Fence.DSN, Group: j.Fence.Group, Life: life, Gate: gate, Broker: brokerOf(name, j), Observer: wire.Job(lease.JobName(name)), Logger: logger,
			Started: func() { veilAgain(logger) },
		}
		job, err := newJob(cfg.Shadow, hosted)
		if err != nil {
			return nil, err
		}
		jobs[lease.JobName(name)] = job
	}
	return jobs, checkAllRights(ctx, jobs, logger)
}

// checkAllRights looks at several jobs at a time: a daemon of a hundred should not be asked for as long a hundred times.
func checkAllRights(ctx context.Context, jobs map[lease.JobName]node.HostedJob, logger *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connectsAtOnce)
	for name, hosted := range jobs {
		if job, ok := hosted.(*airflowctl.Job); ok { // a shadow needs no rights
			group.Go(func() error { return checkRights(ctx, string(name), job, logger) })
		}
	}
	return group.Wait()
}

// brokerOf is nil when the job has none.
func brokerOf(name string, j node.Job) *airflowctl.Broker {
	if j.Broker == (node.Broker{}) {
		return nil
	}
	return &airflowctl.Broker{Config: j.Broker.Fence(name), Required: j.Broker.Required}
}

func newJob(shadow bool, cfg airflowctl.Config) (node.HostedJob, error) {
	if shadow {
		cfg.Logger.Warn("shadow: decisions are said and nothing is done", "job", cfg.Name)
		job, err := airflowctl.NewShadow(cfg)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("jobs.%s: %w", cfg.Name, err)}
		}
		return job, nil
	}
	job, err := airflowctl.New(cfg)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("jobs.%s: %w", cfg.Name, err)}
	}
	return job, nil
}

// runner is this program again, as what runs a job's command at its slots.
func runner(j node.Job) []string {
	args := []string{"/proc/self/exe", runScheduled}
	for _, code := range j.NoRetry {
		args = append(args, "--no-retry", strconv.Itoa(code))
	}
	return args
}

// checkRights refuses to run without the rights a takeover needs. A metastore that does not answer is no reason: it
// may be down together with everything else, and the node must come up before it does.
func checkRights(ctx context.Context, name string, job *airflowctl.Job, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, rightsWithin)
	defer cancel()
	report, err := job.Check(ctx)
	if err != nil {
		logger.Warn("metastore does not answer; rights are not checked", "job", name, "err", err)
	}
	var missing []error
	for _, f := range report.Findings {
		if !f.OK {
			missing = append(missing, fmt.Errorf("%s: %s; %s", f.Name, f.Detail, f.Mend))
		}
	}
	if len(missing) > 0 {
		return &exitError{exitUnsafe, fmt.Errorf("jobs.%s: its database or its settings lack what the fence or the job needs: %w", name, errors.Join(missing...))}
	}
	return nil
}

func environment(extra map[string]string) []string {
	env := os.Environ()
	for name, value := range extra {
		env = append(env, name+"="+value)
	}
	slices.Sort(env[len(env)-len(extra):])
	return env
}
