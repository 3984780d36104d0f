package fence

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Moment is what the ledger duoflow.event knows of a job's epochs.
type Moment string

const (
	// Taken is written by the take itself, in its transaction.
	Taken Moment = "take"
	// Released is written by the release itself, in its transaction.
	Released Moment = "release"
	// Started is a daemon's note, written some time after it: the process tree of the epoch was given its credentials. A daemon that dies writes none.
	Started Moment = "start"
	// Stopped is a daemon's note as well: the process tree was seen to be empty.
	Stopped Moment = "stop"
)

// Note is one line that a daemon adds to the ledger.
type Note struct {
	Epoch  uint64
	Node   string
	Moment Moment // Started or Stopped
	// Ago tells how long ago it was, by a clock that only goes forward. It is asked at the last moment: to connect takes time.
	Ago func() time.Duration
}

// noteSQL writes a line once, whatever became of the answer. "at" is the server's clock less the age: no two clocks are compared.
const noteName, noteSQL = "duoflow_note", `INSERT INTO duoflow.event (job, epoch, node, kind, at)
SELECT $1::text, $2::bigint, $3::text, $4::text, clock_timestamp() - make_interval(secs => $5::float8)
WHERE NOT EXISTS (SELECT 1 FROM duoflow.event e WHERE e.job = $1::text AND e.epoch = $2::bigint AND e.node = $3::text AND e.kind = $4::text)`

// Note adds a line to the ledger, for people and for an audit: nothing decides by it. It uses a session of its own, so that no
// takeover waits for it. To repeat it is harmless.
func (f *Fencer) Note(ctx context.Context, note Note) error {
	if err := f.note(ctx, note); err != nil {
		return fmt.Errorf("note %s of epoch %d: %w", note.Moment, note.Epoch, err)
	}
	return nil
}

func (f *Fencer) note(ctx context.Context, note Note) error {
	if note.Moment != Started && note.Moment != Stopped {
		return errors.New("only the fence itself writes this")
	}
	conn, err := f.dialBare(ctx)
	if err != nil {
		return err
	}
	defer discard(conn)
	if _, err := conn.Prepare(ctx, noteName, noteSQL); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, noteName, f.config.Job, note.Epoch, note.Node, string(note.Moment), note.Ago().Seconds())
	return err
}
