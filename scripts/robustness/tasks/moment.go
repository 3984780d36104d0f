package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// moment is when a fault is made.
type moment struct {
	name string
	// await returns at that moment. after is called when the fault has been noticed or is over, and may be nil.
	await func(ctx context.Context, s *stage, dice *rand.Rand) (after func() error, err error)
}

// momentWithin limits the wait for the moment; a fault that missed it is made all the same, and says so.
const momentWithin = time.Minute

var moments = []moment{
	{"any", atAny},
	{"queued", atQueued},
	{"sent", atSent},
	{"running", atRunning},
	{"finished", atFinished},
}

func atAny(ctx context.Context, _ *stage, dice *rand.Rand) (func() error, error) {
	return nil, lab.Pause(ctx, time.Duration(dice.Int64N(int64(2*time.Second))))
}

// atQueued returns as soon as the scheduler has committed that a task is queued. The message to the broker follows.
func atQueued(ctx context.Context, s *stage, _ *rand.Rand) (func() error, error) {
	return nil, s.awaitQueued(ctx)
}

// atSent returns a moment later than atQueued, while the worker takes up no message: what is sent waits in front of it, also
// while the next scheduler takes over, or is let in in the middle of that.
func atSent(ctx context.Context, s *stage, dice *rand.Rand) (func() error, error) {
	release, err := s.holdWorker()
	if err != nil {
		return nil, err
	}
	err = s.awaitQueued(ctx)
	if err == nil {
		err = lab.Pause(ctx, 100*time.Millisecond+time.Duration(dice.Int64N(int64(400*time.Millisecond))))
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

func (s *stage) awaitQueued(ctx context.Context) error {
	conn, err := s.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	defer conn.Release()
	var before, now int64
	if err := conn.QueryRow(ctx, newest).Scan(&before); err != nil {
		return fmt.Errorf("watch for a queued task: %w", err)
	}
	for now = before; now == before; {
		if err := conn.QueryRow(ctx, newest).Scan(&now); err != nil {
			return fmt.Errorf("watch for a queued task: %w", err)
		}
	}
	return nil
}

// atRunning returns when the next body has begun.
func atRunning(ctx context.Context, s *stage, _ *rand.Rand) (func() error, error) {
	return nil, s.awaitEntries(ctx, beginEntry, 1)
}

// atFinished returns when the next body has ended, and before anybody but the journal is told.
func atFinished(ctx context.Context, s *stage, _ *rand.Rand) (func() error, error) {
	return nil, s.awaitEntries(ctx, endEntry, 1)
}

// What lines of the journal begin with.
const (
	beginEntry = `{"what": "begin"`
	endEntry   = `{"what": "end"`
)

// awaitEntries waits for so many more lines of the journal that begin with a text.
func (s *stage) awaitEntries(ctx context.Context, text string, want int) error {
	file, err := os.Open(filepath.Join(s.folder, journalName))
	if err != nil {
		return fmt.Errorf("watch the journal: %w", err)
	}
	defer file.Close()
	at, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("watch the journal: %w", err)
	}
	more := make([]byte, 1<<16)
	for {
		n, _ := file.ReadAt(more, at) // an error at the end of the file: there is no more yet
		if want -= bytes.Count(more[:n], []byte(text)); want <= 0 {
			return nil
		}
		at += int64(n)
		if err := lab.Pause(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("wait for a body: %w", err)
		}
	}
}
