package lab_test

import (
	"context"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestPipelineRuns: the active node runs duoetl at its slots, and the tables come to what the generator says.
func TestPipelineRuns(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	p, err := l.NewPipeline(ctx, store, lab.PipelineOptions{})
	must(t, err)
	job := p.Job()
	job.Schedule, job.Follow = "@every 1s", "scheduler"
	c, err := l.NewCluster(ctx, store, lab.ClusterOptions{Jobs: map[string]lab.Job{
		"scheduler": {Kind: "command", Command: []string{"sleep", "infinity"}}, "etl": job,
	}})
	must(t, err)
	must(t, p.Init(ctx))
	must(t, c.Start())
	active, err := c.AwaitActive(ctx, "etl", 0)
	must(t, err)
	conn := connect(ctx, t, p.Admin())
	eventuallyWithin(t, time.Minute, "a slot is done", func() bool { return number(ctx, t, conn, `SELECT count(*) FROM duoflow.run WHERE state = 'done'`) > 0 })
	t.Log(c.Nodes[active.Node].Process().LogTail(30))
	want, err := p.Expected(ctx)
	must(t, err)
	got, err := p.Loaded(ctx, conn)
	must(t, err)
	if got != want {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
}
