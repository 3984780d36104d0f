package node

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func TestWithoutSecrets(t *testing.T) {
	text := `fence: {dsn: "postgres://fencer_a:hunter2@db1,db2/airflow?sslmode=require", group: airflow}
dsn: host=db1 user=fencer_a password=hunter2 dbname=x
dsn: "host=db1 password='hunter2 is long' dbname=x"
env:
  AIRFLOW__CORE__FERNET_KEY: hunter2
  SMTP_PASSWORD: "hunter2"
  my_token : hunter2 # of somebody
  PATH: /usr/bin
keyring: gossip.key # password: none here`
	got := withoutSecrets(text)
	if strings.Contains(got, "hunter2") || strings.Contains(got, "is long") {
		t.Errorf("a secret is shown:\n%s", got)
	}
	for _, kept := range []string{"db1,db2/airflow?sslmode=require", "user=fencer_a", "dbname=x", "PATH: /usr/bin", "keyring: gossip.key"} {
		if !strings.Contains(got, kept) {
			t.Errorf("%q is gone:\n%s", kept, got)
		}
	}
}

// TestSecretsInEveryForm has a secret in each form that YAML and connection strings have for one.
func TestSecretsInEveryForm(t *testing.T) {
	for _, text := range []string{
		"env:\n  FERNET_KEY: |-\n    hunter2\n\n    hunter2\n  PATH: /usr/bin",
		"env:\n  SMTP_PASSWORD:\n    hunter2\n  PATH: /usr/bin",
		"env:\n  SMTP_PASSWORD: \"long\n    hunter2\"\n  PATH: /usr/bin",
		"env:\n  # SMTP_PASSWORD: hunter2\n  PATH: /usr/bin",
		"env: {SMTP_PASSWORD: hunter2, PATH: /usr/bin}",
		"env: {PATH: /usr/bin, 'my_token': 'it''s, hunter2', b: \"c\"}",
		`env: {API_KEY: "a\", hunter2", PATH: /usr/bin}`,
		`dsn: "postgres://fencer_a:it'shunter2@db1/airflow" # PATH: /usr/bin`,
		`dsn: "postgres://fencer_a:p@hunter2@db1/airflow" # PATH: /usr/bin`,
		`dsn: "host=db1 password='it\'s hunter2' dbname=x" # PATH: /usr/bin`,
		`dsn: 'host=db1 password=''it is hunter2'' dbname=x' # PATH: /usr/bin`,
		`dsn: "host=db1 password=it's\ hunter2 dbname=x" # PATH: /usr/bin`,
		"jobs:\n  token-sync:\n    kind: command\n    env: {MY_SECRET: hunter2}\n    dir: PATH: /usr/bin",
	} {
		got := withoutSecrets(text)
		if strings.Contains(got, "hunter2") || strings.Count(got, "\n") != strings.Count(text, "\n") {
			t.Errorf("a secret is shown:\n%s", got)
		}
		if !strings.Contains(got, "PATH: /usr/bin") || strings.Contains(text, "token-sync") && !strings.Contains(got, "kind: command") {
			t.Errorf("what is no secret is gone:\n%s", got)
		}
	}
}

func TestCandidate(t *testing.T) {
	dir := sound(t)
	text := strings.ReplaceAll(soundText, "DIR", dir)
	write(t, dir, "node.yaml", 0o600, []byte(text))
	cfg, err := LoadConfig(filepath.Join(dir, "node.yaml"))
	must(t, err)
	o := (&Node{self: "a", cfg: cfg}).Operators()
	for want, candidate := range map[string]string{
		"":                       text,
		"detection: \"quick\"":   text + "detection: quick\n",
		"it is of node a of clu": strings.Replace(text, "cluster: prod", "cluster: other", 1),
		"unknown":                text + "detecton: lan\n",
		"[1:1]":                  "{",
	} {
		answer, err := o.Config(t.Context(), &duoflowv1.ConfigRequest{Candidate: proto.String(candidate)})
		must(t, err)
		if problems := strings.Join(answer.GetProblems(), "; "); (want == "") != (problems == "") || !strings.Contains(problems, want) {
			t.Errorf("want %q, got %q", want, problems)
		}
		if answer.GetPath() != filepath.Join(dir, "node.yaml") || strings.Contains(answer.GetText()+answer.GetCandidate(), "hunter2") {
			t.Errorf("%v", answer)
		}
	}
}

const soundText = `cluster: prod
node: a
data_dir: DIR/data
listen: {peer: 127.0.0.1:7400, gossip: 127.0.0.1:7401, admin: 127.0.0.1:7402, http: 127.0.0.1:7403}
nodes: {a: 127.0.0.1:7400, b: 127.0.0.2:7400, t: {peer: 127.0.0.3:7400, witness: true}}
tls: {ca: ca.pem, cert: a.pem, key: a.key}
gossip: {keyring: keys}
jobs:
  scheduler:
    kind: command
    command: [/bin/true]
    fence: {dsn: "postgres://fencer_a:hunter2@db1/airflow", group: airflow}
`
