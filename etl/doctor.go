package etl

import (
	"context"
	"fmt"

	"github.com/duoflow/duoflow/etl/warehouse"
)

// Check is one thing that the doctor has looked at.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
}

// Doctor tries everything that a run needs and changes nothing.
func (p *Pipeline) Doctor(ctx context.Context) []Check {
	var out []Check
	try := func(name, fine string, err error) {
		c := Check{Name: name, OK: err == nil, Says: fine}
		if err != nil {
			c.Says = err.Error()
		}
		out = append(out, c)
	}
	fence, err := p.fence(ctx)
	try("database", fence, err)
	try("tables", "ledger, tables and views are there", p.target.Ready(ctx))
	_, err = p.store.Has(ctx, StepPublish, "1970", "doctor")
	try("s3", p.store.URL(""), err)
	_, err = p.gcs.List(ctx, p.config.Stages.GCS.Bucket, p.config.Stages.GCS.Prefix)
	try("gcs", "gs://"+p.config.Stages.GCS.Bucket, err)
	chunks, err := p.selected(Selection{})
	if err == nil {
		var first origin
		first, err = p.origins.state(ctx, chunks[0])
		try("source", fmt.Sprintf("chunk %s: %d bytes", chunks[0], first.bytes), err)
	} else {
		try("source", "", err)
	}
	version, err := p.engine.Version(ctx)
	try("engine", version, err)
	if p.dag != nil {
		try("airflow", "DAG "+p.config.Airflow.DAG, p.dagRuns(ctx))
	}
	return out
}

// dagRuns tells whether Airflow would let a run begin.
func (p *Pipeline) dagRuns(ctx context.Context) error {
	paused, err := p.dag.Paused(ctx)
	if err == nil && paused {
		err = fmt.Errorf("the DAG %s is paused in Airflow: its runs would wait", p.config.Airflow.DAG)
	}
	return err
}

// fence says whether a run that is begun now would be let write.
func (p *Pipeline) fence(ctx context.Context) (string, error) {
	id := p.identity
	epoch, node, err := p.target.Fence(ctx)
	switch {
	case err != nil:
		return "", err
	case id.Epoch > 0 && epoch != id.Epoch:
		return "", fmt.Errorf("%w: job %s is at epoch %d on node %q, this is %d", warehouse.ErrFenced, id.Job, epoch, node, id.Epoch)
	case id.Epoch > 0:
		return fmt.Sprintf("job %s at epoch %d", id.Job, id.Epoch), nil
	case epoch > 0:
		return fmt.Sprintf("the cluster runs job %s: epoch %d on node %q; a run by hand would be refused", id.Job, epoch, node), nil
	}
	return fmt.Sprintf("job %s by hand: no epoch fences such a run", id.Job), nil
}
