package node

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/hook"
	"github.com/duoflow/duoflow/airflowctl/schedule"
	"github.com/duoflow/duoflow/node/lease"
)

// validate says of everything in a configuration what is wrong with it, also with the files it names.
func (c *Config) validate(p *Problems) {
	c.validateSelf(p)
	c.validateNodes(p)
	c.validateListen(p)
	c.validateAddresses(p)
	c.validateFiles(p)
	for _, name := range c.jobNames() {
		c.validateJob(p, string(name), c.Jobs[string(name)])
	}
	c.validateDatabases(p)
	if len(c.Jobs) == 0 {
		p.add("jobs", "none; want at least one, e.g. `scheduler`")
	}
}

func (c *Config) validateSelf(p *Problems) {
	if c.Cluster == "" {
		p.add("cluster", "empty; any name, the same on every node")
	}
	if _, ok := detections[c.Detection]; !ok {
		p.add("detection", "%q; want fast, lan or wan", c.Detection)
	}
	if c.CalmWindow != nil && *c.CalmWindow < 0 {
		p.add("calm_window", "%s; want 0s or more", *c.CalmWindow)
	}
	if !lease.ValidName(c.Node) {
		p.add("node", "%q; want a small letter, then up to 15 small letters, digits or dashes", c.Node)
		return
	}
	if m, ok := c.Nodes[c.Node]; !ok {
		p.add("node", "%q is not among nodes", c.Node)
	} else if m.Witness != c.Witness {
		p.add("witness", "%v, but nodes.%s.witness is %v", c.Witness, c.Node, m.Witness)
	}
}

func (c *Config) validateNodes(p *Problems) {
	if len(c.Nodes) < 2 && c.Join {
		p.add("nodes", "only this one; a node that joins needs to know at least one that is there")
	}
	if len(c.Nodes)%2 == 0 && !c.Join {
		p.add("nodes", "%d; want an odd number, three as a rule: an even one survives no more losses and votes can tie", len(c.Nodes))
	}
	candidates := 0
	ids := map[uint64]string{}
	for _, id := range c.nodeNames() {
		name := string(id)
		key, m := "nodes."+name, c.Nodes[name]
		if !lease.ValidName(name) {
			p.add(key, "not a node name; want a small letter, then up to 15 small letters, digits or dashes")
		}
		if other, ok := ids[RaftID(id)]; ok {
			p.add(key, "has the raft id of node %s, by chance; rename one of them", other)
		}
		ids[RaftID(id)] = name
		if !reachable(m.Peer) {
			p.add(key+".peer", "%q; want host:port", m.Peer)
		}
		if m.Gossip != "" && !reachable(m.Gossip) {
			p.add(key+".gossip", "%q; want host:port", m.Gossip)
		}
		for _, a := range []address{{key + ".peer", m.Peer}, {key + ".gossip", m.Gossip}} {
			if why := c.exposed(a.addr); why != "" {
				p.add(a.key, "%s", why)
			}
		}
		if !m.Witness {
			candidates++
		}
	}
	if candidates == 0 {
		p.add("nodes", "all are witnesses; nobody could run a job")
	}
}

func (c *Config) listens() []address {
	return []address{
		{"listen.peer", c.Listen.Peer}, {"listen.gossip", c.Listen.Gossip}, {"listen.admin", c.Listen.Admin}, {"listen.http", c.Listen.HTTP},
	}
}

func (c *Config) validateListen(p *Problems) {
	var seen []address
	for _, l := range c.listens() {
		_, port, err := net.SplitHostPort(l.addr)
		if err != nil || port == "" {
			p.add(l.key, "%q; want host:port", l.addr)
			continue
		}
		if why := c.exposed(l.addr); why != "" {
			p.add(l.key, "%s", why)
		}
		if i := slices.IndexFunc(seen, func(s address) bool { return port != "0" && s.clashes(l) }); i >= 0 {
			p.add(l.key, "%q; %s listens there already; choose another port", l.addr, seen[i].key)
		}
		seen = append(seen, l)
	}
	m := c.Nodes[c.Node]
	if reachable(m.Peer) && contradict(c.Listen.Peer, m.Peer) {
		p.add("listen.peer", "%q, but the others are told to connect to %q (nodes.%s.peer); want the same, or the port alone to listen everywhere",
			c.Listen.Peer, m.Peer, c.Node)
	}
	if reachable(m.Gossip) && contradict(c.Listen.Gossip, m.Gossip) {
		p.add("listen.gossip", "%q, but the others are told %q (nodes.%s.gossip); want the same", c.Listen.Gossip, m.Gossip, c.Node)
	}
}

// address is one that somebody listens on.
type address struct{ key, addr string }

// clashes reports whether two addresses of one host cannot both be listened on.
func (a address) clashes(b address) bool {
	hostA, portA, _ := net.SplitHostPort(a.addr)
	hostB, portB, _ := net.SplitHostPort(b.addr)
	return portA == portB && (hostA == hostB || everywhere(hostA) || everywhere(hostB))
}

// contradict reports whether one who listens there can for sure not be reached here. Names are not looked up.
func contradict(listen, told string) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" || port == "0" {
		return false
	}
	toldHost, toldPort, _ := net.SplitHostPort(told)
	if port != toldPort {
		return true
	}
	one, err := netip.ParseAddr(host)
	other, errOther := netip.ParseAddr(toldHost)
	return err == nil && errOther == nil && !everywhere(host) && one != other
}

func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

// validateAddresses wants every node where no other is.
func (c *Config) validateAddresses(p *Problems) {
	owners := map[string]string{}
	_, ours, _ := net.SplitHostPort(c.Listen.Gossip)
	for _, id := range c.nodeNames() {
		key, m := "nodes."+string(id), c.Nodes[string(id)]
		host, _, err := net.SplitHostPort(m.Peer)
		if err != nil {
			continue
		}
		gossip := m.Gossip
		if gossip == "" && ours != "" && ours != "0" {
			gossip = net.JoinHostPort(host, ours) // as duoflowd looks for it
		}
		for _, a := range []address{{key + ".peer", m.Peer}, {key + ".gossip", gossip}} {
			if owner, ok := owners[a.addr]; ok && reachable(a.addr) {
				p.add(a.key, "%q is also %s; each needs an address of its own", a.addr, owner)
			}
			owners[a.addr] = a.key
		}
	}
}

// reachable reports whether others can be told to connect to addr.
func reachable(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	return err == nil && host != "" && port != "" && port != "0"
}

// exposed says why an address must not be used without TLS; empty when it may be, or is none.
func (c *Config) exposed(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err != nil || !c.InsecureLoopback || loopback(host) {
		return ""
	}
	return fmt.Sprintf("%q is not a loopback address, which insecure_loopback asks for", addr)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (c *Config) validateJob(p *Problems, name string, j Job) {
	key := "jobs." + name
	if !lease.ValidName(name) {
		p.add(key, "not a job name; want a small letter, then up to 15 small letters, digits or dashes")
	}
	if j.Grace < 0 {
		p.add(key+".grace", "%s; want 0s or more", j.Grace)
	}
	if j.Weight != nil && (*j.Weight < 1 || *j.Weight > maxWeight) {
		p.add(key+".weight", "%d; want 1 to %d", *j.Weight, maxWeight)
	}
	if err := hook.Check(j.Hooks.Commands(), j.Hooks.Timeout); err != nil {
		p.add(key+".hooks", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	c.validateKind(p, key, j)
	c.validateFollow(p, name, j)
	c.validatePrefer(p, key, j)
	c.validateBroker(p, key, name, j)
	if c.Witness {
		if j.Fence.DSN != "" && c.Nodes[c.Node].Witness { // else it is another mistake
			p.add(key+".fence.dsn", "a witness never fences; remove it, for it may hold a password")
		}
		return
	}
	validateUser(p, key+".user", j.User)
	if j.Fence.DSN == "" {
		p.add(key+".fence.dsn", "empty; how this host's fencer logs in")
	}
	if j.Fence.Group == "" {
		p.add(key+".fence.group", "empty; the group role whose rights an epoch is granted")
	}
	if j.Fence.DSN == "" || j.Fence.Group == "" || !lease.ValidName(name) {
		return
	}
	if _, err := fence.New(fence.Config{Job: name, DSN: j.Fence.DSN, Group: j.Fence.Group}); err != nil {
		text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "make fencer: "), "\n", "; ")
		p.add(key+".fence", "%s", text)
	}
}

// validateKind wants what a kind needs, and nothing that it has no use for.
func (c *Config) validateKind(p *Problems, key string, j Job) {
	if len(j.NoRetry) > 0 && j.Schedule == "" {
		p.add(key+".no_retry", "only a job with a schedule has slots that could be left; remove it, or add a schedule")
	}
	for _, code := range j.NoRetry {
		if code < 1 || code > 255 {
			p.add(key+".no_retry", "%d; want exit codes of 1 to 255", code)
		}
	}
	switch j.Kind {
	case "airflow":
		if j.Python == "" && !c.Witness {
			p.add(key+".python", "empty; the interpreter Airflow is installed for")
		}
		if len(j.Command) > 0 {
			p.add(key+".command", "kind airflow runs the scheduler and nothing else; remove it, or want kind: command")
		}
		if j.Schedule != "" {
			p.add(key+".schedule", "kind airflow runs all the time; remove it, or want kind: command")
		}
	case "command":
		if len(j.Command) == 0 && !c.Witness {
			p.add(key+".command", "empty; the program and its arguments")
		}
		if j.Python != "" {
			p.add(key+".python", "kind command has no use for it; put the interpreter into command")
		}
		if j.Warm {
			p.add(key+".warm", "only kind airflow has a standby process; remove it")
		}
		if len(j.AcceptRevisions) > 0 {
			p.add(key+".accept_revisions", "only kind airflow has tables of Airflow's; remove it")
		}
		if _, err := schedule.Parse(j.Schedule); j.Schedule != "" && err != nil {
			p.add(key+".schedule", "%q: %v; want five cron fields, @hourly and the like, or @every 10m", j.Schedule, err)
		}
	default:
		p.add(key+".kind", "%q; want airflow or command", j.Kind)
	}
}

func (c *Config) validateFollow(p *Problems, name string, j Job) {
	key := "jobs." + name + ".follow"
	leader, ok := c.Jobs[j.Follow]
	switch {
	case j.Follow == "":
	case !ok || j.Follow == name:
		p.add(key, "%q is not another job", j.Follow)
	case leader.Follow == name:
		p.add(key, "%q follows this one: a circle; want a job that follows none", j.Follow)
	case leader.Follow != "":
		p.add(key, "%q follows %q itself; want a job that follows none", j.Follow, leader.Follow)
	}
}

func (c *Config) validatePrefer(p *Problems, key string, j Job) {
	key += ".prefer"
	if j.Follow != "" && len(j.Prefer) > 0 {
		p.add(key, "a job that follows runs where %q does; remove one of them", j.Follow)
	}
	for i, name := range j.Prefer {
		switch m, ok := c.Nodes[name]; {
		case !ok:
			p.add(key, "%q is not among nodes", name)
		case m.Witness:
			p.add(key, "%q is a witness, which never runs a job", name)
		case slices.Contains(j.Prefer[:i], name):
			p.add(key, "%q is named twice", name)
		}
	}
}

// validateBroker wants a broker for Airflow only. A witness may have the others' lines; it reads no password.
func (c *Config) validateBroker(p *Problems, key, name string, j Job) {
	if j.Broker == (Broker{}) {
		return
	}
	key += ".broker"
	if j.Kind == "command" {
		p.add(key, "only kind airflow gets users at a broker; remove it")
		return
	}
	for _, f := range j.Broker.Fence(name).Faults() {
		p.add(key+"."+f.Key, "%s", f.Text)
	}
	if c.Witness || j.Broker.PasswordFile == "" {
		return
	}
	if text, ok := contents(p, key+".password_file", j.Broker.PasswordFile, secret); ok && len(bytes.TrimSpace(text)) == 0 {
		p.add(key+".password_file", "%s is empty; it has to hold the password of user %q", j.Broker.PasswordFile, j.Broker.User)
	}
	if j.Broker.CA == "" {
		return
	}
	if text, ok := contents(p, key+".ca", j.Broker.CA, public); ok && !x509.NewCertPool().AppendCertsFromPEM(text) {
		p.add(key+".ca", "%s holds no certificate in PEM", j.Broker.CA)
	}
}

// validateDatabases refuses two jobs that could write each other's tables although nothing keeps them on one node: the fence
// of the one would not keep an old life of the other out. In one database with groups of their own they cannot.
func (c *Config) validateDatabases(p *Problems) {
	for i, name := range c.jobNames() {
		j := c.Jobs[string(name)]
		places, err := fence.Places(j.Fence.DSN)
		if j.Fence.DSN == "" || err != nil {
			continue // said already
		}
		for _, other := range c.jobNames()[:i] {
			o := c.Jobs[string(other)]
			if o.Fence.Group != j.Fence.Group || o.together(string(other), string(name), j) {
				continue
			}
			theirs, err := fence.Places(o.Fence.DSN)
			if err == nil && o.Fence.DSN != "" && slices.ContainsFunc(places, func(s string) bool { return slices.Contains(theirs, s) }) {
				p.add("jobs."+string(name)+".fence", "same database and group as job %s: either could write the other's tables, fenced or not; "+
					"give each a database or at least a group of its own", other)
			}
		}
	}
}

// together reports whether two jobs always run on one node.
func (j Job) together(name, other string, o Job) bool {
	return j.Follow == other || o.Follow == name || (j.Follow != "" && j.Follow == o.Follow)
}
