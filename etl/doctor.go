package etl

import (
	"context"
	"fmt"
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
	fence := fmt.Sprintf("job %s at epoch %d", p.identity.Job, p.identity.Epoch)
	if p.identity.Epoch == 0 {
		fence = fmt.Sprintf("job %s by hand: no epoch fences this run", p.identity.Job)
	}
	try("database", fence, nil) // Open would have failed
	try("tables", "ledger, tables and views are there", p.target.Ready(ctx))
	_, err := p.store.Has(ctx, StepPublish, "1970", "doctor")
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
	return out
}
