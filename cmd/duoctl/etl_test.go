package main

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// sampleDetail is what duoetl writes, once while a run is on and once after it.
const (
	runningDetail = `{"running":{"elapsed":61000000000,"chunks":12,"done":3,"failed":1,"unchanged":1,"eta":25000000000,"steps":[` +
		`{"step":"extract","done":5,"bytes":0,"rows":0,"busy":1,"rate":0},{"step":"ingest","chunk":"2019","done":4,"bytes":1200,"rows":4100000,"busy":1,"rate":51250.4}]},` +
		`"last":` + lastDetail + `}`
	lastDetail = `{"ended":"2026-11-24T02:10:00Z","error":"1 chunk failed","took":540000000000,"synthetic":true,"chunks":[` +
		`{"chunk":"2017","state":"done","rows":2050000,"strikes":81234567,"quarantined":3,"error":""},` +
		`{"chunk":"2018","state":"failed","rows":0,"strikes":0,"quarantined":0,"error":"copy\u001b[31m: checksum differs"},` +
		`{"chunk":"2019","state":"","rows":0,"strikes":0,"quarantined":0,"error":""}]}`
)

func sampleProgress() *duoflowv1.ProgressResponse {
	return &duoflowv1.ProgressResponse{
		Node: "a", Epoch: 4, Detail: runningDetail, DetailAgeMs: proto.Uint64(800), Runs: []*duoflowv1.PastRun{
			{SlotUnixMs: 1_790_000_000_000, Epoch: 4, Node: "a", State: "started", BeganUnixMs: 1_790_000_001_000},
			{SlotUnixMs: 1_789_900_000_000, Epoch: 3, Node: "b", State: "failed", BeganUnixMs: 1_789_900_001_000, EndedUnixMs: 1_789_900_541_000, Exit: 3},
		},
	}
}

func TestETL(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	address := serve(t, cluster, dir)
	cluster.status.Nodes[0].AdminAddress = address
	ctl := operator(dir, address)
	for _, output := range []string{"table", "json", "yaml"} {
		got := ctl.run(t, "etl", "status", "--job", "tiles", "-o", output)
		got.want(t, exitOK)
		golden(t, "etl-status."+output, got.out)
		got = ctl.run(t, "etl", "runs", "--job", "tiles", "-o", output)
		got.want(t, exitOK)
		golden(t, "etl-runs."+output, got.out)
	}
	cluster.progress = &duoflowv1.ProgressResponse{Node: "a", Epoch: 4}
	if got := ctl.run(t, "etl", "status", "--job", "tiles"); got.code != exitOK || !strings.Contains(got.out, "no run since") {
		t.Errorf("a job that says nothing: %+v", got)
	}
	if got := ctl.run(t, "etl", "runs", "--job", "tiles"); got.code != exitOK || !strings.Contains(got.out, "no past runs") {
		t.Errorf("a job without a schedule: %+v", got)
	}
	cluster.progress = &duoflowv1.ProgressResponse{Node: "a", Detail: `["something else"]`}
	ctl.run(t, "etl", "status", "--job", "tiles").want(t, exitFailed, "not what a pipeline says")
	ctl.run(t, "etl", "status", "--job", "unknown").want(t, exitUsage, "no job")
	ctl.run(t, "etl", "status").want(t, exitFailed, "nobody holds job etl", "--node")
	ctl.run(t, "etl", "runs", "--job", "tiles", "--limit", "1000").want(t, exitUsage, "more than 200")
}
