package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// change is one difference to the good file, and what is said of it; "" is nothing.
type change struct{ from, to, want string }

// oneThingWrong makes one change at a time: the mistake is told with its key, and nothing else is.
func oneThingWrong(t *testing.T, changes []change) {
	t.Helper()
	good, err := os.ReadFile(written(t))
	must(t, err)
	dir := sound(t)
	for _, tt := range changes {
		t.Run(tt.want, func(t *testing.T) {
			bad, want := strings.Replace(string(good), tt.from, tt.to, 1), strings.ReplaceAll(tt.want, "DIR", dir)
			if bad == string(good) {
				t.Fatalf("%q is not in the good file", tt.from)
			}
			_, err := ParseConfig([]byte(bad), dir)
			if want == "" && err == nil {
				return
			}
			var p *Problems
			if !errors.As(err, &p) || len(p.List) != 1 || !strings.HasPrefix(p.List[0], want) || want == "" {
				t.Errorf("got %v, want this one problem: %q", err, want)
			}
		})
	}
}

func TestOneThingWrongWithANode(t *testing.T) {
	oneThingWrong(t, []change{
		{"cluster: prod", `cluster: ""`, "cluster: empty"},
		{"cluster: prod", "cluster: prod\ncluster: test", "cluster: [2:1] said already in line 1"},
		{"cluster: prod", "cluster: [prod]", "cluster: [1:10] want one value"},
		{"cluster: prod", "cluster: prod\nclutser: x", "clutser: [2:1] unknown key; the keys here are cluster, node,"},
		{"cluster: prod", "cluster: prod\n\"\": x", "\"\": [2:1] unknown key; the keys here are cluster, node,"}, // it once was a field that is no key: a panic
		{"cluster: prod", "cluster: *nobody", "cluster: [1:10] an alias of nothing"},
		{"data_dir: data", "", "data_dir: empty"},
		{"data_dir: data", "data_dir: keys/data", "data_dir: stat DIR/keys/data: not a directory"},
		{"data_dir: data", "data_dir: keys", "data_dir: DIR/keys is no directory"},
		{"node: a\n", "node: c\n", `node: "c" is not among nodes`},
		{"witness: false", "witness: true", "witness: true, but nodes.a.witness is false"},
		{"witness: false", "witness: perhaps", "witness: [3:10] "},
		{"witness: false", "detection: slow", `detection: "slow"; want fast, lan or wan`},
		{"witness: false", "calm_window: -1s", "calm_window: -1s; want 0s or more"},
		{"witness: false", "calm_window: soon", `calm_window: [3:14] time: invalid duration "soon"`},
		{"witness: false", "insecure_loopback: maybe", "insecure_loopback: [3:20] "},
		{"b: 10.0.0.2:7400, ", "", "nodes: 2; want an odd number"},
		{"b: 10.0.0.2:7400", "b: 10.0.0.2", `nodes.b.peer: "10.0.0.2"; want host:port`},
		{"b: 10.0.0.2:7400", "b: [10.0.0.2:7400]", "nodes.b: [6:30] want keys and values"},
		{"b: 10.0.0.2:7400", "b_: 10.0.0.2:7400", "nodes.b_: not a node name"},
		{"b: 10.0.0.2:7400", "b: 10.0.0.2:7400, b: 10.0.0.4:7400", "nodes.b: [6:45] said already in line 6"},
		{"b: 10.0.0.2:7400", "b: {peer: 10.0.0.2:7400, wittness: true}", "nodes.b.wittness: [6:52] unknown key; the keys here are peer, gossip, witness, priority, nofailover"},
		{"b: 10.0.0.2:7400", "b: {peer: 10.0.0.2:7400, priority: high}", "nodes.b.priority: [6:62] "},
		{"b: 10.0.0.2:7400", "b: 10.0.0.3:7400", `nodes.t.peer: "10.0.0.3:7400" is also nodes.b.peer`},
		{"b: 10.0.0.2:7400", "b: {peer: 10.0.0.2:7400, gossip: 10.0.0.3:7501}", `nodes.t.gossip: "10.0.0.3:7501" is also nodes.b.gossip`},
		{"b: 10.0.0.2:7400", "b: {peer: 10.0.0.2:7401}", `nodes.b.gossip: "10.0.0.2:7401" is also nodes.b.peer`},
		{"b: 10.0.0.2:7400", "nnhoffgellmbbahm: 10.0.0.2:7400, c: 10.0.0.4:7400, hedfpfbgnfealomn: 10.0.0.5:7400", "nodes.nnhoffgellmbbahm: has the raft id of node hedfpfbgnfealomn"},
		{"http: 10.0.0.1:7403", "http: 10.0.0.1", `listen.http: "10.0.0.1"; want host:port`},
		{"http: 10.0.0.1:7403", "http: 10.0.0.1:7402", `listen.http: "10.0.0.1:7402"; listen.admin listens there already`},
		{"http: 10.0.0.1:7403", `http: ":7402"`, `listen.http: ":7402"; listen.admin listens there already`},
		{"peer: 10.0.0.1:7400, gossip", "peer: 10.0.0.9:7400, gossip", `listen.peer: "10.0.0.9:7400", but the others are told to connect to "10.0.0.1:7400" (nodes.a.peer)`},
		{"peer: 10.0.0.1:7400, gossip", `peer: ":7499", gossip`, `listen.peer: ":7499", but`},
		{"cert: a.pem", "cert: b.pem", "tls.cert: stat DIR/b.pem: no such file or directory"},
		{"ca: ca.pem", "ca: a.key", "tls.ca: DIR/a.key holds no certificate"},
		{"ca: ca.pem", "ca: .", "tls.ca: DIR is no file"},
		{"gossip: {keyring: keys}", "", "gossip.keyring: empty"},
		{"gossip: {keyring: keys}", "gossip: {keyring: a.key}", "gossip.keyring: DIR/a.key: "},
	})
}

func TestOneThingWrongWithAJob(t *testing.T) {
	scheduler := `dsn: "postgres://fencer_a@db1,db2/airflow?target_session_attrs=read-write", group: airflow`
	etl := `dsn: "postgres://fencer_a@warehouse/lightning", group: lightning`
	oneThingWrong(t, []change{
		{"kind: airflow", "kind: cron", `jobs.scheduler.kind: "cron"; want airflow or command`},
		{"kind: airflow", "kind: airflow\n    schedule: '@daily'", "jobs.scheduler.schedule: kind airflow runs all the time"},
		{"kind: airflow", "kind: airflow\n    command: [x]", "jobs.scheduler.command: kind airflow runs the scheduler"},
		{"kind: airflow", "kind: airflow\n    user: nobody-here", "jobs.scheduler.user: user: unknown user nobody-here"},
		{"python: /opt/airflow/bin/python", "", "jobs.scheduler.python: empty"},
		{"grace: 1m30s", "grace: -5s", "jobs.scheduler.grace: -5s; want 0s or more"},
		{"grace: 1m30s", "grace: soon", `jobs.scheduler.grace: [14:12] time: invalid duration "soon"`},
		{"kind: command", "kind: command\n    warm: true", "jobs.etl.warm: only kind airflow"},
		{"kind: command", "kind: command\n    accept_revisions: [a]", "jobs.etl.accept_revisions: only kind airflow"},
		{"kind: command", "kind: command\n    python: /x", "jobs.etl.python: kind command has no use for it"},
		{"command: [duoetl, run, --config, /etc/duoflow/etl.yaml]", "", "jobs.etl.command: empty"},
		{"command: [duoetl, run, --config, /etc/duoflow/etl.yaml]", "command: duoetl run", "jobs.etl.command: [18:14] want a list"},
		{"command: [duoetl, run,", "command: [duoetl, {run: x},", "jobs.etl.command[1]: [18:24] want one value"},
		{"env: {TZ: UTC}", "env: {TZ: UTC, TZ: CET}", "jobs.etl.env.TZ: [19:20] said already"},
		{`schedule: "@daily"`, `schedule: "0 3 * *"`, `jobs.etl.schedule: "0 3 * *": expected exactly 5 fields`},
		{`schedule: "@daily"`, `schedule: "CRON_TZ=Mars @daily"`, `jobs.etl.schedule: "CRON_TZ=Mars @daily": time zone "Mars" is not known`},
		{`schedule: "@daily"`, `schedule: "@daily"` + "\n    no_retry: [3, 4]", ""},
		{`schedule: "@daily"`, `schedule: "@daily"` + "\n    no_retry: [0]", "jobs.etl.no_retry: 0; want exit codes of 1 to 255"},
		{`schedule: "@daily"`, `schedule: "@daily"` + "\n    no_retry: 3", "jobs.etl.no_retry: [22:15] want a list"},
		{`schedule: "@daily"`, "no_retry: [3]", "jobs.etl.no_retry: only a job with a schedule"},
		{"follow: scheduler", "follow: etl", `jobs.etl.follow: "etl" is not another job`},
		{"follow: scheduler", "follow: nobody", `jobs.etl.follow: "nobody" is not another job`},
		{"follow: scheduler", "follow: scheduler\n    prefer: [a]", `jobs.etl.prefer: a job that follows runs where "scheduler" does`},
		{"follow: scheduler", "prefer: [b, z]", `jobs.etl.prefer: "z" is not among nodes`},
		{"follow: scheduler", "follow: scheduler\n    weight: 1000", ""},
		{"follow: scheduler", "follow: scheduler\n    weight: 0", "jobs.etl.weight: 0; want 1 to 1000"},
		{"follow: scheduler", "follow: scheduler\n    weight: 1001", "jobs.etl.weight: 1001; want 1 to 1000"},
		{"follow: scheduler", "follow: scheduler\n    weight: heavy", "jobs.etl.weight: [21:13] "},
		{"follow: scheduler", "prefer: [t, b]", `jobs.etl.prefer: "t" is a witness`},
		{"follow: scheduler", "prefer: [a, b, a]", `jobs.etl.prefer: "a" is named twice`},
		{"group: lightning", `group: ""`, "jobs.etl.fence.group: empty"},
		{"group: lightning", "group: Lightning", `jobs.etl.fence: group "Lightning" does not match`},
		{`dsn: "postgres://fencer_a@warehouse/lightning", `, "", "jobs.etl.fence.dsn: empty"},
		{"postgres://fencer_a@warehouse/lightning", "nonsense", "jobs.etl.fence: parse DSN: "},
		{"  etl:\n", "  doctor:\n", `jobs.doctor.fence: job name "doctor" is kept for the doctor`},
		{etl + "}\n", scheduler + "}\n", ""}, // they are on one node
		{"follow: scheduler\n    schedule: \"@daily\"\n    fence: {" + etl, "fence: {" + scheduler, "jobs.scheduler.fence: same database and group as job etl"},
		{"follow: scheduler\n    schedule: \"@daily\"\n    fence: {" + etl, `fence: {dsn: "host=db2 dbname=airflow user=x", group: airflow`, "jobs.scheduler.fence: same database and group as job etl"},
		{"follow: scheduler\n    schedule: \"@daily\"\n    fence: {" + etl, `fence: {dsn: "host=db2 dbname=airflow user=x", group: lightning`, ""},
	})
}

// TestTenMistakes of every kind in one file are ten problems in one report.
func TestTenMistakes(t *testing.T) {
	dir := sound(t)
	raw, err := os.ReadFile("testdata/config/ten.yaml")
	must(t, err)
	must(t, os.Chmod(filepath.Join(dir, "a.key"), 0o644))
	_, err = ParseConfig(raw, dir)
	var p *Problems
	if !errors.As(err, &p) || len(p.List) != 10 {
		t.Fatalf("want ten problems: %v", err)
	}
	for i, key := range []string{
		"cluster", "nodes.t.wittness", "jobs.etl.grace", "nodes.b.peer", "listen.http", "data_dir", "tls.key",
		"jobs.etl.schedule", "jobs.etl.follow", "jobs.scheduler.warm",
	} {
		if !strings.HasPrefix(p.List[i], key+": ") {
			t.Errorf("problem %d is %q, want one about %s", i, p.List[i], key)
		}
	}
}

// TestFiles changes the files beside a good configuration.
func TestFiles(t *testing.T) {
	raw, err := os.ReadFile("testdata/config/design.yaml")
	must(t, err)
	for _, tt := range []struct {
		change func(dir string)
		want   string
	}{
		{func(dir string) { must(t, os.Chmod(dir+"/a.key", 0o604)) }, "tls.key: DIR/a.key has mode 0604: others may read or change it; chmod 0600"},
		{func(dir string) { must(t, os.Chmod(dir+"/keys", 0o666)) }, "gossip.keyring: DIR/keys has mode 0666: others may read or change it; chmod 06"},
		{func(dir string) { must(t, os.Chmod(dir+"/ca.pem", 0o646)) }, "tls.ca: DIR/ca.pem has mode 0646: others may read or change it; chmod 0644"},
		{func(dir string) { must(t, os.Chmod(dir+"/a.pem", 0o666)) }, "tls.cert: DIR/a.pem has mode 0666: others may read or change it; chmod 0644"},
		{func(dir string) {
			_, key := newAuthority(t).issue(t, "a")
			write(t, dir, "a.key", 0o600, key)
		}, "tls.key: DIR/a.key does not go with DIR/a.pem: tls: private key does not match public key"},
		{func(dir string) { write(t, dir, "a.key", 0o600, []byte("nonsense")) }, "tls.key: DIR/a.key does not go with DIR/a.pem: tls: failed to find any PEM data in key input"},
		{func(dir string) {
			write(t, dir, "ca.pem", 0o644, pemOf("CERTIFICATE", newAuthority(t).cert.Raw))
		}, "tls.cert: DIR/a.pem: x509: certificate signed by unknown authority"},
		{func(dir string) {
			a := newAuthority(t)
			cert, key := a.issue(t, "b")
			write(t, dir, "ca.pem", 0o644, pemOf("CERTIFICATE", a.cert.Raw))
			write(t, dir, "a.pem", 0o644, cert)
			write(t, dir, "a.key", 0o600, key)
		}, `tls.cert: DIR/a.pem is for "b", not for node "a"`},
		{func(dir string) { write(t, dir, "keys", 0o600, []byte("short\n")) }, "gossip.keyring: DIR/keys: "},
		{func(dir string) { must(t, os.Remove(dir+"/keys")) }, "gossip.keyring: stat DIR/keys: no such file"},
		{func(dir string) { must(t, os.Mkdir(dir+"/data", 0o700)) }, ""},
	} {
		dir := sound(t)
		tt.change(dir)
		_, err := ParseConfig(raw, dir)
		var p *Problems
		switch want := strings.ReplaceAll(tt.want, "DIR", dir); {
		case want == "" && err != nil:
			t.Errorf("got %v, want no problem", err)
		case want != "" && (!errors.As(err, &p) || len(p.List) != 1 || !strings.HasPrefix(p.List[0], want)):
			t.Errorf("got %v, want this one problem: %s", err, want)
		}
	}
}

// TestNoYAML: text that cannot be looked at has one problem, and its place.
func TestNoYAML(t *testing.T) {
	for text, want := range map[string]string{
		"{":                            "YAML: [1:1] could not find flow mapping end token",
		"nonsense":                     "YAML: [1:1] want keys and values",
		"- cluster: x":                 "YAML: [1:1] want keys and values",
		witnessed + "---\nnonsense: 1": "YAML: [13:1] a second document; want one",
	} {
		_, err := ParseConfig([]byte(text), sound(t))
		var p *Problems
		if !errors.As(err, &p) || len(p.List) != 1 || !strings.HasPrefix(p.List[0], want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// TestAnchors: what YAML offers to say things once works, and what is repeated is not taken for a mistake.
func TestAnchors(t *testing.T) {
	text := strings.Replace(witnessed, "jobs: {scheduler: {kind: airflow}", "jobs: {scheduler: &common {kind: command, grace: 7s}, b: {<<: *common, grace: 9s}, c: *common", 1)
	c, err := ParseConfig([]byte(text), sound(t))
	must(t, err)
	if c.Jobs["b"].Kind != "command" || c.Jobs["b"].Grace.Seconds() != 9 || c.Jobs["c"].Grace.Seconds() != 7 {
		t.Errorf("jobs %+v", c.Jobs)
	}
}

// TestNoPasswordInErrors: the lines around a mistake are not quoted, for one may hold a DSN; nor is a DSN that is wrong.
func TestNoPasswordInErrors(t *testing.T) {
	for _, text := range []string{
		"jobs:\n  s:\n    fence: {dsn: \"postgres://u:hunter2@db/x\"}\n    wram: true\n",
		"jobs:\n  s:\n    fence: {dsn: \"postgres://u:hunter2@db/x\"\n",
		"jobs: {s: {fence: {dsn: 'postgres://u:hunter2@db:port/x', group: g}}}",
		"jobs: {s: {fence: {dsn: 'postgres://u:hun%ter2@db/x', group: g}}}",
		"jobs: {s: {fence: {dsn: 'user=u password=hunter2 port=x', group: g}}}",
		"jobs: {s: {fence: {dsn: [hunter2], group: g}}}",
	} {
		_, err := ParseConfig([]byte(text), base)
		if err == nil || strings.Contains(err.Error(), "hun") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// TestCircle: two jobs that follow each other.
func TestCircle(t *testing.T) {
	text := strings.Replace(witnessed, "{kind: airflow}", "{kind: airflow, follow: etl}", 1)
	_, err := ParseConfig([]byte(text), sound(t))
	var p *Problems
	if !errors.As(err, &p) || len(p.List) != 2 || !strings.HasPrefix(p.List[0], `jobs.etl.follow: "scheduler" follows this one: a circle`) {
		t.Errorf("got %v", err)
	}
}

// TestContradictions: a witness with a password, and other things that do not go together.
func TestContradictions(t *testing.T) {
	dir := sound(t)
	for _, tt := range []struct{ from, to, want string }{
		{"{kind: airflow}", `{kind: airflow, fence: {dsn: "host=db", group: g}}`, "jobs.scheduler.fence.dsn: a witness never fences"},
		{"insecure_loopback: true", "insecure_loopback: true\ntls: {ca: ca.pem}", "tls: given, but insecure_loopback runs without"},
		{"a: 127.0.0.2:1", "a: 10.0.0.1:1", `nodes.a.peer: "10.0.0.1:1" is not a loopback address`},
		{"a: 127.0.0.2:1", "a: {peer: 127.0.0.2:1, gossip: 10.0.0.1:1}", `nodes.a.gossip: "10.0.0.1:1" is not a loopback address`},
		{"a: 127.0.0.2:1", "a: 127.0.0.3:1", `nodes.b.peer: "127.0.0.3:1" is also nodes.a.peer`},
	} {
		bad := strings.Replace(witnessed, tt.from, tt.to, 1)
		_, err := ParseConfig([]byte(bad), dir)
		var p *Problems
		if !errors.As(err, &p) || !strings.HasPrefix(p.List[0], tt.want) || bad == witnessed {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
