package objects

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// patience is how often and how long a transient fault is waited out.
type patience struct {
	tries int           // including the first
	first time.Duration // before the second try, then twice as long each time, at random between half and all of it
	most  time.Duration // of one wait, unless the server asks for more
	log   *slog.Logger  // of what is tried again; nil = nothing
}

// longest is the most that a server may ask for; more is as good as a refusal.
const longest = 5 * time.Minute

// again does a call until it succeeds, fails for good, or has failed often enough.
func (p patience) again(ctx context.Context, op string, call func(context.Context) error) error {
	for try := 1; ; try++ {
		err := Judge(ctx, op, call(ctx))
		if err == nil {
			return nil
		}
		if try >= p.tries || Permanent(err) {
			return err
		}
		if paused := p.pause(ctx, try, err); paused != nil {
			return paused
		}
	}
}

// pause waits after the given failed try. It returns the fault itself if the server asks for too much, and why the context
// ended if it did.
func (p patience) pause(ctx context.Context, try int, err error) error {
	wait := min(p.most, p.first<<min(try-1, 20))
	wait = wait/2 + rand.N(wait/2+1)
	var f *Fault
	if errors.As(err, &f) && f.Wait > 0 {
		if f.Wait > longest {
			return err
		}
		wait = f.Wait + rand.N(wait/4+1) // all who were told the same do not come back at once
	}
	if p.log != nil {
		p.log.Debug("tries again", "err", err, "try", try, "wait", wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return Judge(ctx, "wait to try again", ctx.Err())
	}
}

// Again does a call of a Google API up to so many times, for as long as it fails in passing, and judges its error.
func Again(ctx context.Context, tries int, op string, call func(context.Context) error) error {
	p := quickly
	p.tries = tries
	return p.again(ctx, op, call)
}
