package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

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
	// Nodes are all voters, this one included.
	Nodes map[string]Member `yaml:"nodes"`
	TLS   TLS               `yaml:"tls"`
	// InsecureLoopback runs without TLS; only loopback addresses may be listened on then.
	InsecureLoopback bool   `yaml:"insecure_loopback"`
	Gossip           Gossip `yaml:"gossip"`
	// Detection is fast, lan (the default) or wan.
	Detection string `yaml:"detection"`
	// CalmWindow is how long failovers by silence and failed lives are remembered for damping; default 10 m, "0s" turns
	// damping off.
	CalmWindow *time.Duration `yaml:"calm_window"`
	// Jobs must be the same on every node; a witness needs their names and fences no more than their order.
	Jobs map[string]Job `yaml:"jobs"`
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

// UnmarshalYAML accepts the short form too. It takes a node, not text, so that errors name the line of the file.
func (m *Member) UnmarshalYAML(node ast.Node) error {
	if text, ok := node.(*ast.StringNode); ok {
		*m = Member{Peer: text.Value}
		return nil
	}
	type long Member
	return yaml.NodeToValue(node, (*long)(m), yaml.Strict())
}

// TLS are PEM files. The certificate's name must be the node's.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Gossip is the membership layer's secret.
type Gossip struct {
	// Keyring is a file of base64 keys, one a line, the first of which encrypts.
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
	// Warm keeps an imported standby process ready (kind airflow).
	Warm bool `yaml:"warm"`
	// User runs the process tree and owns its service file; empty: duoflowd's own user.
	User string `yaml:"user"`
	// Env is added to duoflowd's own environment.
	Env map[string]string `yaml:"env"`
	// Dir is the working directory; empty: the job's own below DataDir.
	Dir string `yaml:"dir"`
	// Follow names the job whose active node this one runs on.
	Follow string `yaml:"follow"`
	// Grace is how long the job may take to end when it is moved in order; zero: 30 s.
	Grace time.Duration `yaml:"grace"`
	Fence Fence         `yaml:"fence"`
}

// Fence is the database that makes the job's epoch effective.
type Fence struct {
	// DSN logs in as this host's fencer. Empty on a witness.
	DSN string `yaml:"dsn"`
	// Group is the role that owns or holds the rights on the job's tables.
	Group string `yaml:"group"`
}

// Problems is everything that is wrong with a configuration, each with the key it is about.
type Problems struct{ List []string }

func (p *Problems) Error() string {
	s := fmt.Sprintf("%d problem(s):", len(p.List))
	for _, line := range p.List {
		s += "\n  " + line
	}
	return s
}

func (p *Problems) addf(format string, args ...any) {
	p.List = append(p.List, fmt.Sprintf(format, args...))
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
	return c, nil
}

// ParseConfig is LoadConfig for text; base is the directory relative paths start from.
func ParseConfig(raw []byte, base string) (Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict())
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, yamlError(err)
	}
	var second Config
	if err := d.Decode(&second); err == nil {
		return Config{}, errors.New("parse YAML: a second document; want one")
	} else if !errors.Is(err, io.EOF) {
		return Config{}, yamlError(err)
	}
	c.complete(base)
	if p := c.validate(); len(p.List) > 0 {
		return Config{}, p
	}
	return c, nil
}

// yamlError says what is wrong and where, without the text around it: a line of it may hold a password.
func yamlError(err error) error {
	return fmt.Errorf("parse YAML: %s", yaml.FormatError(err, false, false))
}

func (c *Config) complete(base string) {
	if c.Detection == "" {
		c.Detection = "lan"
	}
	for _, path := range []*string{&c.DataDir, &c.TLS.CA, &c.TLS.Cert, &c.TLS.Key, &c.Gossip.Keyring} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(base, *path)
		}
	}
	for name, j := range c.Jobs {
		if j.Grace == 0 {
			j.Grace = control.DefaultTiming().PlannedGrace
			c.Jobs[name] = j
		}
	}
}

func (c *Config) validate() *Problems {
	p := &Problems{}
	c.validateSelf(p)
	c.validateNodes(p)
	c.validateListen(p)
	c.validateSecrets(p)
	for _, name := range c.jobNames() {
		c.validateJob(p, string(name), c.Jobs[string(name)])
	}
	if len(c.Jobs) == 0 {
		p.addf("jobs: none; want at least one, e.g. `scheduler`")
	}
	return p
}

func (c *Config) validateSelf(p *Problems) {
	if c.Cluster == "" {
		p.addf("cluster: empty; any name, the same on every node")
	}
	if c.DataDir == "" {
		p.addf("data_dir: empty; e.g. /var/lib/duoflow")
	}
	if _, ok := detections[c.Detection]; !ok {
		p.addf("detection: %q; want fast, lan or wan", c.Detection)
	}
	if c.CalmWindow != nil && *c.CalmWindow < 0 {
		p.addf("calm_window: %s; want 0s or more", *c.CalmWindow)
	}
	if !lease.ValidName(c.Node) {
		p.addf("node: %q; want a small letter, then up to 15 small letters, digits or dashes", c.Node)
		return
	}
	if m, ok := c.Nodes[c.Node]; !ok {
		p.addf("node: %q is not among nodes", c.Node)
	} else if m.Witness != c.Witness {
		p.addf("witness: %v, but nodes.%s.witness is %v", c.Witness, c.Node, m.Witness)
	}
}

func (c *Config) validateNodes(p *Problems) {
	if len(c.Nodes)%2 == 0 {
		p.addf("nodes: %d; want an odd number, three as a rule: an even one survives no more losses and votes can tie",
			len(c.Nodes))
	}
	candidates := 0
	for _, name := range c.nodeNames() {
		m := c.Nodes[string(name)]
		if !lease.ValidName(string(name)) {
			p.addf("nodes.%s: not a node name", name)
		}
		if !reachable(m.Peer) {
			p.addf("nodes.%s: peer %q; want host:port", name, m.Peer)
		}
		if m.Gossip != "" && !reachable(m.Gossip) {
			p.addf("nodes.%s: gossip %q; want host:port", name, m.Gossip)
		}
		if !m.Witness {
			candidates++
		}
	}
	if candidates == 0 {
		p.addf("nodes: all are witnesses; nobody could run a job")
	}
}

func (c *Config) validateListen(p *Problems) {
	for _, l := range []struct{ key, addr string }{
		{"peer", c.Listen.Peer}, {"gossip", c.Listen.Gossip}, {"admin", c.Listen.Admin}, {"http", c.Listen.HTTP},
	} {
		host, port, err := net.SplitHostPort(l.addr)
		if err != nil || port == "" {
			p.addf("listen.%s: %q; want host:port", l.key, l.addr)
			continue
		}
		if c.InsecureLoopback && !loopback(host) {
			p.addf("listen.%s: %q is not a loopback address, which insecure_loopback asks for", l.key, l.addr)
		}
	}
}

// reachable reports whether others can be told to connect to addr.
func reachable(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	return err == nil && host != "" && port != "" && port != "0"
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (c *Config) validateSecrets(p *Problems) {
	files := []struct{ key, path string }{{"gossip.keyring", c.Gossip.Keyring}}
	if !c.InsecureLoopback {
		files = append(files, []struct{ key, path string }{
			{"tls.ca", c.TLS.CA}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key},
		}...)
	}
	for _, f := range files {
		if f.path == "" {
			p.addf("%s: empty; `duoctl tls init` makes one", f.key)
		} else if _, err := os.Stat(f.path); err != nil {
			p.addf("%s: %v", f.key, err)
		}
	}
}

func (c *Config) validateJob(p *Problems, name string, j Job) {
	if !lease.ValidName(name) {
		p.addf("jobs.%s: not a job name", name)
	}
	if j.Grace < 0 {
		p.addf("jobs.%s.grace: %s; want 0s or more", name, j.Grace)
	}
	if j.Follow != "" {
		if _, ok := c.Jobs[j.Follow]; !ok || j.Follow == name {
			p.addf("jobs.%s.follow: %q is not another job", name, j.Follow)
		} else if c.Jobs[j.Follow].Follow != "" {
			p.addf("jobs.%s.follow: %q follows %q itself; want a job that follows none", name, j.Follow, c.Jobs[j.Follow].Follow)
		}
	}
	switch j.Kind {
	case "airflow":
		if j.Python == "" && !c.Witness {
			p.addf("jobs.%s.python: empty; the interpreter Airflow is installed for", name)
		}
	case "command":
		if len(j.Command) == 0 && !c.Witness {
			p.addf("jobs.%s.command: empty; the program and its arguments", name)
		}
	default:
		p.addf("jobs.%s.kind: %q; want airflow or command", name, j.Kind)
	}
	if c.Witness {
		return
	}
	if j.Fence.DSN == "" {
		p.addf("jobs.%s.fence.dsn: empty; how this host's fencer logs in", name)
	}
	if j.Fence.Group == "" {
		p.addf("jobs.%s.fence.group: empty; the group role whose rights an epoch is granted", name)
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

// members is the membership the cluster should agree on.
func (c *Config) members() []lease.Node {
	var nodes []lease.Node
	for _, name := range c.nodeNames() {
		nodes = append(nodes, lease.Node{ID: name, Witness: c.Nodes[string(name)].Witness})
	}
	return nodes
}

// timing is every duration the machines of a job depend on.
func (c *Config) timing(j Job) control.Timing {
	t := control.DefaultTiming()
	t.Silence = detections[c.Detection].silence
	t.PlannedGrace = j.Grace
	if c.CalmWindow != nil {
		t.CalmWindow = *c.CalmWindow
	}
	return t
}
