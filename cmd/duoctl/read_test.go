package main

import (
	"encoding/json"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestStatus(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	for _, output := range []string{"table", "json", "yaml"} {
		got := ctl.run(t, "status", "-o", output)
		got.want(t, exitOK)
		golden(t, "status."+output, got.out)
		if got.err != "" {
			t.Errorf("error output: %s", got.err)
		}
	}
}

func TestStatusWithoutQuorumIsMarked(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.loseQuorum()
	endpoint := serve(t, cluster, dir)
	got := operator(dir, endpoint).run(t, "status")
	got.want(t, exitStale, "not authoritative", "no quorum", "12.3 s")
	golden(t, "status-stale.table", got.out+got.err, endpoint)
	got = operator(dir, endpoint).run(t, "status", "-o", "json")
	got.want(t, exitStale)
	var answer struct{ View struct{ Authoritative bool } }
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || answer.View.Authoritative {
		t.Errorf("view = %+v, err = %v", answer, err)
	}
}

// TestPendingOfUnknownAge: a node does not know when a move was asked for.
func TestPendingOfUnknownAge(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	for _, job := range cluster.status.GetJobs() {
		if job.GetPending() != nil {
			job.Pending.AgeMs = 0
		}
	}
	got := operator(dir, serve(t, cluster, dir)).run(t, "status")
	got.want(t, exitOK)
	if !strings.Contains(got.out, "switchover to b asked for\n") || strings.Contains(got.out, "asked 0 ms ago") {
		t.Errorf("%s", got.out)
	}
}

func TestStatusPrefersTheAuthoritativeEndpoint(t *testing.T) {
	dir := makeCertificates(t)
	alone, leading := newFakeCluster(), newFakeCluster()
	alone.loseQuorum()
	alone.status.Node = "alone"
	ctl := operator(dir, closedPort(t), serve(t, alone, dir), serve(t, leading, dir))
	got := ctl.run(t, "status")
	got.want(t, exitOK)
	if !strings.Contains(got.out, "(asked a)") || strings.Contains(got.out, "STALE") {
		t.Errorf("not the authoritative view:\n%s", got.out)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := makeCertificates(t)
	one, two := closedPort(t), closedPort(t)
	operator(dir, one).run(t, "status").want(t, exitFailed, one, "connection refused", "to mend: ")
	operator(dir, one, two).run(t, "history").want(t, exitFailed, "no endpoint answered", one, two)
}

// A host that takes the connection and says nothing costs its share of the time, not all of it.
func TestSilentEndpoint(t *testing.T) {
	dir := makeCertificates(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctl := operator(dir, silent.Addr().String())
	ctl.run(t, "status", "--timeout", "200ms").want(t, exitTimeout, "no answer in time", "--timeout")
	ctl = operator(dir, silent.Addr().String(), serve(t, newFakeCluster(), dir))
	ctl.run(t, "status", "--timeout", "4s").want(t, exitOK)
}

func TestPlainLoopback(t *testing.T) {
	endpoint := serve(t, newFakeCluster(), "")
	console{}.run(t, "status", "--endpoint", endpoint).want(t, exitOK)
}

func TestWrongCertificates(t *testing.T) {
	dir, other := makeCertificates(t), makeCertificates(t)
	endpoint := serve(t, newFakeCluster(), dir)
	operator(other, endpoint).run(t, "status").want(t, exitFailed, "certificate")
	for _, test := range []struct{ says, mend string }{
		{"remote error: tls: expired certificate", "has ended"},
		{"remote error: tls: bad certificate", "was revoked"},
		{"remote error: tls: unknown certificate authority", "another cluster's authority"},
		{"connection refused", "that duoflowd runs there"},
	} {
		if mend := mendHandshake("desc = " + test.says); !strings.Contains(mend, test.mend) {
			t.Errorf("%s: %s", test.says, mend)
		}
	}
	console{}.run(t, "status", "--endpoint", endpoint).want(t, exitFailed, endpoint)
}

func TestHistory(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	endpoint := serve(t, cluster, dir)
	ctl := operator(dir, endpoint)
	got := ctl.run(t, "history")
	got.want(t, exitOK)
	golden(t, "history.table", got.out)
	if strings.Contains(got.out, "\x1b") {
		t.Error("a job's output steers the terminal")
	}
	got = ctl.run(t, "history", "--limit", "1", "--job", "scheduler", "-o", "json")
	got.want(t, exitOK)
	golden(t, "history.json", got.out)
	ctl.run(t, "history", "--limit", "1001").want(t, exitUsage, "1001")
	cluster.loseQuorum()
	got = ctl.run(t, "history")
	got.want(t, exitStale)
	if !strings.HasPrefix(got.out, "STALE: ") {
		t.Errorf("not marked:\n%s", got.out)
	}
}

func TestDoctor(t *testing.T) {
	dir := makeCertificates(t)
	sick, well := newFakeCluster(), newFakeCluster()
	well.doctor.Node, well.doctor.Mode = "b", "fenced"
	well.doctor.Findings = well.doctor.GetFindings()[:1]
	one, two := serve(t, sick, dir), serve(t, well, dir)
	got := operator(dir, one, two).run(t, "doctor")
	got.want(t, exitFailed, "findings that are not ok: 1")
	golden(t, "doctor.table", got.out)
	got = operator(dir, one).run(t, "doctor", "-o", "yaml")
	got.want(t, exitFailed)
	golden(t, "doctor.yaml", got.out, one)
	operator(dir, two).run(t, "doctor").want(t, exitOK)
	dead := closedPort(t)
	got = operator(dir, two, dead).run(t, "doctor", "-o", "json")
	got.want(t, exitFailed, dead)
	var answer struct {
		Nodes []struct {
			Endpoint string
			Error    *string
			Findings []any
		}
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Nodes) != 2 || answer.Nodes[0].Error != nil || answer.Nodes[1].Error == nil || answer.Nodes[1].Endpoint != dead {
		t.Errorf("answer = %+v", answer)
	}
}

func TestVersion(t *testing.T) {
	dir := makeCertificates(t)
	endpoint, dead := serve(t, newFakeCluster(), dir), closedPort(t)
	got := operator(dir, endpoint).run(t, "version")
	got.want(t, exitOK)
	for _, want := range []string{"duoctl", endpoint, "v1.2.3", runtime.Version()} {
		if !strings.Contains(got.out, want) {
			t.Errorf("lacks %q:\n%s", want, got.out)
		}
	}
	operator(dir, endpoint, dead).run(t, "version").want(t, exitFailed, dead)
	console{}.run(t, "version", "--client").want(t, exitOK)
	console{}.run(t, "version").want(t, exitUsage, "no endpoint")
}

// Every form of the same answer holds the same.
func TestJSONAndYAMLAgree(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	var fromJSON, fromYAML any
	if err := json.Unmarshal([]byte(ctl.run(t, "status", "-o", "json").out), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(ctl.run(t, "status", "-o", "yaml").out), &fromYAML); err != nil {
		t.Fatal(err)
	}
	a, errA := json.Marshal(fromJSON)
	b, errB := json.Marshal(fromYAML)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("they differ (%v, %v):\n%s\n%s", errA, errB, a, b)
	}
}
