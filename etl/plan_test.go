package etl_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
)

// TestChunksAreLookedAtTogether: over a network that takes its time, a resumed run must not look at one year after the other
// before it writes anything. The plan is in order nevertheless.
func TestChunksAreLookedAtTogether(t *testing.T) {
	const first, last = 1990, 2018
	w := newWorld(t, sandbox.Synthetic(synth.BigQuery2, first, last, 0.0001))
	p := w.open(w.parse(fmt.Sprintf(`source: {kind: bigquery, project: payer, table: bigquery-public-data.%s.lightning_%%d, endpoint: %q, window: {from: %d, to: %d}, synthetic: true}`,
		sandbox.Dataset, w.cloud.Endpoints().BigQuery, first, last), ""))
	var now, most atomic.Int64
	w.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "tables.get", Do: func() {
		for n := now.Add(1); ; {
			if top := most.Load(); n <= top || most.CompareAndSwap(top, n) {
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
		now.Add(-1)
	}})
	plan, err := p.Plan(t.Context(), etl.Selection{})
	if err != nil || plan.Work != last-first+1 {
		t.Fatalf("%d chunks to do, %v", plan.Work, err)
	}
	for i, c := range plan.Chunks {
		if want := fmt.Sprint(first + i); string(c.Chunk) != want || c.State != etl.ChunkNew {
			t.Errorf("chunk %d is %+v, want %s", i, c, want)
		}
	}
	if most.Load() < 2 || most.Load() > 8 {
		t.Errorf("%d looks at a time, want several and at most 8", most.Load())
	}
}
