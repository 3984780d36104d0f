package node

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/hook"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// Config is the file duoflowd is started with. Unknown keys are refused.
type Config struct {
	// Cluster names the cluster; nodes of another name are refused.
	Cluster string `yaml:"cluster"`
	// Node is this node's name, one of Nodes.
	Node string `yaml:"node"`
	// Witness: this node votes and never runs a job. It must agree with Nodes.
	Witness bool `yaml:"witness"`
	// DataDir holds the log, the service files and the jobs' output. It is created when missing.
	DataDir string `yaml:"data_dir"`
	Listen  Listen `yaml:"listen"`
	// Nodes are all voters that the cluster is made of, this one included. Once members were changed with `duoctl member` the log knows
	// better who they are and where, and of this only priority and nofailover are looked at.
	Nodes map[string]Member `yaml:"nodes"`
	// Join: this node is to be added to a cluster that exists already, with `duoctl member add`. Nodes are then some of its members
	// and this one. It means nothing once the node has been added.
	Join bool `yaml:"join"`
	TLS  TLS  `yaml:"tls"`
	// InsecureLoopback runs without TLS; only loopback addresses may be listened on then.
	InsecureLoopback bool   `yaml:"insecure_loopback"`
	Gossip           Gossip `yaml:"gossip"`
	// Shadow decides, says so, and does nothing: no fence, no process. It has to be the same on every node.
	Shadow bool `yaml:"shadow"`
	// Detection is fast, lan (the default) or wan.
	Detection string `yaml:"detection"`
	// CalmWindow is how long failovers by silence and failed lives are remembered for damping; default 10 m, "0s" turns
	// damping off.
	CalmWindow *time.Duration `yaml:"calm_window"`
	// Jobs must be the same on every node; a witness needs their names and fences no more than their order.
	Jobs map[string]Job `yaml:"jobs"`

	// path is where it was read, base what relative paths in it start from, text what was written there.
	path, base, text string
}

// Listen are the four addresses of a node, each host:port.
type Listen struct {
	Peer   string `yaml:"peer"`
	Gossip string `yaml:"gossip"`
	Admin  string `yaml:"admin"`
	HTTP   string `yaml:"http"`
}

// Member is a node as the others reach it: `a: 10.0.0.1:7400`, or the long form.
type Member struct {
	Peer string `yaml:"peer"`
	// Gossip is where memberlist finds it; empty: the host of Peer with the port of our own gossip address.
	Gossip  string `yaml:"gossip"`
	Witness bool   `yaml:"witness"`
	// Priority orders candidates, higher first.
	Priority int `yaml:"priority"`
	// NoFailover keeps every job away from this node.
	NoFailover bool `yaml:"nofailover"`
}

// TLS are PEM files, which are read again when they change. The certificate's name must be the node's.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Revoked is a revocation list of the authority, or several; empty, or a file that does not exist: nobody is.
	Revoked string `yaml:"revoked"`
}

// Gossip is the membership layer's secret.
type Gossip struct {
	// Keyring is a file of base64 keys, one a line, the first of which encrypts. It is read again when it changes.
	Keyring string `yaml:"keyring"`
}

// Job is something of which exactly one instance may be effective.
type Job struct {
	// Kind is airflow or command.
	Kind string `yaml:"kind"`
	// Python is Airflow's interpreter (kind airflow).
	Python string `yaml:"python"`
	// Command is the program and its arguments (kind command).
	Command []string `yaml:"command"`
	// Schedule says when Command runs: five cron fields or @hourly and the like, in UTC unless CRON_TZ=<zone> comes first, or
	// @every <duration>. Empty: it runs all the time (kind command).
	Schedule string `yaml:"schedule"`
	// NoRetry are exit codes, 1..255, with which a scheduled run has failed for good: its slot is not tried again.
	NoRetry []int `yaml:"no_retry"`
	// Warm keeps an imported standby process ready (kind airflow).
	Warm bool `yaml:"warm"`
	// AcceptRevisions are versions of Airflow's tables (alembic_version) that duoflow does not know and that you have tried on a copy; the
	// columns that it reads and writes are looked at all the same (kind airflow).
	AcceptRevisions []string `yaml:"accept_revisions"`
	// User runs the process tree and owns its service file; empty: duoflowd's own user.
	User string `yaml:"user"`
	// Env is added to duoflowd's own environment.
	Env map[string]string `yaml:"env"`
	// Dir is the working directory; empty: the job's own below DataDir.
	Dir string `yaml:"dir"`
	// Prefer orders the nodes that this job is granted to, the first one first; those it leaves out come after, by their priority.
	// The job does not move back by itself.
	Prefer []string `yaml:"prefer"`
	// Weight is how much of a node the job takes, 1 to 1000, beside the others: among nodes that are equal to it a job is granted to
	// the one that bears less. Jobs that follow add theirs to their leader's. Default 1; no job moves for it by itself.
	Weight *int `yaml:"weight"`
	// Follow names the job whose active node this one runs on.
	Follow string `yaml:"follow"`
	// Grace is how long the job may take to end when it is moved in order; zero: 30 s.
	Grace time.Duration `yaml:"grace"`
	Hooks Hooks         `yaml:"hooks"`
	Fence Fence         `yaml:"fence"`
	// Broker gives each epoch a user of its own at RabbitMQ (kind airflow); left out, Celery connects as Airflow is configured.
	Broker Broker `yaml:"broker"`
}

// Broker is the RabbitMQ that a job's messages go through, and how users are made there. The zero value is none.
type Broker struct {
	// Management is the URL of RabbitMQ's management API.
	Management string `yaml:"management"`
	// User has RabbitMQ's tag administrator; PasswordFile holds its password and nothing else, and is read at each use.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// CA is the authority that an https Management is trusted by; empty: those this host trusts.
	CA string `yaml:"ca"`
	// VHost is the virtual host that Celery works in; empty: "/".
	VHost string `yaml:"vhost"`
	// AMQP is where the scheduler connects to, host:port.
	AMQP string `yaml:"amqp"`
	// Required refuses to start a scheduler without a user of its epoch. Else it is started, after 3 s, as Airflow is configured,
	// and that is shown as unsafe.
	Required bool `yaml:"required"`
}

// Fence is the fence's configuration for a job of that name.
func (b Broker) Fence(job string) broker.Config {
	return broker.Config{
		Job: job, Management: b.Management, User: b.User, PasswordFile: b.PasswordFile, CA: b.CA, VHost: b.VHost, AMQP: b.AMQP,
	}
}

// Hooks are an operator's commands, each a program with its whole path and its arguments; see package hook. They run as User.
type Hooks struct {
	// PreStart may veto a start: it has to end with 0, in time.
	PreStart  []string `yaml:"pre_start"`
	PostStart []string `yaml:"post_start"`
	// PreStop gets at most the time the job gets to end.
	PreStop  []string `yaml:"pre_stop"`
	PostStop []string `yaml:"post_stop"`
	// OnFence is told that this host has taken the fence.
	OnFence []string `yaml:"on_fence"`
	// Timeout is how long each may take; zero: 10 s.
	Timeout time.Duration `yaml:"timeout"`
}

// Commands are the hooks that are configured.
func (h Hooks) Commands() map[hook.Name][]string {
	commands := map[hook.Name][]string{
		hook.PreStart: h.PreStart, hook.PostStart: h.PostStart, hook.PreStop: h.PreStop, hook.PostStop: h.PostStop, hook.OnFence: h.OnFence,
	}
	maps.DeleteFunc(commands, func(_ hook.Name, command []string) bool { return command == nil })
	return commands
}

// Fence is the database that makes the job's epoch effective.
type Fence struct {
	// DSN logs in as this host's fencer. Empty on a witness.
	DSN string `yaml:"dsn"`
	// Group is the role that owns or holds the rights on the job's tables.
	Group string `yaml:"group"`
}

// LoadConfig reads, completes and checks a configuration file. Relative paths in it are relative to the file.
func LoadConfig(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fmt.Errorf("find configuration: %w", err)
	}
	c, err := ParseConfig(raw, filepath.Dir(absolute))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	c.path = absolute
	return c, nil
}

// ParseConfig is LoadConfig for text; base is the directory relative paths start from. What is wrong with the text, with what it
// says and with the files it names is reported together, as Problems; text that is no YAML at all has one.
func ParseConfig(raw []byte, base string) (Config, error) {
	var c Config
	p := &Problems{}
	readYAML(raw, &c, p)
	if !p.unreadable {
		c.complete(base)
		c.validate(p)
	}
	if len(p.List) > 0 {
		return Config{}, p
	}
	c.base, c.text = base, string(raw)
	return c, nil
}

func (c *Config) complete(base string) {
	if c.Detection == "" {
		c.Detection = "lan"
	}
	for _, path := range []*string{&c.DataDir, &c.TLS.CA, &c.TLS.Cert, &c.TLS.Key, &c.TLS.Revoked, &c.Gossip.Keyring} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(base, *path)
		}
	}
	for name, j := range c.Jobs {
		if j.Grace == 0 {
			j.Grace = control.DefaultTiming().PlannedGrace
		}
		for _, path := range []*string{&j.Broker.PasswordFile, &j.Broker.CA} {
			if *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(base, *path)
			}
		}
		c.Jobs[name] = j
	}
}

// detection is a profile of DESIGN section 4. The log's time is counted in ticks; pulse is how often an idle node lets it pass.
type detection struct {
	silence, tick, pulse          time.Duration
	heartbeatTicks, electionTicks int
}

var detections = map[string]detection{
	"fast": {150 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 3, 15},
	"lan":  {300 * time.Millisecond, 10 * time.Millisecond, beatEvery, 5, 30},
	"wan":  {2 * time.Second, 50 * time.Millisecond, beatEvery, 3, 40},
}

// RaftTiming is the profile's pace for the replicated log, in ticks but for the first.
func (c *Config) RaftTiming() (tick time.Duration, heartbeatTicks, electionTicks int) {
	d := detections[c.Detection]
	return d.tick, d.heartbeatTicks, d.electionTicks
}

func (c *Config) nodeNames() []lease.NodeID {
	names := make([]lease.NodeID, 0, len(c.Nodes))
	for name := range c.Nodes {
		names = append(names, lease.NodeID(name))
	}
	slices.Sort(names)
	return names
}

func (c *Config) jobNames() []lease.JobName {
	names := make([]lease.JobName, 0, len(c.Jobs))
	for name := range c.Jobs {
		names = append(names, lease.JobName(name))
	}
	slices.Sort(names)
	return names
}

// priorities orders the candidates for a job, higher first: those it prefers, then the others as they are ordered for all.
func (c *Config) priorities(j Job) map[lease.NodeID]int {
	order, top := map[lease.NodeID]int{}, 0
	for _, id := range c.nodeNames() {
		order[id] = c.Nodes[string(id)].Priority
		top = max(top, order[id])
	}
	for i, name := range j.Prefer {
		order[lease.NodeID(name)] = top + len(j.Prefer) - i
	}
	return order
}

// weights is what each job adds to the load of a node; one that follows is in its leader's.
func (c *Config) weights() map[lease.JobName]int {
	weights := map[lease.JobName]int{}
	for _, name := range c.jobNames() {
		j := c.Jobs[string(name)]
		weight := defaultWeight
		if j.Weight != nil {
			weight = *j.Weight
		}
		if j.Follow != "" {
			name = lease.JobName(j.Follow)
		}
		weights[name] += weight
	}
	return weights
}

// defaultWeight is that of a job whose configuration says nothing of it, maxWeight the greatest.
const defaultWeight, maxWeight = 1, 1000

// timing is every duration the machines of a job depend on.
func (c *Config) timing(j Job) control.Timing {
	t := control.DefaultTiming()
	t.Silence, t.Step = detections[c.Detection].silence, detections[c.Detection].pulse
	t.PlannedGrace = j.Grace
	if c.CalmWindow != nil {
		t.CalmWindow = *c.CalmWindow
	}
	return t
}
