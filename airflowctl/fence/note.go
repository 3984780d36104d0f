package fence

import (
	"context"
	"fmt"
	"time"
)

// Moment is what the ledger duoflow.event knows of a job's epochs.
type Moment string

const (
	// Taken and Released are written by take and release themselves, in the transaction that does it.
	Taken    Moment = "take"
	Released Moment = "release"
	// Started and Stopped are notes of a daemon, written some time after it: the process tree of the epoch was given its
	// credentials, and was seen to be empty. A daemon that dies writes none.
	Started Moment = "start"
	Stopped Moment = "stop"
)

// Note is one line that a daemon adds to the ledger.
type Note struct {
	Epoch  uint64
	Node   string
	Moment Moment        // Started or Stopped
	Ago    time.Duration // how long ago it was, by a clock that only goes forward; not negative
}

// noteSQL writes a line once, whatever became of the answer. "at" is the server's clock less the age: no two clocks are compared.
const noteSQL = `INSERT INTO duoflow.event (job, epoch, node, kind, at)
SELECT $1::text, $2::bigint, $3::text, $4::text, clock_timestamp() - make_interval(secs => $5::float8)
WHERE NOT EXISTS (SELECT 1 FROM duoflow.event e WHERE e.job = $1::text AND e.epoch = $2::bigint AND e.node = $3::text AND e.kind = $4::text)`

// Note adds a line to the ledger, for people and for an audit: nothing decides by it. It uses a session of its own, so that no
// takeover waits for it. To repeat it is harmless.
func (f *Fencer) Note(ctx context.Context, note Note) error {
	if note.Moment != Started && note.Moment != Stopped || note.Ago < 0 {
		return fmt.Errorf("note %q of epoch %d, %s ago: not for a daemon to write", note.Moment, note.Epoch, note.Ago)
	}
	conn, err := f.dialBare(ctx)
	if err != nil {
		return fmt.Errorf("note %s of epoch %d: %w", note.Moment, note.Epoch, err)
	}
	defer discard(conn)
	if _, err := conn.Exec(ctx, noteSQL, f.config.Job, note.Epoch, note.Node, string(note.Moment), note.Ago.Seconds()); err != nil {
		return fmt.Errorf("note %s of epoch %d: %w", note.Moment, note.Epoch, err)
	}
	return nil
}
