package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// readAgainAfter is how long a try to read is waited for: its messages may be lost, and with nobody leading none are sent.
const readAgainAfter = 100 * time.Millisecond

// Read returns nil when this node's state machine holds all that was committed anywhere before Read was called: a majority
// has confirmed since then who leads. It tries until ctx ends; the error is ErrNoLeader, wrapped, if nobody led at the last try.
func (s *Store) Read(ctx context.Context) error {
	for {
		err := s.tryRead(ctx)
		if err == nil || errors.Is(err, ErrStopped) {
			return err
		}
		if ctx.Err() != nil && errors.Is(err, ErrNoLeader) {
			return fmt.Errorf("read: %w", err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("read: %w", ctx.Err())
		}
	}
}

// tryRead asks once. Without an answer it returns when the next try is due, or ctx ends.
func (s *Store) tryRead(ctx context.Context) error {
	number := make([]byte, commandHeader)
	if _, err := rand.Read(number); err != nil {
		return fmt.Errorf("draw number of a read: %w", err)
	}
	request := binary.BigEndian.Uint64(number)
	end := s.await(request)
	defer s.forget(request)
	refused := make(chan error, 1)
	s.post(func(s *Store) { refused <- s.replica.Read(request) })
	again := time.NewTimer(readAgainAfter)
	defer again.Stop()
	var why error
	for {
		select {
		case err := <-end:
			return err
		case why = <-refused:
		case <-again.C:
			return errors.Join(errNoAnswer, why)
		case <-ctx.Done():
			return errors.Join(errNoAnswer, why)
		case <-s.stopped:
			return ErrStopped
		}
	}
}

var errNoAnswer = errors.New("no majority has confirmed who leads")

// current completes a read.
func (s *Store) current(request uint64) { s.complete(binary.BigEndian.AppendUint64(nil, request), nil) }
