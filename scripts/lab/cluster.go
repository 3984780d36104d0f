package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// ClusterOptions say what cluster to set up; the zero value is nodes a and b with the witness t.
type ClusterOptions struct {
	Nodes   []string // hosts; empty = a, b, t
	Witness string   // among Nodes; "" = t
	// Later are hosts whose nodes are to be added while the cluster runs; they have certificates and a configuration that says join.
	// LaterWitness is one of them that is a witness; "" = none.
	Later        []string
	LaterWitness string
	Detection    string // "" = duoflowd's own
	Jobs         map[string]Job
	Owner        string   // role that makes the jobs' tables; "" = Owner of the lab
	Env          []string // of the daemons; nil = our own; see Airflow.SchedulerEnv
	Programs     string   // folder with duoflowd and duoctl; "" = the repository's, built anew
}

// Job is a job of the cluster. All are fenced in the lab's Postgres. In Command, {node} is the name of the node.
type Job struct {
	Kind     string            // command | airflow
	Python   string            // kind airflow
	Command  []string          // kind command
	Schedule string            // kind command; "" = it runs all the time
	NoRetry  []int             // exit codes; only with a Schedule
	Warm     bool              // kind airflow
	Follow   string            // name of another job; "" = none
	User     string            // "" = the daemon's
	Group    string            // role that holds the job's rights; "" = airflow
	Database string            // that it is fenced in; "" = Airflow's own. See Metastore.AddDatabase
	Grace    time.Duration     // of a planned stop; 0 = duoflowd's own
	Env      map[string]string // added to the daemon's
	Hooks    map[string]any    // as in the configuration
	Broker   map[string]any    // as in the configuration
}

// SchedulerJob is Airflow's scheduler with a warm standby.
func (a *Airflow) SchedulerJob() Job { return Job{Kind: "airflow", Python: a.Python(), Warm: true} }

// Cluster is a duoflow cluster on hosts of the lab.
type Cluster struct {
	Nodes map[string]*Node // by host

	lab       *Lab
	store     *Metastore
	options   ClusterOptions
	bin, tls  string
	passwords map[string]string // of fencers, by node
}

// NewCluster builds the programs, makes certificates, prepares the metastore for the jobs and writes
// the nodes' configuration. It starts no node.
func (l *Lab) NewCluster(ctx context.Context, store *Metastore, options ClusterOptions) (*Cluster, error) {
	if len(options.Nodes) == 0 {
		options.Nodes = []string{"a", "b", "t"}
	}
	if options.Witness == "" {
		options.Witness = "t"
	}
	if options.Owner == "" {
		options.Owner = Owner
	}
	c := &Cluster{
		lab: l, store: store, options: options, tls: filepath.Join(l.Dir, "tls"),
		Nodes: map[string]*Node{}, passwords: map[string]string{},
	}
	var err error
	if c.bin = options.Programs; c.bin == "" {
		if c.bin, err = build(ctx); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(c.makeTLS(ctx), c.PrepareMetastore(ctx)); err != nil {
		return nil, err
	}
	for _, name := range c.all() {
		if c.Nodes[name], err = c.newNode(name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// all are the nodes of now and later.
func (c *Cluster) all() []string { return slices.Concat(c.options.Nodes, c.options.Later) }

func (c *Cluster) witness(node string) bool {
	return node == c.options.Witness || (node != "" && node == c.options.LaterWitness)
}

func (c *Cluster) makeTLS(ctx context.Context) error {
	args := []string{"tls", "init", "--out", c.tls, "--operator", "lab"}
	for _, name := range c.all() {
		args = append(args, "--node", name+"="+c.lab.Net.Addr(name))
	}
	return c.mustCtl(ctx, nil, args...)
}

// Metastore is the one that it was made with.
func (c *Cluster) Metastore() *Metastore { return c.store }

// Use has daemons that are started from now on, and commands, be of another folder with duoflowd and duoctl.
func (c *Cluster) Use(programs string) { c.bin = programs }

// PrepareMetastore makes the fence, once for each group of jobs in each database; NewCluster has done it. A fencer that is known keeps
// its password.
func (c *Cluster) PrepareMetastore(ctx context.Context) error {
	type place struct{ database, group string }
	jobs := map[place][]string{}
	for _, name := range slices.Sorted(maps.Keys(c.options.Jobs)) {
		job := c.options.Jobs[name]
		at := place{job.database(), job.group()}
		jobs[at] = append(jobs[at], "--job", name)
	}
	var env, fencers []string
	for _, node := range c.all() {
		if c.witness(node) {
			continue
		}
		if c.passwords[node] == "" {
			c.passwords[node] = rand.Text()
		}
		env = append(env, "DUOCTL_PASSWORD_"+strings.ToUpper(fencer(node))+"="+c.passwords[node])
		fencers = append(fencers, "--fencer", fencer(node))
	}
	for _, at := range slices.SortedFunc(maps.Keys(jobs), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.database, b.database), cmp.Compare(a.group, b.group))
	}) {
		args := append([]string{"metastore", "init", "--yes", "--group", at.group}, append(jobs[at], fencers...)...)
		if at.database == Database {
			args = append(args, "--owner", c.options.Owner)
		} else {
			args = append(args, "--mirror=false")
		}
		if err := c.mustCtl(ctx, append(env, "DUOCTL_ADMIN_DSN="+c.store.AdminOf(at.database)), args...); err != nil {
			return err
		}
	}
	return nil
}

func fencer(node string) string { return "fencer_" + node }

func (j Job) group() string {
	if j.Group == "" {
		return "airflow"
	}
	return j.Group
}

func (j Job) database() string {
	if j.Database == "" {
		return Database
	}
	return j.Database
}

// Start starts the daemons of the named nodes; without names, of all that the cluster is made of.
func (c *Cluster) Start(names ...string) error {
	if len(names) == 0 {
		names = c.options.Nodes
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, c.Nodes[name].Start())
	}
	return errors.Join(errs...)
}

// Status is what the node that knows most answers, or with names the first of those nodes that does;
// look at its View before trusting it.
func (c *Cluster) Status(ctx context.Context, names ...string) (*duoflowv1.StatusResponse, error) {
	args := []string{"status", "-o", "json"}
	for _, name := range names {
		args = append(args, "--endpoint", c.Nodes[name].Admin())
	}
	output, code, err := c.Ctl(ctx, args...)
	if err != nil {
		return nil, err
	}
	if code != 0 && code != exitStale {
		return nil, fmt.Errorf("read status: exit code %d: %s", code, output)
	}
	text, _, _ := strings.Cut(output, "\nduoctl: ") // with exitStale a remark follows
	status := &duoflowv1.StatusResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), status); err != nil {
		return nil, fmt.Errorf("decode status: %w", err)
	}
	return status, nil
}

// exitStale is duoctl's exit code for an answer that is only one node's view.
const exitStale = 6

// Active is where a job runs and since which epoch.
type Active struct {
	Node  string
	Epoch uint64
}

// AwaitActive waits until a majority says that the job is active under an epoch above after.
func (c *Cluster) AwaitActive(ctx context.Context, job string, after uint64) (Active, error) {
	for {
		status, err := c.Status(ctx)
		if err == nil {
			if active, ok := activeIn(status, job); ok && active.Epoch > after {
				return active, nil
			}
		}
		select {
		case <-ctx.Done():
			return Active{}, fmt.Errorf("wait for an active %s: %w; last error: %w, last status: %v", job, ctx.Err(), err, status)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func activeIn(status *duoflowv1.StatusResponse, name string) (Active, bool) {
	if !status.GetView().GetAuthoritative() {
		return Active{}, false
	}
	for _, job := range status.GetJobs() {
		for _, on := range job.GetNodes() {
			if job.GetName() == name && on.GetNode() == job.GetHolder() && on.GetState() == "active" {
				return Active{on.GetNode(), job.GetEpoch()}, true
			}
		}
	}
	return Active{}, false
}

// ports of every node, on its own address.
const (
	peerPort   = 7400
	gossipPort = 7401
	adminPort  = 7402
	httpPort   = 7403
)

func (c *Cluster) addr(node string, port int) string {
	return fmt.Sprintf("%s:%d", c.lab.Net.Addr(node), port)
}

// newNode writes the configuration of a node.
func (c *Cluster) newNode(name string) (*Node, error) {
	host := c.lab.Host(name)
	if host == nil {
		return nil, fmt.Errorf("make node %q: no such host", name)
	}
	n := &Node{Host: host, cluster: c, dir: filepath.Join(c.lab.Dir, "node-"+name)}
	if err := os.MkdirAll(n.DataDir(), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of node %s: %w", name, err)
	}
	return n, n.WriteConfig(nil)
}
