package etl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// work is one chunk on its way through the steps.
type work struct {
	chunk   tile.Chunk
	planned Planned
	report  *ChunkReport

	sources []objects.Source // of extract
	copied  objects.Manifest // of copy
	made    objects.Manifest // of ingest
	summary summary          // of ingest
	local   string           // the canonical file, here
	result  aggregate.Result // of aggregate
	enough  bool             // the one step that was asked for is done
}

// summary is what ingest says about a chunk, kept beside the canonical file.
type summary struct {
	Totals tile.Totals `json:"totals"`
	Report nldn.Report `json:"report"`
}

// step is one step of a chunk. find looks whether it is done, and takes over what it made; do does it. Both may say in
// the entry what the ledger is to hold.
type step struct {
	name string
	find func(context.Context, *work, *warehouse.Entry) (bool, error)
	do   func(context.Context, *work, *warehouse.Entry) error
}

func (r *run) steps() []step {
	return []step{
		{StepExtract, r.findExtract, r.extract},
		{StepCopy, r.findCopy, r.copy},
		{StepIngest, r.findIngest, r.ingest},
		{StepAggregate, r.findSums, r.aggregate},
		{StepLoad, r.loaded, r.load},
		{StepPublish, r.findPublish, r.publish},
	}
}

// findPublish is for who looks: the plan has asked for the mark already, and a run comes here only where it is not, or by force.
func (r *run) findPublish(_ context.Context, w *work, _ *warehouse.Entry) (bool, error) {
	return r.selection.Look && w.planned.State == ChunkUnchanged, nil
}

// take brings a chunk through a step. Every write to the ledger is fenced, so a run whose epoch is over ends here at the
// latest, before it commits a manifest.
func (r *run) take(ctx context.Context, w *work, s step) error {
	e := warehouse.Entry{Chunk: w.chunk, Step: s.name, State: warehouse.Started, Synthetic: w.planned.source.synthetic}
	found, err := s.find(ctx, w, &e)
	if err != nil || found {
		return err
	}
	if r.selection.Look {
		return fmt.Errorf("%w: %s of %s", ErrNotYet, s.name, w.chunk)
	}
	if r.selection.Only != "" && r.selection.Only != s.name {
		return fmt.Errorf("%w: %s of %s", ErrNotDone, s.name, w.chunk)
	}
	if err := r.p.target.Note(ctx, e); err != nil {
		return err
	}
	r.p.meter.enter(s.name, w.chunk)
	err = s.do(ctx, w, &e)
	e.Took = r.p.meter.leave(s.name, err == nil)
	if err != nil {
		return r.failed(ctx, e, err)
	}
	w.report.Steps = append(w.report.Steps, StepReport{Step: s.name, Took: e.Took, Rows: e.Rows})
	e.State = warehouse.Done
	if s.name == StepLoad {
		return nil // Load has entered it, in its own transaction
	}
	return r.p.target.Note(ctx, e)
}

// failed notes why a step failed, unless nobody may write any more.
func (r *run) failed(ctx context.Context, e warehouse.Entry, why error) error {
	if ctx.Err() != nil || errors.Is(why, warehouse.ErrFenced) || errors.Is(why, context.Canceled) {
		return why
	}
	e.State, e.Error = warehouse.Failed, advised(e.Chunk, why).Error()
	err := r.p.target.Note(ctx, e)
	if err != nil && (!ends(why) || errors.Is(err, warehouse.ErrFenced)) { // what ends the run may well be why nothing can be noted
		return errors.Join(why, err)
	}
	return why
}

// commit looks that the epoch is still ours before it makes visible what a step has made.
func (r *run) commit(ctx context.Context, m objects.Manifest, e *warehouse.Entry) (objects.Manifest, error) {
	m.Chunk, m.Step, m.Epoch, m.Synthetic = e.Chunk, e.Step, r.p.identity.Epoch, e.Synthetic
	e.Hash, e.Rows, e.Strikes = m.Hash, m.Rows, m.Strikes
	for _, o := range m.Objects {
		e.Manifests = append(e.Manifests, o.Key)
	}
	if err := r.p.target.Note(ctx, *e); err != nil {
		return m, err
	}
	return r.p.store.Commit(ctx, m)
}

func (r *run) findExtract(_ context.Context, w *work, e *warehouse.Entry) (bool, error) {
	if w.planned.failure != nil {
		if r.selection.Look || (r.selection.Only != "" && r.selection.Only != StepExtract) {
			return false, w.planned.failure
		}
		return false, nil
	}
	e.SourceHash = objects.Hash(StepExtract, []objects.Input{{Name: w.planned.source.state}})
	known, ok := r.known.ledger[ledgerKey{w.chunk, StepExtract}]
	if !ok || r.fresh[w.chunk] || known.State != warehouse.Done || known.SourceHash != e.SourceHash {
		return false, nil
	}
	if err := json.Unmarshal(known.Sources, &w.sources); err != nil {
		return false, fmt.Errorf("decode sources of %s in the ledger: %w", w.chunk, err)
	}
	return len(w.sources) > 0, nil
}

func (r *run) extract(ctx context.Context, w *work, e *warehouse.Entry) (err error) {
	if w.planned.failure != nil {
		return w.planned.failure // to be noted, as any other failure
	}
	w.sources, err = r.p.origins.extract(ctx, w.chunk, func(bytes, rows int64) { r.p.meter.moved(StepExtract, bytes, rows) })
	if err != nil {
		return err
	}
	if e.Sources, err = json.Marshal(w.sources); err != nil {
		return fmt.Errorf("encode sources: %w", err)
	}
	return nil
}

func (r *run) findCopy(ctx context.Context, w *work, e *warehouse.Entry) (found bool, err error) {
	e.SourceHash = objects.Hash(StepCopy, inputs(w.sources))
	w.copied, found, err = r.p.store.Find(ctx, StepCopy, w.chunk, e.SourceHash)
	return found, err
}

// inputs are those of a step that reads what is in Google Cloud Storage, or in S3.
func inputs[T interface{ Input() objects.Input }](all []T) []objects.Input {
	out := make([]objects.Input, len(all))
	for i, one := range all {
		out[i] = one.Input()
	}
	return out
}

func (r *run) copy(ctx context.Context, w *work, e *warehouse.Entry) error {
	m := objects.Manifest{Hash: e.SourceHash, Inputs: inputs(w.sources)}
	var tasks []objects.Task
	for _, s := range w.sources {
		tasks = append(tasks, objects.Task{
			Source: s, Key: objects.RawKey(w.chunk, s),
			Begun: func(id string) error { return r.begun(ctx, *e, id) },
			Moved: func(bytes int64) { r.p.meter.moved(StepCopy, bytes, 0) },
		})
	}
	copied, err := r.p.store.CopyAll(ctx, r.p.gcs, tasks)
	if err != nil {
		return err
	}
	for _, c := range copied {
		m.Objects = append(m.Objects, c.Object)
	}
	w.copied, err = r.commit(ctx, m, e)
	return err
}

// begun notes an upload. With several at a time the ledger shows the youngest; S3 itself is asked for those to go on with.
func (r *run) begun(ctx context.Context, e warehouse.Entry, id string) error {
	e.UploadID = id
	return r.p.target.Note(ctx, e)
}

// loaded tells whether the tables hold just what the canonical file would come to: then there is nothing to add up or load.
func (r *run) loaded(_ context.Context, w *work, e *warehouse.Entry) (bool, error) {
	e.SourceHash = w.made.Hash
	held, ok := r.known.held[w.chunk]
	same := ok && held.SourceHash == w.made.Hash && held.CellTenths == r.p.config.Load.Cell && held.Synthetic == e.Synthetic
	if same = same && !r.selection.Force; same {
		w.report.Rows, w.report.Strikes, w.report.Quarantined, w.report.Hash = held.Rows, held.Strikes, w.summary.Report.Quarantined, held.Hash
	}
	return same, nil
}

func (r *run) load(ctx context.Context, w *work, e *warehouse.Entry) error {
	e.Accept, e.Quarantined = r.selection.Accept, w.summary.Report.Quarantined
	e.State = warehouse.Done
	out, err := r.p.target.Load(ctx, *e, w.result, w.summary.Totals)
	if err != nil {
		return err
	}
	e.Rows, e.Strikes = w.summary.Totals.Rows, w.summary.Totals.Strikes
	r.p.meter.moved(StepLoad, 0, out.Rows)
	w.report.Rows, w.report.Strikes, w.report.Quarantined = e.Rows, e.Strikes, e.Quarantined
	w.report.Hash = w.result.Hash()
	return nil
}

// publish marks the chunk as up to date: a later run asks for this one object.
func (r *run) publish(ctx context.Context, w *work, e *warehouse.Entry) error {
	e.SourceHash = w.made.Hash
	_, err := r.commit(ctx, objects.Manifest{
		Hash: r.p.publishHash(w.chunk, w.planned.source), Inputs: inputs(w.made.Objects),
		Rows: w.summary.Totals.Rows, Strikes: w.summary.Totals.Strikes,
	}, e)
	return err
}

// formats is part of every hash of what the readers make: another reader makes other files.
const formats = "nldn-1 columnar-1"

func (p *Pipeline) ingestHash(w *work) string {
	return objects.Hash(fmt.Sprintf("%s %s %q", StepIngest, formats, p.config.Source.Encoding), inputs(w.copied.Objects))
}

// publishHash names the chunk as the source and the configuration want it.
func (p *Pipeline) publishHash(chunk tile.Chunk, o origin) string {
	return objects.Hash(fmt.Sprintf("%s %s cell %d synthetic %v", p.ingestKind(), formats, p.config.Load.Cell, o.synthetic),
		[]objects.Input{{Name: string(chunk) + " " + o.state}})
}

func (p *Pipeline) ingestKind() string {
	return fmt.Sprintf("%s %q", StepPublish, p.config.Source.Encoding)
}
