package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/node/control"
)

// Machine is what a node has below it: clocks, and somebody to do what takes its time. It is an interface so that a whole
// node can be run in one goroutine, in a time that somebody else makes (node/sim).
type Machine interface {
	// Boot is the time since this host booted, suspend included.
	Boot() control.Instant
	// Wall is the time of day: for people, and to be awake when the others are. Nothing may be decided by it.
	Wall() time.Time
	// Go has work done beside the loop.
	Go(work func())
	// Join waits until all such work has been done.
	Join()
	// Wait returns when done is closed.
	Wait(done <-chan struct{})
	// Pause returns after d, or when ctx ends.
	Pause(ctx context.Context, d time.Duration)
	// Within is ctx that ends after d.
	Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
}

// computer is the machine that this program runs on.
type computer struct{ work sync.WaitGroup }

// Boot reads CLOCK_BOOTTIME, which unlike Go's own monotonic clock goes on while the host is suspended.
func (*computer) Boot() control.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("node: read CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return control.Instant(ts.Nano())
}

func (*computer) Wall() time.Time           { return time.Now() }
func (c *computer) Go(work func())          { c.work.Go(work) }
func (c *computer) Join()                   { c.work.Wait() }
func (*computer) Wait(done <-chan struct{}) { <-done }

func (*computer) Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (*computer) Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}
