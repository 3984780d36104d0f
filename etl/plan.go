package etl

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// Selection says what of the pipeline to do. The zero value is the whole window, all steps, and only what has changed.
type Selection struct {
	Chunks []tile.Chunk // these instead of the window's
	From   tile.Chunk   // of the window; "" = all
	To     tile.Chunk
	Only   string // one step; those before it must be done
	Force  bool   // chunks that are up to date too
	Accept bool   // a chunk that has shrunk by more than half
	Look   bool   // only tell whether Only is done: ErrNotYet if not. Nothing is written
}

// States of a chunk, in a plan and in a report.
const (
	ChunkNew       = "new"       // nothing of it is loaded
	ChunkStale     = "stale"     // loaded, but the source, the layout or the tables have changed since
	ChunkUnchanged = "unchanged" // up to date
	ChunkUnknown   = "unknown"   // its source cannot be read
	ChunkDone      = "done"
	ChunkFailed    = "failed"
)

// Plan is what a run would do.
type Plan struct {
	Chunks    []Planned     `json:"chunks"`
	Work      int           `json:"work"`     // chunks to do
	Bytes     int64         `json:"bytes"`    // of their source, where it is known
	Estimate  time.Duration `json:"estimate"` // ns; 0 = unknown. From what the ledger says chunks took
	Synthetic bool          `json:"synthetic"`
	Engines   Engines       `json:"engines"`

	known known
}

// Planned is one chunk of a plan.
type Planned struct {
	Chunk tile.Chunk `json:"chunk"`
	State string     `json:"state"`
	Why   string     `json:"why"`
	Bytes int64      `json:"bytes"` // of the source; 0 = unknown
	Rows  int64      `json:"rows"`  // loaded now

	source  origin
	failure error // ChunkUnknown: why
}

// Plan looks what there is to do. It asks for the state of the source, and for one object of each chunk. A chunk whose source
// cannot be read, for a reason that will not pass, is planned as ChunkUnknown; other errors end the planning.
func (p *Pipeline) Plan(ctx context.Context, s Selection) (Plan, error) {
	chunks, err := p.selected(s)
	if err != nil {
		return Plan{}, err
	}
	k, err := p.known(ctx)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{known: k}
	settled := 0 // how many of the first are not looked at again
	if last := p.config.Source.Window.RefreshLast; last > 0 && len(s.Chunks) == 0 && !s.Force {
		settled = max(0, len(chunks)-last)
	}
	looks := make([]Planned, len(chunks))
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(looksAtOnce)
	for i, chunk := range chunks {
		if i < settled && p.settled(chunk, k) {
			looks[i] = Planned{Chunk: chunk, State: ChunkUnchanged, Why: "published; refresh_last leaves it", Rows: k.held[chunk].Rows,
				source: origin{synthetic: k.held[chunk].Synthetic}}
			continue
		}
		group.Go(func() (err error) {
			looks[i], err = p.plan(looking, chunk, s, k)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Plan{}, err
	}
	for _, one := range looks {
		plan.add(one)
	}
	plan.Estimate = k.estimate(plan.Work)
	plan.Engines = plan.engines(p.config.Engine.Threads)
	return plan, nil
}

// looksAtOnce is how many chunks are looked at beside each other. Each look is two calls over the network, and a run that is
// resumed writes nothing before all have been: 34 years one after the other would be many seconds of a failover.
const looksAtOnce = 8

// plan looks at one chunk. An error is of all chunks.
func (p *Pipeline) plan(ctx context.Context, chunk tile.Chunk, s Selection, k known) (Planned, error) {
	planned, err := p.look(ctx, chunk, k)
	if err != nil && ctx.Err() == nil && blames(err) {
		planned.State, planned.Why, planned.failure, err = ChunkUnknown, err.Error(), err, nil
	}
	if err != nil {
		return planned, fmt.Errorf("plan %s: %w", chunk, err)
	}
	if s.Force && planned.State == ChunkUnchanged {
		planned.State, planned.Why = ChunkStale, "forced"
	}
	return planned, nil
}

func (p *Plan) add(one Planned) {
	if one.State != ChunkUnchanged {
		p.Work++
		p.Bytes += one.Bytes
	}
	p.Synthetic = p.Synthetic || one.source.synthetic
	p.Chunks = append(p.Chunks, one)
}

func (p *Pipeline) selected(s Selection) ([]tile.Chunk, error) {
	if len(s.Chunks) > 0 {
		return s.Chunks, nil
	}
	w := p.config.Source.Window
	if s.From != "" {
		w.From = string(s.From)
	}
	if s.To != "" {
		w.To = string(s.To)
	}
	chunks := w.chunks(p.now())
	if len(chunks) == 0 {
		return nil, &Problems{List: []string{fmt.Sprintf("window: nothing lies within %s..%s", w.From, w.To)}}
	}
	return chunks, nil
}

// known is what the database says about chunks, read once.
type known struct {
	held   map[tile.Chunk]warehouse.Held
	ledger map[ledgerKey]warehouse.Entry
}

type ledgerKey struct {
	chunk tile.Chunk
	step  string
}

func (p *Pipeline) known(ctx context.Context) (known, error) {
	k := known{held: map[tile.Chunk]warehouse.Held{}, ledger: map[ledgerKey]warehouse.Entry{}}
	held, err := p.target.Held(ctx)
	if err != nil {
		return k, err
	}
	for _, h := range held {
		k.held[h.Chunk] = h
	}
	entries, err := p.target.Ledger(ctx)
	for _, e := range entries {
		k.ledger[ledgerKey{e.Chunk, e.Step}] = e
	}
	return k, err
}

// look asks the source for its state and S3, with one HEAD, for the mark that this state has been published.
func (p *Pipeline) look(ctx context.Context, chunk tile.Chunk, k known) (Planned, error) {
	out := Planned{Chunk: chunk}
	var err error
	if out.source, err = p.state(ctx, chunk); err != nil {
		return out, err
	}
	out.Bytes = out.source.bytes
	held, loaded := k.held[chunk]
	out.Rows = held.Rows
	if !loaded {
		out.State, out.Why = ChunkNew, "not loaded"
		return out, nil
	}
	mark := p.publishHash(chunk, out.source)
	published, err := p.store.Has(ctx, StepPublish, chunk, mark)
	last := k.ledger[ledgerKey{chunk, StepPublish}]
	switch {
	case err != nil:
		return out, err
	case !published || last.State != warehouse.Done || last.Hash != mark:
		out.State, out.Why = ChunkStale, "the source or the configuration has changed, or the last run did not come to its end"
	case held.SourceHash != last.SourceHash:
		out.State, out.Why = ChunkStale, "the tables hold another state of it"
	default:
		out.State, out.Why = ChunkUnchanged, "up to date"
	}
	return out, nil
}

// settled tells whether the tables hold what was published last, as the configuration wants it.
func (p *Pipeline) settled(chunk tile.Chunk, k known) bool {
	held, loaded := k.held[chunk]
	last := k.ledger[ledgerKey{chunk, StepPublish}]
	return loaded && last.State == warehouse.Done && held.SourceHash == last.SourceHash &&
		held.CellTenths == p.config.Load.Cell && (held.Synthetic || !p.config.Source.Synthetic)
}

// state asks the source; that the tiles are made up may be known from the configuration too.
func (p *Pipeline) state(ctx context.Context, chunk tile.Chunk) (origin, error) {
	o, err := p.origins.state(ctx, chunk)
	o.synthetic = o.synthetic || p.config.Source.Synthetic
	return o, err
}

// estimate is how long so many chunks will take, by what the ledger says of those that were done; 0 if it says nothing.
func (k known) estimate(work int) time.Duration {
	took, chunks := map[string]time.Duration{}, 0
	for at, e := range k.ledger {
		took[at.step] += e.Took
		if at.step == StepIngest && e.State == warehouse.Done {
			chunks++
		}
	}
	if chunks == 0 {
		return 0
	}
	// The three stages of the run work beside each other; the slowest says when it ends.
	slowest := max(took[StepExtract]+took[StepCopy], took[StepIngest]+took[StepAggregate], took[StepLoad]+took[StepPublish])
	return slowest / time.Duration(chunks) * time.Duration(work)
}
