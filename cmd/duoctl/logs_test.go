package main

import (
	"strings"
	"testing"
)

func TestTopology(t *testing.T) {
	dir := makeCertificates(t)
	got := operator(dir, serve(t, newFakeCluster(), dir)).run(t, "topology")
	got.want(t, exitOK)
	golden(t, "topology.table", got.out)
}

func TestLogs(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	address := serve(t, cluster, dir)
	for _, n := range cluster.status.GetNodes() {
		n.AdminAddress = address
	}
	ctl := operator(dir, address)
	got := ctl.run(t, "logs", "--lines", "2")
	got.want(t, exitOK)
	if strings.Contains(got.out, "\x1b") || !strings.HasSuffix(got.out, "three\n") || strings.Contains(got.out, "one") {
		t.Errorf("%q", got.out)
	}
	if got := ctl.run(t, "logs", "--follow", "--timeout", "700ms"); got.code != exitOK || strings.Count(got.out, "three\n") < 2 {
		t.Errorf("%d, %q %s", got.code, got.out, got.err)
	}
	if got := ctl.run(t, "logs", "-o", "json"); !strings.Contains(got.out, `"offset": 9`) {
		t.Errorf("%q", got.out)
	}
	ctl.run(t, "logs", "--follow", "-o", "json").want(t, exitUsage, "lines as they come")
	ctl.run(t, "logs", "--node", "z").want(t, exitFailed, `the address of node "z" is not known`)
	ctl.run(t, "logs", "--job", "nope").want(t, exitUsage, "has no job")
}
