package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

var rewriteConfig = flag.Bool("rewrite-config", false, "write testdata/config/*.txt anew")

// base does not exist.
const base = "/nonexistent"

// goodKeys is a keyring of one key.
const goodKeys = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	must(t, err)
	cert, err = x509.ParseCertificate(raw)
	must(t, err)
	return authority{cert, key}
}

// issue returns a certificate and its key in PEM.
func (a authority) issue(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, private.Public(), a.key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pemOf("CERTIFICATE", raw), pemOf("PRIVATE KEY", der)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sound is a directory with the files that a configuration of node a names: ca.pem, a.pem, a.key and keys.
func sound(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	a := newAuthority(t)
	cert, key := a.issue(t, "a")
	write(t, dir, "ca.pem", 0o644, pemOf("CERTIFICATE", a.cert.Raw))
	write(t, dir, "a.pem", 0o644, cert)
	write(t, dir, "a.key", 0o600, key)
	write(t, dir, "keys", 0o600, []byte(goodKeys))
	return dir
}

func write(t testing.TB, dir, name string, mode os.FileMode, text []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, errors.Join(os.WriteFile(path, text, mode), os.Chmod(path, mode)))
}

// TestConfigs reads every testdata/config/*.yaml and compares what comes of it with the .txt beside it. Rewrite with
// `go test ./node -run Configs -rewrite-config`, and read the difference.
func TestConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("found %v, %v", files, err)
	}
	dir := sound(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := "fine\n", strings.TrimSuffix(file, ".yaml")+".txt"
			if _, err := ParseConfig(raw, dir); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
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

// written puts the configuration of the design beside the files it names.
func written(t testing.TB) (path string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/config/design.yaml")
	must(t, err)
	dir := sound(t)
	write(t, dir, "node.yaml", 0o600, raw)
	return filepath.Join(dir, "node.yaml")
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
		"schedule":                         {c.Jobs["etl"].Schedule, "@daily"},
		"environment":                      {c.Jobs["etl"].Env["TZ"], "UTC"},
		"nodes, sorted":                    {fmt.Sprint(c.configured().voters()), "[{a false false} {b false false} {t true false}]"},
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
	if pair, err := c.LoadTLS(slog.New(slog.DiscardHandler)); err != nil || pair == nil {
		t.Errorf("LoadTLS: %v", err)
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

// witnessed is the configuration of a witness: neither a program nor a database is named.
const witnessed = `
cluster: prod
node: t
witness: true
data_dir: data
listen: {peer: 127.0.0.1:1, gossip: 127.0.0.1:2, admin: 127.0.0.1:3, http: 127.0.0.1:4}
nodes: {a: 127.0.0.2:1, b: 127.0.0.3:1, t: {peer: 127.0.0.1:1, witness: true}}
insecure_loopback: true
gossip: {keyring: keys}
detection: wan
jobs: {scheduler: {kind: airflow}, etl: {kind: command, follow: scheduler}}
`

// TestAWitnessNeedsNoMoreThanNames of jobs; that it has the other nodes' lines about programs does no harm.
func TestAWitnessNeedsNoMoreThanNames(t *testing.T) {
	dir := sound(t)
	c, err := ParseConfig([]byte(witnessed), dir)
	if err != nil {
		t.Fatal(err)
	}
	if tls, err := c.LoadTLS(slog.New(slog.DiscardHandler)); tls != nil || err != nil {
		t.Errorf("insecure_loopback: TLS %v, %v; want none", tls, err)
	}
	if got := c.timing(c.Jobs["etl"]).Silence; got != 2*time.Second {
		t.Errorf("wan: silence = %s", got)
	}
	same := strings.Replace(witnessed, "{kind: airflow}", "{kind: airflow, python: /x, warm: true, user: nobody-here}", 1)
	if _, err := ParseConfig([]byte(same), dir); err != nil {
		t.Error(err)
	}
}

// TestPrefer: the order of a job comes before that of the nodes.
func TestPrefer(t *testing.T) {
	c := Config{Nodes: map[string]Member{"a": {}, "b": {Priority: 7}, "c": {Priority: -1}, "d": {Priority: 3}}}
	for want, prefer := range map[string][]string{"b d a c": nil, "c a b d": {"c", "a"}, "b d c a": {"b", "d", "c", "a"}} {
		order := c.priorities(Job{Prefer: prefer})
		names := []string{"a", "b", "c", "d"}
		slices.SortFunc(names, func(x, y string) int { return order[lease.NodeID(y)] - order[lease.NodeID(x)] })
		if got := strings.Join(names, " "); got != want {
			t.Errorf("prefer %v: %s, want %s", prefer, got, want)
		}
	}
}

// TestWeights: a job weighs one unless it says otherwise, and what follows it is added to it.
func TestWeights(t *testing.T) {
	five, two := 5, 2
	c := Config{Jobs: map[string]Job{"alone": {}, "heavy": {Weight: &five}, "tail": {Follow: "heavy"}, "train": {Follow: "heavy", Weight: &two}}}
	want := map[lease.JobName]int{"alone": 1, "heavy": 8}
	if got := c.weights(); !maps.Equal(got, want) {
		t.Errorf("weights %v, want %v", got, want)
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
	f.Add([]byte(witnessed))
	f.Add([]byte("a: &x {<<: *x}\nb: *x\nc: &y *y\njobs: {<<: [*x], ? [a] : b, etl: !!map {}}\n"))
	dir := sound(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw, dir)
		if err != nil {
			var p *Problems
			if !errors.As(err, &p) || len(p.List) == 0 || slices.Contains(p.List, "") {
				t.Fatal("an error that says nothing")
			}
			if !reflect.DeepEqual(c, Config{}) {
				t.Fatalf("%+v beside %v", c, err)
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
