package etl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
)

// Report is what a run did.
type Report struct {
	Chunks    []*ChunkReport `json:"chunks"`
	Done      int            `json:"done"`
	Failed    int            `json:"failed"`
	Unchanged int            `json:"unchanged"`
	Took      time.Duration  `json:"took"` // ns
	Synthetic bool           `json:"synthetic"`
}

// ChunkReport is what became of one chunk.
type ChunkReport struct {
	Chunk       tile.Chunk   `json:"chunk"`
	State       string       `json:"state"` // ChunkDone, ChunkFailed, ChunkUnchanged; "" = the run ended before
	Rows        int64        `json:"rows"`
	Strikes     int64        `json:"strikes"`
	Quarantined int64        `json:"quarantined"`
	Hash        string       `json:"hash,omitempty"` // aggregate.Result.Hash
	Error       string       `json:"error,omitempty"`
	Steps       []StepReport `json:"steps"` // those that were done now
}

// StepReport is a step that was done.
type StepReport struct {
	Step string        `json:"step"`
	Rows int64         `json:"rows"`
	Took time.Duration `json:"took"` // ns
}

// run is one call of Run.
type run struct {
	p         *Pipeline
	selection Selection
	known     known
	fresh     map[tile.Chunk]bool // what the ledger says about their extract is not to be believed; of the first stage
	report    Report
	failures  chan error // of chunks
}

// leftover is the age at which a file in the folder for work is of a run that is long over.
const leftover = 24 * time.Hour

// Run does what a plan says, by the configured driver. A chunk that fails is left for the next run, and the others go on; what concerns all of them,
// first of all a lost epoch, ends the run. The report is of use after an error too. Errors: as ExitCode knows them.
func (p *Pipeline) Run(ctx context.Context, s Selection) (Report, error) {
	return p.driver(s).Run(ctx, s)
}

// builtin is the driver that does the steps here.
type builtin struct{ p *Pipeline }

// Run implements Driver.
func (b builtin) Run(ctx context.Context, s Selection) (Report, error) {
	p, began := b.p, time.Now()
	if err := p.target.Ready(ctx); err != nil {
		return Report{}, err
	}
	if err := p.makeRoom(s); err != nil {
		return Report{}, err
	}
	plan, err := p.Plan(ctx, s)
	if err != nil {
		return Report{}, err
	}
	r := &run{p: p, selection: s, known: plan.known, fresh: map[tile.Chunk]bool{}, failures: make(chan error, len(plan.Chunks))}
	p.meter.start(len(plan.Chunks))
	r.report.Synthetic = plan.Synthetic
	err = r.all(ctx, r.prepare(plan))
	r.report.Took = time.Since(began)
	return r.report, r.verdict(err)
}

// makeRoom sees to the folder for work.
func (p *Pipeline) makeRoom(s Selection) error {
	if s.Look {
		return nil
	}
	if err := os.MkdirAll(p.config.Stages.Work, 0o700); err != nil {
		return fmt.Errorf("make folder for work: %w", err)
	}
	p.sweep(leftover)
	return nil
}

// prepare makes a report of every chunk, and work of those that need it.
func (r *run) prepare(plan Plan) []*work {
	var todo []*work
	for _, planned := range plan.Chunks {
		report := &ChunkReport{Chunk: planned.Chunk, Rows: planned.Rows, Strikes: r.known.held[planned.Chunk].Strikes, Steps: []StepReport{}}
		r.report.Chunks = append(r.report.Chunks, report)
		if planned.State == ChunkUnchanged && r.selection.Only == "" {
			report.State = ChunkUnchanged
			r.report.Unchanged++
			r.p.meter.finished(ChunkUnchanged)
			continue
		}
		todo = append(todo, &work{chunk: planned.Chunk, planned: planned, report: report})
	}
	return todo
}

// all brings the chunks through the steps: one stage fetches, one reads and adds up, one writes, each a chunk behind the one before.
func (r *run) all(ctx context.Context, todo []*work) error {
	group, ctx := errgroup.WithContext(ctx)
	fetched, made := make(chan *work), make(chan *work)
	steps := r.steps()
	group.Go(func() error {
		defer close(fetched)
		for _, w := range todo {
			if err := r.stage(ctx, w, fetched, r.bring(steps[:2])); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(made)
		for w := range fetched {
			if err := r.stage(ctx, w, made, r.walk(steps[2:4])); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for w := range made {
			if err := r.stage(ctx, w, nil, r.walk(steps[4:])); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// stage does some steps of a chunk and hands it on; it returns only errors that end the run.
func (r *run) stage(ctx context.Context, w *work, next chan<- *work, do func(context.Context, *work) error) error {
	err := advised(w.chunk, do(ctx, w))
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && ends(err):
		w.report.State, w.report.Error = ChunkFailed, err.Error()
		return fmt.Errorf("chunk %s: %w", w.chunk, err)
	case err != nil:
		r.failures <- fmt.Errorf("chunk %s: %w", w.chunk, err)
		w.report.State, w.report.Error = ChunkFailed, err.Error()
		r.p.log.Error("chunk failed", "job", r.p.identity.Job, "epoch", r.p.identity.Epoch, "chunk", string(w.chunk), "err", err)
		r.p.meter.finished(ChunkFailed)
		r.drop(w)
		return nil
	}
	if next == nil || w.enough {
		w.report.State = ChunkDone
		r.p.meter.finished(ChunkDone)
		r.drop(w)
		return nil
	}
	select {
	case next <- w:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// walk takes a chunk through steps, up to the only one that is asked for.
func (r *run) walk(steps []step) func(context.Context, *work) error {
	return func(ctx context.Context, w *work) error {
		for _, s := range steps {
			if err := r.take(ctx, w, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if s.name == r.selection.Only {
				w.enough = true
				return nil
			}
		}
		return nil
	}
}

// bring is walk for the first steps: when the source is replaced under the copy, the chunk is planned and extracted once more.
func (r *run) bring(steps []step) func(context.Context, *work) error {
	walk := r.walk(steps)
	return func(ctx context.Context, w *work) error {
		err := walk(ctx, w)
		if !errors.Is(err, objects.ErrReplaced) {
			return err
		}
		r.p.log.Warn("the source was replaced during the copy; the chunk is extracted again", "job", r.p.identity.Job, "chunk", string(w.chunk), "err", err)
		r.fresh[w.chunk] = true
		if w.planned.source, err = r.p.state(ctx, w.chunk); err != nil {
			return err
		}
		return walk(ctx, w)
	}
}

// drop removes the chunk's file, which S3 has, and what is in memory of it.
func (r *run) drop(w *work) {
	if w.local != "" {
		_ = os.Remove(w.local) // it is in the folder for work, which may be emptied at any time
	}
	w.result = aggregate.Result{}
}

// count counts the chunks by how they ended.
func (r *Report) count() {
	for _, c := range r.Chunks {
		switch c.State {
		case ChunkDone:
			r.Done++
		case ChunkFailed:
			r.Failed++
		}
	}
}

// verdict counts the chunks and says what the run comes to.
func (r *run) verdict(ended error) error {
	r.report.count()
	close(r.failures)
	var failures []error
	for err := range r.failures {
		failures = append(failures, err)
	}
	return r.report.verdict(failures, ended)
}

// verdict says what a run comes to whose chunks failed so, and which was ended by an error, or not.
func (r *Report) verdict(failures []error, ended error) error {
	all, gated, early := failures, ended == nil, ended == nil
	if ended != nil {
		all = append([]error{ended}, failures...)
	}
	for _, err := range failures {
		gated, early = gated && gate(err), early && errors.Is(err, ErrNotYet)
	}
	if len(all) == 0 {
		return nil
	}
	o := &outcome{code: ExitFailed, failures: all}
	switch {
	case ended != nil:
	case gated:
		o.code = ExitQuality
	case early:
		o.code = ExitPartial
	case r.Done+r.Unchanged > 0:
		o.code = ExitPartial
		o.failures = append([]error{fmt.Errorf("%w: %d of %d", ErrPartial, r.Failed, len(r.Chunks))}, all...)
	}
	return o
}
