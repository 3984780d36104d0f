package airflowctl

import (
	"context"
	"log/slog"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Ledger is the ledger of a job, at a pace for tests.
type Ledger struct{ *ledger }

func NewLedger(write func(context.Context, fence.Note) error, busy func() bool) Ledger {
	l := newLedger(write, busy, slog.New(slog.DiscardHandler))
	l.after = time.Millisecond
	return Ledger{l}
}

// Tell tells what was so long ago.
func (l Ledger) Tell(note fence.Note, ago time.Duration) { l.tell(note, sinceBoot()-ago) }

// Hurry looks after the standby of a job that does not run yet at a pace for tests.
func (j *Job) Hurry(look, calm, retry, retryMax time.Duration) {
	j.pace = pace{every: 10 * time.Millisecond, look: look, calm: calm, retry: retry, retryMax: retryMax}
}

// ReadLine reads a status file that has to belong to uid.
func ReadLine(path string, uid int) (string, error) {
	text, _, err := readLine(path, uid)
	return CleanLine(text), err
}
