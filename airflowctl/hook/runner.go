package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// tries is how often a command that is told is run before its event is given up; tryAgain is the wait after the first, which doubles.
const (
	tries    = 5
	tryAgain = time.Second
)

// Runner runs a job's hooks. The zero value is not valid; use New.
type Runner struct {
	cfg    Config
	logger *slog.Logger
	shelf  *shelf

	mu sync.Mutex
	// queue is what is to be told, the oldest first. It is put on the shelf by who tells, never by who says so.
	queue []event
	// expected are events that may come about: an action that leads to them is under way.
	expected map[string]event
	// forgotten is what will not come about and may still be on the shelf.
	forgotten []event
	// said rings for who writes, due for who tells.
	said, due chan struct{}
}

// event is one thing that happened, or may have.
type event struct {
	Hook  Name   `json:"hook"`
	Epoch uint64 `json:"epoch"`
	// Certain: it did happen.
	Certain bool `json:"certain"`
	// Seq is its place on the shelf; 0: it is not there.
	Seq uint64 `json:"seq"`
}

// New checks the configuration, reads what an earlier daemon has left to be told, and starts nothing.
func New(cfg Config) (*Runner, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{
		cfg: cfg, logger: cfg.Logger.With("job", cfg.Job), expected: map[string]event{},
		said: make(chan struct{}, 1), due: make(chan struct{}, 1),
	}
	if len(cfg.Commands) == 0 {
		return r, nil
	}
	s, left, err := openShelf(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("read hooks still to be run: %w", err)
	}
	r.shelf, r.queue = s, left
	r.ring()
	return r, nil
}

// Run tells what happens until ctx ends. A command that runs then is killed, and its event is told again by the next daemon.
func (r *Runner) Run(ctx context.Context) error {
	var writer sync.WaitGroup
	writer.Go(func() { // beside: a command that takes its time must not keep later events off the disk
		for await(ctx, r.said) {
			r.shelve()
		}
	})
	defer writer.Wait()
	for await(ctx, r.due) {
		for e, ok := r.oldest(); ok; e, ok = r.oldest() {
			if r.tell(ctx, e); ctx.Err() != nil {
				return nil
			}
			r.drop(e)
		}
	}
	return nil
}

// await returns whether it rings before ctx ends.
func await(ctx context.Context, rings <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-rings:
		return true
	}
}

// Ask runs a command and waits for it, at most as long as the configuration and ctx say.
func (r *Runner) Ask(ctx context.Context, name Name, epoch uint64) error {
	if r.cfg.Commands[name] == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.execute(ctx, event{Hook: name, Epoch: epoch, Certain: true})
}

// Expect says that something may come about. When the daemon ends before Tell, the next one tells it as uncertain. It never blocks.
func (r *Runner) Expect(name Name, epoch uint64) {
	if r.cfg.Commands[name] == nil {
		return
	}
	e := event{Hook: name, Epoch: epoch}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.expected[r.id(e)]; !known {
		r.expected[r.id(e)] = e
		r.ring()
	}
}

// Tell says that something has happened. It never blocks, and to say it again does nothing while it is still to be told.
func (r *Runner) Tell(name Name, epoch uint64) {
	if r.cfg.Commands[name] == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := event{Hook: name, Epoch: epoch}
	if before, known := r.expected[r.id(e)]; known {
		e = before
		delete(r.expected, r.id(e))
	}
	if slices.ContainsFunc(r.queue, e.is) {
		return
	}
	e.Certain = true
	r.queue = append(r.queue, e)
	r.ring()
}

// Forget says that something which was expected will not come about.
func (r *Runner) Forget(name Name, epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.id(event{Hook: name, Epoch: epoch})
	if e, known := r.expected[id]; known {
		delete(r.expected, id)
		r.forgotten = append(r.forgotten, e)
		r.ring()
	}
}

// Waiting is how many events are still to be told.
func (r *Runner) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// ring wakes who writes and who tells.
func (r *Runner) ring() {
	for _, rings := range []chan struct{}{r.said, r.due} {
		select {
		case rings <- struct{}{}:
		default:
		}
	}
}

// id is the same for every try of an event.
func (r *Runner) id(e event) string { return fmt.Sprintf("%s/%d/%s", r.cfg.Job, e.Epoch, e.Hook) }

// shelve writes down what was said since the last time. Whoever says something meanwhile does not wait for the disk.
func (r *Runner) shelve() {
	r.mu.Lock()
	forgotten := r.forgotten
	r.forgotten = nil
	r.mu.Unlock()
	for _, e := range forgotten {
		r.unshelve(e, e.Seq)
	}
	for _, e := range r.unwritten() {
		seq, err := r.shelf.put(e)
		if err != nil { // it is told all the same, as long as this daemon lives
			r.logger.Warn("hook is not written down", "hook", e.Hook, "epoch", e.Epoch, "err", err)
			continue
		}
		if !r.placed(e, seq) {
			r.unshelve(e, seq)
		}
	}
}

func (r *Runner) unwritten() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.queue) // what has happened comes before what may
	for _, id := range slices.Sorted(maps.Keys(r.expected)) {
		all = append(all, r.expected[id])
	}
	return slices.DeleteFunc(all, func(e event) bool { return e.Seq != 0 })
}

// placed notes where an event was written; false when nobody wants it any more.
func (r *Runner) placed(e event, seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now, ok := r.expected[r.id(e)]; ok {
		now.Seq = seq
		r.expected[r.id(e)] = now
		return true
	}
	for i := range r.queue {
		if r.queue[i].is(e) {
			r.queue[i].Seq = seq
			return true
		}
	}
	return false
}

func (e event) is(other event) bool { return e.Hook == other.Hook && e.Epoch == other.Epoch }

func (r *Runner) unshelve(e event, seq uint64) {
	if err := r.shelf.remove(seq); err != nil {
		r.logger.Warn("hook that is over may be run again", "hook", e.Hook, "epoch", e.Epoch, "err", err)
	}
}

func (r *Runner) oldest() (event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return event{}, false
	}
	return r.queue[0], true
}

// drop forgets an event that was told.
func (r *Runner) drop(e event) {
	r.mu.Lock()
	seq := e.Seq
	if i := slices.IndexFunc(r.queue, e.is); i >= 0 {
		seq = r.queue[i].Seq
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	r.mu.Unlock()
	r.unshelve(e, seq)
}

// tell runs the command of an event until it ends well, or was tried often enough.
func (r *Runner) tell(ctx context.Context, e event) {
	if r.cfg.Commands[e.Hook] == nil {
		return // it was taken out of the configuration
	}
	wait := tryAgain
	for try := 1; ; try++ {
		within, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		err := r.execute(within, e)
		cancel()
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case try == tries:
			r.logger.Error("hook given up", "hook", e.Hook, "epoch", e.Epoch, "tries", try, "err", err)
			return
		}
		r.logger.Warn("hook failed and is run again", "hook", e.Hook, "epoch", e.Epoch, "try", try, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			wait *= 2
		}
	}
}

// ErrVeto is wrapped by what Ask returns when a command did not end well.
var ErrVeto = errors.New("hook says no")
