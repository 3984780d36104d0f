package etl

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// extSums ends the key of what aggregate leaves in S3: the canonical text of the result, compressed.
const extSums = ".gz"

// maxSums bounds that object, in bytes; a year of small cells is 2 MB.
const maxSums = 256 << 20

func (p *Pipeline) sumsHash(w *work) string {
	return objects.Hash(fmt.Sprintf("%s %s cell %d of %s", StepAggregate, formats, p.config.Load.Cell, w.made.Hash), nil)
}

// findSums looks whether a chunk needs to be added up: not if the tables hold it, nor if its sums are in S3. By force it does, unless
// another step is what was asked for.
func (r *run) findSums(ctx context.Context, w *work, e *warehouse.Entry) (bool, error) {
	if held, err := r.loaded(ctx, w, e); held || err != nil {
		return held, err
	}
	e.SourceHash = r.p.sumsHash(w)
	if r.selection.Force && (r.selection.Only == "" || r.selection.Only == StepAggregate) {
		return false, nil
	}
	m, found, err := r.p.store.Find(ctx, StepAggregate, w.chunk, e.SourceHash)
	if err != nil || !found {
		return false, err
	}
	w.result, err = r.readSums(ctx, w, m)
	return err == nil, err
}

// readSums reads what keepSums has written, and judges it as if an engine had just said it.
func (r *run) readSums(ctx context.Context, w *work, m objects.Manifest) (aggregate.Result, error) {
	o, ok := object(m, extSums)
	if !ok {
		return aggregate.Result{}, fmt.Errorf("the manifest of %s of %s names no sums", m.Step, m.Chunk)
	}
	packed, err := r.p.store.Read(ctx, o.Key, maxSums)
	if err != nil {
		return aggregate.Result{}, err
	}
	if crc := crc32.Checksum(packed, crc32.MakeTable(crc32.Castagnoli)); crc != o.CRC32C {
		return aggregate.Result{}, fmt.Errorf("%w: %s is %08x, its manifest says %08x", objects.ErrChecksum, o.Key, crc, o.CRC32C)
	}
	text, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("read %s: %w", o.Key, err)
	}
	result, err := aggregate.ReadCSV(text)
	if err = errors.Join(err, text.Close()); err != nil {
		return aggregate.Result{}, fmt.Errorf("read %s: %w", o.Key, err)
	}
	result.CellTenths, result.Totals = r.p.config.Load.Cell, w.summary.Totals
	return result, result.Check(w.chunk)
}

func (r *run) aggregate(ctx context.Context, w *work, e *warehouse.Entry) (err error) {
	if w.result, err = r.sumUp(ctx, w); err != nil {
		return err
	}
	if w.result.Totals != w.summary.Totals {
		return fmt.Errorf("%w: the engine counts %+v, the parser %+v", ErrQuality, w.result.Totals, w.summary.Totals)
	}
	r.p.meter.moved(StepAggregate, 0, w.result.Totals.Rows)
	return r.keepSums(ctx, w, e)
}

// keepSums writes a result to S3, so that a run that is killed before it is loaded need not add up again: with Spark that is minutes.
func (r *run) keepSums(ctx context.Context, w *work, e *warehouse.Entry) error {
	packed, err := pack(w.result)
	if err != nil {
		return err
	}
	o, err := r.p.putSmall(ctx, StepAggregate, w, ".csv"+extSums, packed)
	if err != nil {
		return err
	}
	_, err = r.commit(ctx, objects.Manifest{
		Hash: e.SourceHash, Inputs: inputs(w.made.Objects), Objects: []objects.Object{o}, Rows: w.result.Totals.Rows, Strikes: w.result.Totals.Strikes,
	}, e)
	e.Hash = w.result.Hash() // what the ledger is to name is the result and not what it was made of
	return err
}

// pack is the canonical text of a result, compressed: the same bytes for the same result.
func pack(r aggregate.Result) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		err = errors.Join(r.WriteCSV(z), z.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("pack sums: %w", err)
	}
	return out.Bytes(), nil
}
