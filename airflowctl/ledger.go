package airflowctl

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

const (
	// ledgerAfter lies between what happened and the note of it: a takeover, here or elsewhere, is over by then.
	ledgerAfter = time.Second
	// ledgerWithin bounds one try to write. One that failed is tried again after ledgerAfter, doubled up to ledgerPause.
	ledgerWithin = 5 * time.Second
	ledgerPause  = time.Minute
	// ledgerKept is how many notes wait while the database is away; the oldest is lost first.
	ledgerKept = 64
)

// happened is a note with the time it is about, since the boot of this host.
type happened struct {
	number uint64
	note   fence.Note
	at     time.Duration
}

// ledger notes in the job's database when the process tree of an epoch began and when it was empty. It is for people and for
// an audit. Whoever tells it something never waits, and it writes when no takeover is under way.
type ledger struct {
	write  func(context.Context, fence.Note) error
	busy   func() bool // a takeover is under way here
	logger *slog.Logger
	after  time.Duration // ledgerAfter

	mu      sync.Mutex
	told    uint64 // since the daemon started
	waiting []happened
	wake    chan struct{} // capacity 1
}

func newLedger(write func(context.Context, fence.Note) error, busy func() bool, logger *slog.Logger) *ledger {
	return &ledger{write: write, busy: busy, logger: logger, after: ledgerAfter, wake: make(chan struct{}, 1)}
}

// tell takes a note, whose Ago it fills in, and returns at once.
func (l *ledger) tell(note fence.Note, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == ledgerKept {
		l.logger.Warn("the ledger lacks a line", "epoch", l.waiting[0].note.Epoch, "reason", string(l.waiting[0].note.Moment))
		l.waiting = l.waiting[1:]
	}
	note.Ago = func() time.Duration { return sinceBoot() - at }
	l.told++
	l.waiting = append(l.waiting, happened{l.told, note, at})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run writes notes in the order they were told until ctx ends. What waits then is lost: the daemon's release, or its silence,
// says the same.
func (l *ledger) Run(ctx context.Context) error {
	for {
		first, ok := l.first()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !l.insist(ctx, first) {
			return nil
		}
		l.drop(first)
	}
}

// insist returns false when ctx has ended.
func (l *ledger) insist(ctx context.Context, h happened) bool {
	for pause := l.after - (sinceBoot() - h.at); sleep(ctx, pause); pause = min(max(2*pause, l.after), ledgerPause) {
		if l.busy() {
			pause = 0
			continue
		}
		err := l.try(ctx, h)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			l.logger.Debug("the ledger is written later", "epoch", h.note.Epoch, "err", err)
		}
	}
	return false
}

func (l *ledger) try(ctx context.Context, h happened) error {
	ctx, cancel := context.WithTimeout(ctx, ledgerWithin)
	defer cancel()
	return l.write(ctx, h.note)
}

// sinceBoot counts the time in which the host was suspended too.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("no clock: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(now.Nano())
}

func (l *ledger) first() (happened, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return happened{}, false
	}
	return l.waiting[0], true
}

// drop forgets what was written, unless it was crowded out meanwhile.
func (l *ledger) drop(written happened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 && l.waiting[0].number == written.number {
		l.waiting = l.waiting[1:]
	}
}
