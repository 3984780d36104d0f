package lease_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/lease"
)

func TestTextIsBounded(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	g := grant(0, 1, "a", tokenA)
	g.Grant.Cause = lease.Cause(long)
	if cluster(t).Apply(g).Accepted {
		t.Error("a cause of 100 kB")
	}
	g = grant(0, 1, "a", tokenA)
	g.Grant.Detect = lease.Timing{Name: long, Took: 1}
	if cluster(t).Apply(g).Accepted {
		t.Error("a phase name of 100 kB")
	}
	s := cluster(t, grant(0, 1, "a", tokenA))
	for range 1000 {
		s.Apply(report(1, make([]lease.Timing, 32)...))
	}
	if j, _ := s.Job(scheduler); len(j.History[0].Phases) > 100 {
		t.Errorf("%d phases in one entry", len(j.History[0].Phases))
	}
}

func TestSnapshotIsStrict(t *testing.T) {
	for _, bad := range []string{
		`{"jobs":[{"name":"b","phase":"vacant"},{"name":"b","phase":"vacant"}]}`, `{"nodes":[{"id":"a"},{"id":"a","witness":true}]}`,
		`{"jobs":[{"name":"b","epoch":3,"phase":"gnarted"}]}`, `{"jobs":[{"name":"B!","phase":"vacant"}]}`,
		`{"jobs":[{"name":"b","epoch":3,"phase":"granted"}]}`, `{"JOBS":[{"NAME":"b","phase":"vacant"}]}`, `null`,
	} {
		if _, err := lease.DecodeSnapshot([]byte("\x01" + bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func TestConfigureTwice(t *testing.T) {
	if (&lease.State{}).Apply(configure(lease.Node{ID: "a"}, lease.Node{ID: "a", Witness: true})).Accepted {
		t.Error("one node, both a witness and not")
	}
}
