package bigq

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
)

// Table is what is known of a chunk's table, from one call.
type Table struct {
	Name        string // project.dataset.table
	Description string // of its owner; generated tables say there that they are
	Schema      Schema
	Rows, Bytes int64 // of the whole table
	Modified    time.Time
	Location    string
	Whole       bool   // the chunk is the whole table: extracted, at no cost. Otherwise a query is billed for the table's columns
	Content     string // a hash that changes with the table; part of the job's id
}

// Inspect looks at a chunk's table: one call.
func (r *Reader) Inspect(ctx context.Context, chunk tile.Chunk) (Table, error) {
	handle, perYear := r.handle(chunk)
	t := Table{Name: handle.ProjectID + "." + handle.DatasetID + "." + handle.TableID, Whole: perYear && chunk.Month() == 0}
	op := "look at table " + t.Name
	if _, err := tile.ParseChunk(string(chunk)); err != nil {
		return Table{}, fmt.Errorf("%s: %w", op, err)
	}
	var meta *bigquery.TableMetadata
	err := r.call(ctx, op, func(ctx context.Context) (err error) {
		meta, err = handle.Metadata(ctx, bigquery.WithMetadataView(bigquery.StorageStatsMetadataView))
		return err
	})
	if err != nil {
		return Table{}, hint(err, objects.ErrNotFound, "check dataset and table: years had tables of their own, lightning_%d; today's is lightning_strikes")
	}
	t.Description, t.Rows, t.Bytes, t.Modified = meta.Description, int64(meta.NumRows), meta.NumBytes, meta.LastModifiedTime
	if t.Rows < 0 || t.Bytes < 0 {
		return Table{}, &objects.Fault{Op: op, Permanent: true, Err: fmt.Errorf("it is said to have %d rows and %d bytes", meta.NumRows, t.Bytes)}
	}
	if t.Location = r.config.Location; t.Location == "" {
		t.Location = meta.Location
	}
	if t.Schema, err = understand(t.Name, meta.Schema); err != nil {
		return Table{}, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d\n%d\n%+v", t.Name, meta.ETag, t.Modified.UnixMilli(), t.Rows, t.Schema))
	t.Content = hex.EncodeToString(sum[:6])
	return t, nil
}

// Schema says which columns a chunk's table has: one call.
func (r *Reader) Schema(ctx context.Context, chunk tile.Chunk) (Schema, error) {
	t, err := r.Inspect(ctx, chunk)
	return t.Schema, err
}

// handle names the table of a chunk; perYear tells whether the year has its own.
func (r *Reader) handle(chunk tile.Chunk) (t *bigquery.Table, perYear bool) {
	project, dataset := r.config.Project, r.config.Dataset
	if at := strings.LastIndexByte(dataset, '.'); at >= 0 {
		project, dataset = dataset[:at], dataset[at+1:]
	}
	name := r.config.Table
	if strings.Contains(name, "%d") {
		name, perYear = fmt.Sprintf(name, chunk.Year()), true
	}
	return r.client.DatasetInProject(project, dataset).Table(name), perYear
}

// call does one call. The client tries it again by itself until the context that it is given ends, but not after every lost
// connection.
func (r *Reader) call(ctx context.Context, op string, call func(context.Context) error) error {
	return objects.Again(ctx, r.tries, op, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, r.callLimit)
		defer cancel()
		return survive(op, func() error { return call(ctx) })
	})
}

// survive makes a fault of an answer on which the client panics, such as null.
func survive(op string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &objects.Fault{Op: op, Permanent: true, Hint: "is that BigQuery?", Err: fmt.Errorf("the client cannot read the answer: %v", p)}
		}
	}()
	return call()
}

// hint adds what to do to a fault of a kind that has no better hint.
func hint(err, kind error, text string) error {
	var f *objects.Fault
	if errors.As(err, &f) && errors.Is(err, kind) && f.Hint == "" {
		f.Hint = text
	}
	return err
}
