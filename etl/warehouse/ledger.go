package warehouse

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/tile"
)

// State of a step of a chunk.
type State string

// The states of a step.
const (
	Started State = "started"
	Done    State = "done"
	Failed  State = "failed"
)

// StepLoad is the ledger's name of the step that Load writes itself.
const StepLoad = "load"

// Entry is a row of the ledger: one step of one chunk, as it was last written.
type Entry struct {
	Pipeline    string          `json:"pipeline"` // "" = the layout's
	Chunk       tile.Chunk      `json:"chunk"`
	Step        string          `json:"step"`
	State       State           `json:"state"`
	Epoch       uint64          `json:"epoch"` // set by Note
	Node        string          `json:"node"`  // set by Note
	SourceHash  string          `json:"source_hash"`
	Sources     json.RawMessage `json:"sources,omitempty"` // any JSON; nil = []
	UploadID    string          `json:"upload_id,omitempty"`
	Manifests   []string        `json:"manifests,omitempty"` // keys
	Rows        int64           `json:"rows"`
	Strikes     int64           `json:"strikes"`
	Quarantined int64           `json:"quarantined"`
	Hash        string          `json:"hash,omitempty"` // sha256 of what the step made
	Synthetic   bool            `json:"synthetic"`
	Took        time.Duration   `json:"took"` // milliseconds are kept
	Error       string          `json:"error,omitempty"`
	Updated     time.Time       `json:"updated"` // set by Note, by the server's clock

	Accept bool `json:"-"` // for Load: although the chunk has shrunk. Not kept
}

// Note writes the row of the entry's chunk and step, whatever it was. ErrFenced: it did not.
func (w *Warehouse) Note(ctx context.Context, e Entry) error {
	err := w.write(ctx, func(ctx context.Context, tx pgx.Tx) error { return w.enter(ctx, tx, e) })
	if err != nil {
		return fmt.Errorf("note %s of %s: %w", e.Step, e.Chunk, err)
	}
	return nil
}

const enterSQL = `INSERT INTO duoflow.etl_chunk AS k (pipeline, chunk, step, state, epoch, node, source_hash, sources, upload_id, manifests,
  rows, strikes, quarantined, hash, synthetic, took_ms, error, updated)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10::jsonb, $11, $12, $13, $14, $15, $16, $17, clock_timestamp())
ON CONFLICT (pipeline, chunk, step) DO UPDATE SET state = excluded.state, epoch = excluded.epoch, node = excluded.node,
  source_hash = excluded.source_hash, sources = excluded.sources, upload_id = excluded.upload_id, manifests = excluded.manifests,
  rows = excluded.rows, strikes = excluded.strikes, quarantined = excluded.quarantined, hash = excluded.hash, synthetic = excluded.synthetic,
  took_ms = excluded.took_ms, error = excluded.error, updated = excluded.updated`

func (w *Warehouse) enter(ctx context.Context, tx pgx.Tx, e Entry) error {
	if e.Pipeline == "" {
		e.Pipeline = w.layout.Pipeline
	}
	sources := string(e.Sources)
	if sources == "" {
		sources = "[]"
	}
	if e.Manifests == nil {
		e.Manifests = []string{}
	}
	manifests, err := json.Marshal(e.Manifests)
	if err != nil {
		return fmt.Errorf("encode manifests: %w", err)
	}
	_, err = tx.Exec(ctx, enterSQL, e.Pipeline, string(e.Chunk), e.Step, string(e.State), int64(w.config.Epoch), w.config.Node, e.SourceHash, sources,
		e.UploadID, string(manifests), e.Rows, e.Strikes, e.Quarantined, e.Hash, e.Synthetic, e.Took.Milliseconds(), storable(e.Error))
	return err
}

// storable is a text as Postgres takes one. What a server or Spark has said is any bytes, and may be cut within a character.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Ledger returns all rows of the pipeline, by chunk and step.
func (w *Warehouse) Ledger(ctx context.Context) ([]Entry, error) {
	var out []Entry
	err := w.retry(ctx, &w.notes, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err := tx.Query(ctx, `SELECT pipeline, chunk, step, state, epoch, node, source_hash, sources::text, upload_id, manifests::text,
  rows, strikes, quarantined, hash, synthetic, took_ms, error, updated FROM duoflow.etl_chunk WHERE pipeline = $1 ORDER BY chunk, step`, w.layout.Pipeline)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanEntry)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return out, nil
}

func scanEntry(row pgx.CollectableRow) (Entry, error) {
	var e Entry
	var sources, manifests string
	var took int64
	err := row.Scan(&e.Pipeline, &e.Chunk, &e.Step, &e.State, &e.Epoch, &e.Node, &e.SourceHash, &sources, &e.UploadID, &manifests,
		&e.Rows, &e.Strikes, &e.Quarantined, &e.Hash, &e.Synthetic, &took, &e.Error, &e.Updated)
	if err != nil {
		return e, err
	}
	e.Sources, e.Took = json.RawMessage(sources), time.Duration(took)*time.Millisecond
	if err := json.Unmarshal([]byte(manifests), &e.Manifests); err != nil {
		return e, fmt.Errorf("decode manifests: %w", err)
	}
	return e, nil
}
