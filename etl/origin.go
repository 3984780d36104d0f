package etl

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/duoflow/duoflow/etl/bigq"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// origin is what a chunk is made of at its source now.
type origin struct {
	state     string // changes exactly when the chunk may have changed
	bytes     int64  // 0 = unknown
	synthetic bool   // the source itself says that it is made up
}

// blames tells whether an error of a source is the chunk's alone and will be there again: others may be better off.
func blames(err error) bool {
	var fault *objects.Fault
	return errors.Is(err, bigq.ErrSchema) || errors.As(err, &fault) && fault.Permanent || errors.Is(err, objects.ErrNotFound)
}

// origins is a source of chunks.
type origins interface {
	// state asks cheaply what a chunk is made of.
	state(ctx context.Context, chunk tile.Chunk) (origin, error)
	// extract makes objects in Google Cloud Storage of it, and finds those that it has made already.
	extract(ctx context.Context, chunk tile.Chunk, moved func(bytes, rows int64)) ([]objects.Source, error)
}

// given is a source whose objects somebody else puts into Google Cloud Storage.
type given struct {
	gcs     *objects.GCS
	bucket  string
	pattern string // {chunk} is 2018 or 202005; * stands for anything but a slash
}

func (g given) list(ctx context.Context, chunk tile.Chunk) ([]objects.Source, error) {
	pattern := strings.ReplaceAll(g.pattern, "{chunk}", strings.ReplaceAll(string(chunk), "-", ""))
	prefix, _, _ := strings.Cut(pattern, "*")
	all, err := g.gcs.List(ctx, g.bucket, prefix)
	if err != nil {
		return nil, err
	}
	var out []objects.Source
	for _, o := range all {
		if ok, err := path.Match(pattern, o.Name); err == nil && ok {
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no object gs://%s/%s; is it there, and does source.objects name it?", objects.ErrNotFound, g.bucket, pattern)
	}
	return out, nil
}

func (g given) state(ctx context.Context, chunk tile.Chunk) (origin, error) {
	all, err := g.list(ctx, chunk)
	if err != nil {
		return origin{}, err
	}
	out := origin{state: objects.Hash(KindGCS, inputs(all))}
	for _, o := range all {
		out.bytes += o.Size
		out.synthetic = out.synthetic || o.Synthetic
	}
	return out, nil
}

func (g given) extract(ctx context.Context, chunk tile.Chunk, moved func(bytes, rows int64)) ([]objects.Source, error) {
	all, err := g.list(ctx, chunk)
	for _, o := range all {
		moved(o.Size, 0)
	}
	return all, err
}

// bigQuery is a source whose chunks are written into Google Cloud Storage by jobs.
type bigQuery struct{ reader *bigq.Reader }

func (b bigQuery) state(ctx context.Context, chunk tile.Chunk) (origin, error) {
	t, err := b.reader.Inspect(ctx, chunk)
	if err != nil {
		return origin{}, err
	}
	return origin{state: t.Name + " " + t.Content, bytes: t.Bytes, synthetic: saysSynthetic(t.Description)}, nil
}

// saysSynthetic reads a table's description; those that package synth has made begin so.
func saysSynthetic(description string) bool {
	word, _, _ := strings.Cut(synth.Marker, ":")
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(description)), word)
}

func (b bigQuery) extract(ctx context.Context, chunk tile.Chunk, moved func(bytes, rows int64)) ([]objects.Source, error) {
	var told bigq.Progress
	return b.reader.Extract(ctx, chunk, func(now bigq.Progress) {
		moved(max(0, now.Bytes-told.Bytes), max(0, now.Rows-told.Rows))
		told = now
	})
}

func (p *Pipeline) openOrigins(ctx context.Context) error {
	c := p.config
	if c.Source.Kind == KindGCS {
		p.origins = given{gcs: p.gcs, bucket: c.Stages.GCS.Bucket, pattern: c.Source.Objects}
		return nil
	}
	at := strings.LastIndexByte(c.Source.Table, '.')
	reader, err := bigq.Open(ctx, bigq.Config{
		Project: c.Source.Project, Dataset: c.Source.Table[:at], Table: c.Source.Table[at+1:], Location: c.Source.Location, Endpoint: c.Source.Endpoint,
		StagingBucket: c.Stages.GCS.Bucket, StagingPrefix: c.Stages.GCS.Prefix, Pipeline: c.Pipeline, Logger: p.log,
	}, p.gcs)
	if err != nil {
		return err
	}
	p.close = append(p.close, func() { _ = reader.Close() }) // it was only read
	p.origins = bigQuery{reader}
	return nil
}
