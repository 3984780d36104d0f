package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestSwitchover(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--to", "b", "--yes")
	got.want(t, exitOK)
	golden(t, "switchover.table", got.out)
	if cluster.changes != 1 || cluster.status.GetJobs()[1].GetHolder() != "b" {
		t.Errorf("%d changes, holder %s", cluster.changes, cluster.status.GetJobs()[1].GetHolder())
	}
}

func TestSwitchoverAsJSON(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--yes", "-o", "json")
	got.want(t, exitOK)
	golden(t, "switchover.json", got.out)
	if got.err != "" {
		t.Errorf("error output: %s", got.err)
	}
	var answer struct {
		EpochAfter json.Number `json:"epoch_after"`
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || answer.EpochAfter != "13" {
		t.Errorf("epoch after = %v, err = %v", answer.EpochAfter, err)
	}
}

func TestProgressIsShown(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.slow = true
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--yes")
	got.want(t, exitOK, "epoch 12 granted: a stopping, b standby, t witness\n")
}

func TestWithoutWait(t *testing.T) {
	dir := makeCertificates(t)
	got := operator(dir, serve(t, newFakeCluster(), dir)).run(t, "switchover", "--yes", "--wait=false")
	got.want(t, exitOK)
	if !strings.Contains(got.out, "switchover of job scheduler accepted: a (epoch 12) -> b (epoch 13)") {
		t.Errorf("output:\n%s", got.out)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	got := ctl.run(t, "switchover", "--dry-run")
	got.want(t, exitOK)
	golden(t, "switchover-dry-run.table", got.out)
	got = ctl.run(t, "failover", "--dry-run", "--to", "t")
	got.want(t, exitUnsafe, "node t is a witness")
	golden(t, "failover-refused.table", got.out)
	if cluster.changes != 0 {
		t.Errorf("%d changes", cluster.changes)
	}
}

func TestConfirmation(t *testing.T) {
	dir := makeCertificates(t)
	for _, test := range []struct {
		name     string
		input    string
		terminal bool
		code     int
		changes  int
		want     string
	}{
		{"yes", "yes\n", true, exitOK, 1, "switchover of job scheduler from a (epoch 12) to the best eligible node? [y/N]"},
		{"y without a line end", "Y", true, exitOK, 1, "[y/N]"},
		{"no", "n\n", true, exitFailed, 0, "nothing was changed"},
		{"only return", "\n", true, exitFailed, 0, "nothing was changed"},
		{"end of input", "", true, exitFailed, 0, "nothing was changed"},
		{"no terminal", "y\n", false, exitUsage, 0, "--yes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := newFakeCluster()
			ctl := operator(dir, serve(t, cluster, dir))
			ctl.input, ctl.terminal = test.input, test.terminal
			ctl.run(t, "switchover").want(t, test.code, test.want, "job scheduler (airflow): epoch 12 granted, holder a")
			if cluster.changes != test.changes {
				t.Errorf("%d changes, want %d", cluster.changes, test.changes)
			}
		})
	}
}

func TestInterruptAtTheQuestion(t *testing.T) {
	in, typing := io.Pipe()
	defer typing.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{in: in, err: io.Discard, terminal: true}
	if err := a.confirm(ctx, "sure?"); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("err = %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	dir := makeCertificates(t)
	for _, test := range []struct {
		name   string
		change func(*fakeCluster)
		args   []string
		code   int
		want   []string
	}{
		{"unsafe", func(*fakeCluster) {}, []string{"switchover", "--to", "t"}, exitUnsafe, []string{"witness", "to mend: name another node"}},
		{"no quorum", (*fakeCluster).loseQuorum, []string{"failover"}, exitNoQuorum, []string{"majority"}},
		{"forced without quorum", (*fakeCluster).loseQuorum, []string{"failover", "--force", "--to", "b"}, exitOK, nil},
		{"moved", func(c *fakeCluster) { c.moved = true }, []string{"switchover"}, exitStale, []string{"epoch 13 by now"}},
		{"unknown job", func(*fakeCluster) {}, []string{"switchover", "--job", "x"}, exitUsage, []string{"no job \"x\"", "etl, scheduler"}},
		{"job never granted", func(*fakeCluster) {}, []string{"switchover", "--job", "scheduler", "--to", "B"}, exitUsage, []string{"to \"B\""}},
		{"node gives up", func(c *fakeCluster) { c.stuck = true }, []string{"switchover", "--timeout", "10s"}, exitTimeout, []string{"still stopping"}},
		{"connection lost", func(c *fakeCluster) { c.broken = status.Error(codes.Unavailable, "transport is closing") },
			[]string{"switchover"}, exitFailed, []string{"may still be carried out", "duoctl status"}},
		{"no answer in time", func(c *fakeCluster) { c.broken = status.Error(codes.DeadlineExceeded, "late") },
			[]string{"switchover"}, exitTimeout, []string{"may still be carried out"}},
		{"older node", func(c *fakeCluster) { c.broken = status.Error(codes.Unimplemented, "unknown method") },
			[]string{"switchover"}, exitFailed, []string{"upgrade"}},
		{"unknown flag", func(*fakeCluster) {}, []string{"switchover", "--nonsense"}, exitUsage, []string{"--nonsense", "--help"}},
		{"unknown command", func(*fakeCluster) {}, []string{"promote"}, exitUsage, []string{"promote"}},
		{"stray argument", func(*fakeCluster) {}, []string{"switchover", "b"}, exitUsage, nil},
		{"unknown output", func(*fakeCluster) {}, []string{"status", "-o", "xml"}, exitUsage, []string{"xml", "json"}},
		{"negative timeout", func(*fakeCluster) {}, []string{"status", "--timeout", "-1s"}, exitUsage, []string{"negative"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := newFakeCluster()
			test.change(cluster)
			args := test.args
			if strings.HasSuffix(args[0], "over") {
				args = append(args, "--yes")
			}
			operator(dir, serve(t, cluster, dir)).run(t, args...).want(t, test.code, test.want...)
		})
	}
}

func TestRoleIsTooSmall(t *testing.T) {
	dir := makeCertificates(t)
	writeOperator(t, dir, "vera", "viewer")
	writeOperator(t, dir, "olga", "operator")
	cluster := newFakeCluster()
	endpoint := serve(t, cluster, dir)
	as := func(name string) console {
		ctl := operator(dir, endpoint)
		ctl.env["DUOCTL_CERT"], ctl.env["DUOCTL_KEY"] = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
		return ctl
	}
	as("vera").run(t, "status").want(t, exitOK)
	as("vera").run(t, "switchover", "--yes").want(t, exitFailed, "operator", "vera", "to mend: use a certificate")
	as("olga").run(t, "failover", "--yes", "--force").want(t, exitFailed, "admin")
	if cluster.changes != 0 {
		t.Errorf("%d changes", cluster.changes)
	}
	as("olga").run(t, "failover", "--yes").want(t, exitOK)
}

// writeOperator signs one more certificate with the authority of tls init.
func writeOperator(t *testing.T, dir, name, role string) {
	t.Helper()
	authority := pair{certificate: readCertificate(t, dir, "ca"), key: readKey(t, dir, "ca")}
	signed, err := sign(template(name, role, time.Hour), &authority)
	if err != nil {
		t.Fatal(err)
	}
	files, err := signed.files(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			t.Fatal(err)
		}
	}
}
