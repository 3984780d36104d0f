package etl

import (
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// gauge shows in a meter what others do to chunks, by what they write to the ledger.
type gauge struct {
	meter  *Meter
	chunks []tile.Chunk
	seen   map[ledgerKey]warehouse.Entry
}

func newGauge(m *Meter, plan Plan, before known) *gauge {
	g := &gauge{meter: m, seen: map[ledgerKey]warehouse.Entry{}}
	for key, e := range before.ledger {
		g.seen[key] = e
	}
	for _, c := range plan.Chunks {
		g.chunks = append(g.chunks, c.Chunk)
	}
	return g
}

// show takes what has changed since the last time. Of chunks that are at the same step the meter has room for one.
func (g *gauge) show(now known) {
	for _, chunk := range g.chunks {
		for _, step := range Steps() {
			key := ledgerKey{chunk, step}
			if e := now.ledger[key]; e.Updated.After(g.seen[key].Updated) {
				g.seen[key] = e
				g.take(e)
			}
		}
	}
}

func (g *gauge) take(e warehouse.Entry) {
	if e.State == warehouse.Started {
		g.meter.enter(e.Step, e.Chunk)
		return
	}
	g.meter.leave(e.Step, e.State == warehouse.Done)
	if e.State != warehouse.Done {
		return // it may be tried again
	}
	g.meter.moved(e.Step, 0, e.Rows)
	if e.Step == StepPublish {
		g.meter.finished(ChunkDone)
	}
}
