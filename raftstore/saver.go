package raftstore

import (
	"context"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// storage is what the storage goroutine writes to: the disk.
type storage interface {
	// Save returns when the batch is durable. After an error nothing is known about the storage.
	Save(*replica.Batch) error
	Close() error
}

// saver is the storage goroutine. A disk that does not answer holds up this goroutine and no other: the
// loop goes on with its ticks and messages. The replica has one save under way at most, so neither
// channel is ever full.
type saver struct {
	storage storage
	todo    chan *replica.Batch // capacity 1
	done    chan error          // capacity 1
}

// newSaver makes a saver that is not running yet.
func newSaver(s storage) *saver {
	return &saver{storage: s, todo: make(chan *replica.Batch, 1), done: make(chan error, 1)}
}

// run saves until ctx ends. A write that has begun is waited for: a thread in a system call cannot be
// called back.
func (s *saver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case batch := <-s.todo:
			// gofail: var raftBeforeSave struct{}
			err := s.storage.Save(batch)
			// gofail: var raftAfterSave struct{}
			s.done <- err
		}
	}
}
