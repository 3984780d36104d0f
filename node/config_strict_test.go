package node

import (
	"errors"
	"strings"
	"testing"
)

// TestNoPasswordInErrors: the lines around a mistake are not quoted, for one may hold a DSN.
func TestNoPasswordInErrors(t *testing.T) {
	_, err := ParseConfig([]byte("jobs:\n  s:\n    fence: {dsn: \"postgres://u:hunter2@db/x\"}\n    wram: true\n"), base)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in the error: %v", err)
	}
}

func TestLineOfMember(t *testing.T) {
	_, err := ParseConfig([]byte("cluster: p\nnodes:\n  a: {peer: 10.0.0.1:7400, wittness: true}\n"), base)
	if !strings.Contains(err.Error(), "[3:") {
		t.Errorf("wrong line: %v", err)
	}
}

func TestSecondDocument(t *testing.T) {
	raw := doubtful + "---\nnonsense: 1\n"
	if _, err := ParseConfig([]byte(raw), "."); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a second document is ignored: %v", err)
	}
}

// doubtful is well formed and makes no sense.
const doubtful = `cluster: prod
node: t
witness: true
data_dir: /var/lib/duoflow
listen: {peer: 127.0.0.1:1, gossip: 127.0.0.1:2, admin: 127.0.0.1:3, http: 127.0.0.1:4}
nodes: {a: 127.0.0.1:5, b: 127.0.0.1:6, t: {peer: 127.0.0.1:1, witness: true}}
insecure_loopback: true
gossip: {keyring: config.go}
jobs: {scheduler: {kind: airflow, follow: etl, grace: -5s}, etl: {kind: command, follow: scheduler}}
`

func TestCycleAndGrace(t *testing.T) {
	_, err := ParseConfig([]byte(doubtful), ".")
	var problems *Problems
	if !errors.As(err, &problems) {
		t.Fatalf("two jobs that follow each other, and a negative grace: %v", err)
	}
	for _, want := range []string{"jobs.scheduler.grace: -5s", "jobs.scheduler.follow: \"etl\" follows", "jobs.etl.follow: \"scheduler\" follows"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s", want)
		}
	}
}
