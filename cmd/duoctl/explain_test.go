package main

import (
	"strings"
	"testing"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// sampleTale is how epoch 12 came to be.
func sampleTale() *duoflowv1.ExplainResponse {
	at := func(ms float64) *float64 { return &ms }
	return &duoflowv1.ExplainResponse{
		View: &duoflowv1.View{Authoritative: true}, Job: "scheduler", Epoch: 12, Node: "a", Before: 11, From: "b",
		Cause: "silent", Detail: "b: not heard for 301ms", WholeMs: 372.5, UnaccountedMs: 2.5,
		Steps: []*duoflowv1.TimelineStep{
			{Name: "signal", Node: "t", AtMs: at(0), TookMs: 301, What: "the last that was heard of the holder"},
			{Name: "grant", Node: "t", AtMs: at(301), TookMs: 4, What: "a majority agrees that epoch 12 is a's", AtUnixMs: 1_700_000_000_000, Index: 77},
			{Name: "fence", Node: "a", AtMs: at(305), TookMs: 65, What: "the fence row and the role of the epoch are committed"},
			{Name: "release", Node: "a", What: "a has nothing of epoch 12 left: exited"},
		},
		Remarks: []string{"fence to start are measured by a, the others by t"},
	}
}

func TestExplain(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	got := ctl.run(t, "explain")
	got.want(t, exitOK)
	golden(t, "explain.table", got.out)
	ctl.run(t, "explain", "--epoch", "13").want(t, exitFailed, "epoch 13 is not in the history")
	if got := ctl.run(t, "explain", "-o", "json"); !strings.Contains(got.out, `"unaccounted_ms": 2.5`) {
		t.Errorf("%s", got.out)
	}
}
