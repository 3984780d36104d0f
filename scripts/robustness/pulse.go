package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// beatEvery is how often the pulse is taken.
	beatEvery = 10 * time.Millisecond
	// unfit: a machine on which this program is late by so much cannot be told to keep a daemon from being late by more.
	unfit = 50 * time.Millisecond
	// overloaded is the load for each processor above which the same is taken for granted.
	overloaded = 4
)

// pulse notices when the machine itself stands still: who is not heard then is not to blame.
type pulse struct {
	cancel context.CancelFunc
	joined sync.WaitGroup
	late   atomic.Int64 // nanoseconds, the most since it was read
}

func newPulse(ctx context.Context) *pulse {
	ctx, cancel := context.WithCancel(ctx)
	p := &pulse{cancel: cancel}
	p.joined.Go(func() { p.beat(ctx) })
	return p
}

func (p *pulse) beat(ctx context.Context) {
	timer := time.NewTimer(beatEvery)
	defer timer.Stop()
	for {
		due := time.Now().Add(beatEvery)
		timer.Reset(beatEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if late := int64(time.Since(due)); late > p.late.Load() {
			p.late.Store(late)
		}
	}
}

// read returns how late the latest beat was since the last read.
func (p *pulse) read() time.Duration { return time.Duration(p.late.Swap(0)) }

func (p *pulse) stop() {
	p.cancel()
	p.joined.Wait()
}
