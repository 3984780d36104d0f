package etl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// What ingest leaves in S3, by the ends of the keys.
const (
	extTiles      = ".parquet"
	extSummary    = ".json"
	extQuarantine = ".ndjson"
)

// Limits of small objects, in bytes.
const (
	maxSummary    = 1 << 20
	maxQuarantine = 64 << 20
)

// object finds the one of a manifest whose key ends so.
func object(m objects.Manifest, ext string) (objects.Object, bool) {
	for _, o := range m.Objects {
		if path.Ext(o.Key) == ext {
			return o, true
		}
	}
	return objects.Object{}, false
}

func (p *Pipeline) localFile(w *work, name string) string {
	return filepath.Join(p.config.Stages.Work, string(w.chunk)+"-"+name)
}

func (r *run) findIngest(ctx context.Context, w *work, e *warehouse.Entry) (found bool, err error) {
	e.SourceHash = r.p.ingestHash(w)
	w.made, found, err = r.p.store.Find(ctx, StepIngest, w.chunk, e.SourceHash)
	if err != nil || !found {
		return false, err
	}
	if w.summary, err = r.p.summaryOf(ctx, w.made); err != nil {
		return false, err
	}
	return true, r.judge(w)
}

func (p *Pipeline) summaryOf(ctx context.Context, m objects.Manifest) (summary, error) {
	var out summary
	o, ok := object(m, extSummary)
	if !ok {
		return out, fmt.Errorf("the manifest of %s of %s names no summary", m.Step, m.Chunk)
	}
	text, err := p.store.Read(ctx, o.Key, maxSummary)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("decode summary of %s: %w", m.Chunk, err)
	}
	return out, nil
}

// ingest reads the raw objects, and once more from S3 if one of them came damaged.
func (r *run) ingest(ctx context.Context, w *work, e *warehouse.Entry) error {
	var table tile.Table
	var quarantine bytes.Buffer
	report, err := r.read(ctx, w, &table, &quarantine)
	if errors.Is(err, nldn.ErrDamaged) || errors.Is(err, objects.ErrChecksum) {
		r.p.log.Warn("a file is damaged; it is fetched once more", "job", r.p.identity.Job, "chunk", string(w.chunk), "err", err)
		table, quarantine = tile.Table{}, bytes.Buffer{}
		report, err = r.read(ctx, w, &table, &quarantine)
	}
	if err != nil {
		return err
	}
	w.summary = summary{Totals: table.Totals(), Report: report}
	e.Quarantined = report.Quarantined
	if err := r.keep(ctx, w, &table, e, quarantine.Bytes()); err != nil {
		return err
	}
	return r.judge(w)
}

// read parses all raw objects of a chunk into one table.
func (r *run) read(ctx context.Context, w *work, table *tile.Table, quarantine *bytes.Buffer) (nldn.Report, error) {
	options := nldn.Options{Chunk: w.chunk, Encoding: r.p.config.Source.Encoding, AllowEmpty: true}
	var reports []nldn.Report
	bad := func(b nldn.Bad) error {
		if quarantine.Len() > maxQuarantine {
			return fmt.Errorf("%w: more than %d bytes in quarantine", ErrQuality, maxQuarantine)
		}
		return json.NewEncoder(quarantine).Encode(b)
	}
	for _, o := range w.copied.Objects {
		kept := quarantine.Len()
		report, err := r.readObject(ctx, w, o, func(in io.Reader) (nldn.Report, error) {
			return nldn.Read(ctx, o.Key, in, options, table, bad)
		})
		if err != nil {
			quarantine.Truncate(kept)
			return nldn.Report{}, err // which names the object
		}
		reports = append(reports, report)
		r.p.meter.moved(StepIngest, report.Bytes, report.Rows)
	}
	report, err := nldn.Finish(table, reports, bad)
	if err != nil {
		return report, err
	}
	if report.Rows == 0 && report.Quarantined == 0 && !r.p.config.Quality.AllowEmpty {
		return report, fmt.Errorf("%w: chunk %s; quality.allow_empty takes it", nldn.ErrEmpty, w.chunk)
	}
	return report, nil
}

// readObject parses an object once all of it is here and is what its checksum says.
func (r *run) readObject(ctx context.Context, w *work, o objects.Object, parse func(io.Reader) (nldn.Report, error)) (nldn.Report, error) {
	file := r.p.localFile(w, path.Base(o.Key))
	defer os.Remove(file)
	if err := r.p.store.Get(ctx, o, file); err != nil {
		return nldn.Report{}, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nldn.Report{}, fmt.Errorf("open what was fetched: %w", err)
	}
	defer f.Close()
	return parse(f)
}

// keep writes what ingest has made to S3, the manifest last.
func (r *run) keep(ctx context.Context, w *work, table *tile.Table, e *warehouse.Entry, quarantine []byte) error {
	w.local = r.p.localFile(w, e.SourceHash+extTiles)
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var size int64
	err := writeFile(w.local, func(f io.Writer) error {
		n := &counter{w: io.MultiWriter(f, sum)}
		defer func() { size = n.n }()
		return columnar.Write(n, table)
	})
	if err != nil {
		return err
	}
	m := objects.Manifest{Hash: e.SourceHash, Inputs: inputs(w.copied.Objects), Rows: w.summary.Totals.Rows, Strikes: w.summary.Totals.Strikes}
	tiles, err := r.p.store.PutFile(ctx, objects.StepKey(StepIngest, w.chunk, sum.Sum32(), size, extTiles), w.local)
	if err != nil {
		return err
	}
	m.Objects = append(m.Objects, tiles.Object)
	text, err := json.Marshal(w.summary)
	if err != nil {
		return fmt.Errorf("encode summary: %w", err)
	}
	for _, small := range []struct {
		ext  string
		text []byte
	}{{extSummary, text}, {extQuarantine, quarantine}} {
		if len(small.text) == 0 {
			continue
		}
		o, err := r.p.putSmall(ctx, StepIngest, w, small.ext, small.text)
		if err != nil {
			return err
		}
		m.Objects = append(m.Objects, o)
	}
	w.made, err = r.commit(ctx, m, e)
	return err
}

// putSmall writes an object that a step makes of a chunk, under the name of its content.
func (p *Pipeline) putSmall(ctx context.Context, step string, w *work, ext string, content []byte) (objects.Object, error) {
	crc := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	return p.store.Put(ctx, objects.StepKey(step, w.chunk, crc, int64(len(content)), ext), content)
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeFile makes a file whole or not at all.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the reason is told already
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// judge is the gate before anything is added up.
func (r *run) judge(w *work) error {
	n := w.summary.Report
	if in, out := n.Lines, n.Rows+n.Duplicates+n.Quarantined+n.Comments+n.Headers; in != out {
		return fmt.Errorf("%w: %d lines in, %d accounted for", ErrQuality, in, out)
	}
	if n.Rows != w.summary.Totals.Rows || n.Strikes != w.summary.Totals.Strikes {
		return fmt.Errorf("%w: the reader counts %d rows and %d strikes, the table has %d and %d", ErrQuality, n.Rows, n.Strikes, w.summary.Totals.Rows, w.summary.Totals.Strikes)
	}
	if share := float64(n.Quarantined) / float64(max(1, n.Rows+n.Duplicates+n.Quarantined)); share > r.p.config.Quality.MaxBadRows {
		return fmt.Errorf("%w: %d of %d rows are in quarantine, %.3g %%; quality.max_bad_rows allows %.3g %% (duoetl quarantine --chunk %s)",
			ErrQuality, n.Quarantined, n.Rows+n.Duplicates+n.Quarantined, 100*share, 100*r.p.config.Quality.MaxBadRows, w.chunk)
	}
	return nil
}

// fetch brings the canonical file here, if it is not.
func (r *run) fetch(ctx context.Context, w *work) error {
	if w.local != "" {
		return nil
	}
	tiles, ok := object(w.made, extTiles)
	if !ok {
		return fmt.Errorf("the manifest of ingest of %s names no tiles", w.chunk)
	}
	file := r.p.localFile(w, w.made.Hash+extTiles)
	if err := r.p.store.Get(ctx, tiles, file); err != nil {
		return err
	}
	w.local = file
	return nil
}
