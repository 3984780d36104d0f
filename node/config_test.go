package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewriteConfig = flag.Bool("rewrite-config", false, "write testdata/config/*.txt anew")

// base does not exist, so that what is missing is told by the same name everywhere.
const base = "/nonexistent"

// TestConfigs reads every testdata/config/*.yaml and compares what comes of it with the .txt beside it. Rewrite with
// `go test ./node -run Configs -rewrite-config`, and read the difference.
func TestConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := "fine\n", strings.TrimSuffix(file, ".yaml")+".txt"
			if _, err := ParseConfig(raw, base); err != nil {
				got = err.Error() + "\n"
			}
			if *rewriteConfig {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestUnknownKey: a key that was misspelt must not be taken for one that was left out.
func TestUnknownKey(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"cluster: prod\nnode: a\ndatadir: /var\n", `[3:1] unknown field "datadir"`},
		{"tls:\n  ca: x\n  crt: y\n", `[3:3] unknown field "crt"`},
		{"jobs:\n  etl:\n    kind: command\n    fence:\n      user: x\n", `[5:7] unknown field "user"`},
		{"nodes:\n  a: {peer: 10.0.0.1:7400, wittness: true}\n", `unknown field "wittness"`},
		{"cluster: prod\nnode: a\ncluster: test\n", `[3:1] mapping key "cluster" already defined at [1:1]`},
		{"jobs: {etl: {grace: soon}}", `invalid duration "soon"`},
		{"nodes: {a: [x]}", "sequence was used where mapping is expected"},
		{"{", "could not find flow mapping end token"},
	} {
		_, err := ParseConfig([]byte(tt.text), base)
		if err == nil || !strings.HasPrefix(err.Error(), "parse YAML: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

// written puts the configuration of the design into a directory with the files it names.
func written(t testing.TB) (path string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/config/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "a.pem", "a.key", "keys"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(dir, "node.yaml")
	raw = bytes.ReplaceAll(raw, []byte("/dev/null"), []byte("keys"))
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfig(t *testing.T) {
	path := written(t)
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	for what, pair := range map[string][2]any{
		"data_dir is relative to the file": {c.DataDir, filepath.Join(dir, "data")},
		"so is tls.ca":                     {c.TLS.CA, filepath.Join(dir, "ca.pem")},
		"so is tls.cert":                   {c.TLS.Cert, filepath.Join(dir, "a.pem")},
		"so is tls.key":                    {c.TLS.Key, filepath.Join(dir, "a.key")},
		"so is the keyring":                {c.Gossip.Keyring, filepath.Join(dir, "keys")},
		"short member":                     {c.Nodes["b"], Member{Peer: "10.0.0.2:7400"}},
		"long member":                      {c.Nodes["t"], Member{Peer: "10.0.0.3:7400", Gossip: "10.0.0.3:7501", Witness: true, Priority: -1}},
		"detection is lan":                 {c.Detection, "lan"},
		"grace that was given":             {c.Jobs["scheduler"].Grace, 90 * time.Second},
		"grace that was not":               {c.Jobs["etl"].Grace, 30 * time.Second},
		"command":                          {fmt.Sprint(c.Jobs["etl"].Command), "[duoetl run --config /etc/duoflow/etl.yaml]"},
		"environment":                      {c.Jobs["etl"].Env["TZ"], "UTC"},
		"nodes, sorted":                    {fmt.Sprint(c.members()), "[{a false} {b false} {t true}]"},
		"jobs, sorted":                     {fmt.Sprint(c.jobNames()), "[etl scheduler]"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
	timing := c.timing(c.Jobs["scheduler"])
	if timing.Silence != 300*time.Millisecond || timing.PlannedGrace != 90*time.Second {
		t.Errorf("timing = %+v", timing)
	}
	if tick, heartbeat, election := c.RaftTiming(); tick != 10*time.Millisecond || heartbeat != 5 || election != 30 {
		t.Errorf("raft timing = %s, %d, %d; want that of the design for lan", tick, heartbeat, election)
	}
}

func TestLoadConfigSaysWhichFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if _, err := LoadConfig(path); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "read configuration: ") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("cluster: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var problems *Problems
	if _, err := LoadConfig(path); !errors.As(err, &problems) || !strings.Contains(err.Error(), path) || len(problems.List) < 5 {
		t.Errorf("incomplete file: %v", err)
	}
}

// TestOneThingWrong changes one thing of the good file at a time: nothing else may be complained of.
func TestOneThingWrong(t *testing.T) {
	good, err := os.ReadFile(written(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(written(t))
	if _, err := ParseConfig(good, dir); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"cluster: prod", `cluster: ""`, "cluster: empty"},
		{"data_dir: data", "", "data_dir: empty"},
		{"node: a\n", "node: c\n", `node: "c" is not among nodes`},
		{"witness: false", "witness: true", "witness: true, but nodes.a.witness is false"},
		{"witness: false", "detection: slow", `detection: "slow"; want fast, lan or wan`},
		{"b: 10.0.0.2:7400, ", "", "nodes: 2; want an odd number"},
		{"b: 10.0.0.2:7400", "b: 10.0.0.2", `nodes.b: peer "10.0.0.2"; want host:port`},
		{"b: 10.0.0.2:7400", "b_: 10.0.0.2:7400", "nodes.b_: not a node name"},
		{"http: 10.0.0.1:7403", "http: 10.0.0.1", `listen.http: "10.0.0.1"; want host:port`},
		{"cert: a.pem", "cert: b.pem", "tls.cert: stat " + dir + "/b.pem: no such file or directory"},
		{"gossip: {keyring: keys}", "", "gossip.keyring: empty"},
		{"kind: airflow", "kind: cron", `jobs.scheduler.kind: "cron"; want airflow or command`},
		{"python: /opt/airflow/bin/python", "", "jobs.scheduler.python: empty"},
		{"command: [duoetl, run, --config, /etc/duoflow/etl.yaml]", "", "jobs.etl.command: empty"},
		{"follow: scheduler", "follow: etl", `jobs.etl.follow: "etl" is not another job`},
		{"group: lightning", `group: ""`, "jobs.etl.fence.group: empty"},
		{`dsn: "postgres://fencer_a@warehouse/lightning", `, "", "jobs.etl.fence.dsn: empty"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			bad := strings.Replace(string(good), tt.from, tt.to, 1)
			if bad == string(good) {
				t.Fatalf("%q is not in the good file", tt.from)
			}
			_, err := ParseConfig([]byte(bad), dir)
			var p *Problems
			if !errors.As(err, &p) || len(p.List) != 1 || !strings.HasPrefix(p.List[0], tt.want) {
				t.Errorf("got %v, want this one problem: %s", err, tt.want)
			}
		})
	}
}

// TestAWitnessNeedsNoMoreThanNames of jobs: neither a program nor a database.
func TestAWitnessNeedsNoMoreThanNames(t *testing.T) {
	c, err := ParseConfig([]byte(`
cluster: prod
node: t
witness: true
data_dir: /var/lib/duoflow
listen: {peer: 127.0.0.1:1, gossip: 127.0.0.1:2, admin: 127.0.0.1:3, http: 127.0.0.1:4}
nodes: {a: 127.0.0.1:5, b: 127.0.0.1:6, t: {peer: 127.0.0.1:1, witness: true}}
insecure_loopback: true
gossip: {keyring: config.go}
detection: wan
jobs: {scheduler: {kind: airflow}, etl: {kind: command, follow: scheduler}}
`), ".")
	if err != nil {
		t.Fatal(err)
	}
	if tls, err := c.LoadTLS(); tls != nil || err != nil {
		t.Errorf("insecure_loopback: TLS %v, %v; want none", tls, err)
	}
	if got := c.timing(c.Jobs["etl"]).Silence; got != 2*time.Second {
		t.Errorf("wan: silence = %s", got)
	}
}

// FuzzParseConfig: whatever the file says, the answer is a configuration or an error, and a configuration that is
// taken is one that a node can be made of.
func FuzzParseConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/config/*.yaml")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw, base)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error that says nothing")
			}
			return
		}
		if len(c.Nodes)%2 == 0 || len(c.Jobs) == 0 || c.Nodes[c.Node].Witness != c.Witness {
			t.Fatalf("accepted %+v", c)
		}
		if tick, _, election := c.RaftTiming(); tick == 0 || election == 0 {
			t.Fatalf("detection %q has no pace", c.Detection)
		}
		for name, job := range c.Jobs {
			if c.timing(job).Silence == 0 {
				t.Fatalf("job %s: no detection time", name)
			}
		}
	})
}
