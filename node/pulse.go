package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/node/control"
)

// pulse wakes the loop. It is a timer of the kernel's behind a file instead of one of Go's: a wake-up by one of Go's
// costs the process five turns on a processor, because epoll waits in whole milliseconds and so wakes too early first, and this
// one three. There are twenty a second for ever.
type pulse struct {
	timer *os.File
	// rings holds at most one: what a stalled loop has missed is not made up for.
	rings chan struct{}
}

func newPulse() (*pulse, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	return &pulse{timer: os.NewFile(uintptr(fd), "timerfd"), rings: make(chan struct{}, 1)}, nil
}

// run passes on what the kernel says, until ctx ends.
func (p *pulse) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.timer.Close() })()
	var expirations [8]byte
	for {
		if _, err := p.timer.Read(expirations[:]); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read timer: %w", err)
		}
		select {
		case p.rings <- struct{}{}:
		default:
		}
	}
}

// after sets the one ring that is to come.
func (p *pulse) after(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))} // zero would stop it
	raw, err := p.timer.SyscallConn()
	if err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.TimerfdSettime(int(fd), 0, &spec, nil) }); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("set timer: %w", failed)
	}
	return nil
}

// nextBeat returns how long from now the beat after this one is due: at the multiple of the period on the wall clock
// that is nearest to a period from now. So the nodes of a cluster with synchronised clocks beat at the same instants,
// and each is woken once for its own beat and those of the others. Where the clocks are not synchronised, or step, that
// is lost and nothing else: beats are never less than half a period apart nor more than one and a half.
func nextBeat(wall time.Time, period time.Duration) time.Duration {
	d := period - time.Duration(wall.UnixNano()%int64(period))
	if d < period/2 {
		d += period
	}
	return d
}

// tickQuick is the pace of time while something is under way or overdue; otherwise time passes with the beats.
const tickQuick = 10 * time.Millisecond

// untilTick returns how long the loop may sleep.
func (n *Node) untilTick(now control.Instant) time.Duration {
	left := n.beatAt.Since(now)
	if left <= tickQuick*3/2 {
		return left
	}
	if n.inHurry {
		return tickQuick
	}
	return min(left, detections[n.cfg.Detection].pulse)
}

// setHurry looks whether there is a hurry, and says so when that is new.
func (n *Node) setHurry(now control.Instant) {
	if on := n.hurried(now); on != n.inHurry {
		n.inHurry = on
		n.hurry(on)
	}
}

// hurried reports whether time should be looked at more closely than once a beat: a takeover or its undoing is under
// way here, whose retries are short; nobody leads the log; or a node is late, so that its silence may have to be acted upon.
func (n *Node) hurried(now control.Instant) bool {
	for _, s := range n.seats {
		switch s.machine.State() {
		case control.Standby, control.Active, control.Witness, control.Left:
		default:
			return true
		}
	}
	return !n.wire.led.Load() || n.heard.late(now, beatEvery*3/2, 2*detections[n.cfg.Detection].silence)
}

// ticksDue returns how many ticks of the log's time have passed, at most a beat's worth: what was missed in a stall is not made up for.
func (n *Node) ticksDue(now control.Instant) int {
	tick := detections[n.cfg.Detection].tick
	due := now.Since(n.tickedAt) + tick/2
	if due > beatEvery*3/2 {
		n.tickedAt = now
		return int(max(beatEvery/tick, 1))
	}
	n.tickedAt = n.tickedAt.Add(due / tick * tick)
	return int(due / tick)
}
