package proc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// sendTimeout bounds a Send to a child that does not read.
	sendTimeout = time.Second
	// drainTimeout is how long the pipes of an empty tree are still read. They are at their end
	// by then, unless a foreign process was handed one of them.
	drainTimeout = time.Second
	// drainGrace is how long Kill and Stop wait for the last lines to reach Output.
	drainGrace = 100 * time.Millisecond
	// linesAhead is how many lines of fd 4 are kept for a reader of Lines that is behind.
	linesAhead = 64
	// killEvery and watchEvery cap the pause between two looks at a tree.
	killEvery  = 5 * time.Millisecond
	watchEvery = 20 * time.Millisecond
)

// tree is what differs between the modes. Life calls it under its own lock.
type tree interface {
	// signal sends to the main process only.
	signal(syscall.Signal) error
	// kill asks for the end of every process. It does not wait, and is repeated until reclaim.
	kill() error
	// reclaim is true when no process is left; it then has given back what the tree held.
	reclaim() (bool, error)
}

// Life is one process tree: a main process and all its descendants. Start makes it.
type Life struct {
	label string
	log   *slog.Logger
	pid   int
	wires *wiring
	lines chan string
	exit  ExitStatus // valid when done is closed

	finish  sync.Once
	done    chan struct{} // main process ended
	gone    chan struct{} // tree empty
	drained chan struct{} // output and lines read to their end
	pumps   sync.WaitGroup

	mu     sync.Mutex
	tree   tree
	forget func() // takes the life out of its Forest

	sendMu sync.Mutex
	shut   bool
}

func newLife(spec Spec, log *slog.Logger, wires *wiring) *Life {
	return &Life{
		label: spec.Label, log: log, wires: wires, lines: make(chan string, linesAhead),
		done: make(chan struct{}), gone: make(chan struct{}), drained: make(chan struct{}),
		shut: !spec.Control, forget: func() {},
	}
}

// Label is the life's id, from Spec.
func (l *Life) Label() string { return l.label }

// PID is the main process as seen from the daemon's PID namespace. It may be reused by the system
// once Done is closed; use Signal to send signals.
func (l *Life) PID() int { return l.pid }

// Lines gives what the child writes on fd 4, line by line; it is closed when no process has that
// pipe any more. 64 lines wait for a slow reader, then the child blocks; when the tree is empty
// those that do not fit are dropped. Without Spec.Control it is closed from the beginning.
func (l *Life) Lines() <-chan string { return l.lines }

// Done is closed when the main process has ended. Others of the tree may still run, until Kill or
// Stop. The last lines of output are certain to be out only after one of these.
func (l *Life) Done() <-chan struct{} { return l.done }

// Exit is how the main process ended. Valid once Done is closed, the zero value before.
func (l *Life) Exit() ExitStatus {
	if !closed(l.done) {
		return ExitStatus{}
	}
	return l.exit
}

// Send writes one line to the child's fd 3. It fails after 1 s if the child does not read, with
// EPIPE if the child closed it, with ErrNoControl if there is no such pipe (any more).
func (l *Life) Send(line string) error {
	if strings.Contains(line, "\n") || len(line) >= maxLine {
		return fmt.Errorf("send to life %s: not a line: %d bytes", l.label, len(line))
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	if l.shut {
		return fmt.Errorf("send to life %s: %w", l.label, ErrNoControl)
	}
	err := l.wires.commands.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		_, err = l.wires.commands.WriteString(line + "\n")
	}
	if err != nil {
		return fmt.Errorf("send to life %s: %w", l.label, err)
	}
	return nil
}

// closeCommands gives the child the end of its fd 3.
func (l *Life) closeCommands() {
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	if !l.shut {
		l.shut = true
		closeAll(l.wires.commands)
	}
}

// Signal sends sig to the main process; os.ErrProcessDone when it has ended.
func (l *Life) Signal(sig syscall.Signal) error {
	if closed(l.done) {
		return fmt.Errorf("signal life %s: %w", l.label, os.ErrProcessDone)
	}
	if err := l.tree.signal(sig); err != nil {
		return fmt.Errorf("signal life %s: %w", l.label, err)
	}
	return nil
}

// Stop is the stop ladder: SIGTERM to the main process and the end of its fd 3, up to grace for it
// to end by itself, then Kill. nil only when the tree is empty. When ctx ends early the kill is
// still sent.
func (l *Life) Stop(ctx context.Context, grace time.Duration) error {
	err := l.Signal(syscall.SIGTERM)
	l.closeCommands()
	if err == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-l.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	// gofail: var procBeforeKill struct{}
	return l.Kill(ctx)
}

// Kill ends every process of the tree and waits until they are gone; nil only when the tree is
// empty, at once if it already is. The kill is sent even when ctx has ended. After nil, Output has
// got every line, unless it was slower than 100 ms.
func (l *Life) Kill(ctx context.Context) error {
	err := await(ctx, killEvery, func() (bool, error) { return l.step(true) })
	if err != nil {
		return fmt.Errorf("kill life %s: %w", l.label, err)
	}
	l.waitDrained()
	return nil
}

// Empty waits until the tree has become empty by itself; nil only then.
func (l *Life) Empty(ctx context.Context) error {
	err := await(ctx, watchEvery, func() (bool, error) { return l.step(false) })
	if err != nil {
		return fmt.Errorf("wait for life %s: %w", l.label, err)
	}
	l.waitDrained()
	return nil
}

func (l *Life) waitDrained() {
	timer := time.NewTimer(drainGrace)
	defer timer.Stop()
	select {
	case <-l.drained:
	case <-timer.C:
	}
}

// step is one look at the tree. The lock makes sure that a life which is gone never touches a
// later one of the same label.
func (l *Life) step(kill bool) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if closed(l.gone) {
		return true, nil
	}
	if kill {
		if err := l.tree.kill(); err != nil {
			return false, err
		}
	}
	if !closed(l.done) {
		return false, nil // so that Exit is valid once the tree is empty
	}
	empty, err := l.tree.reclaim()
	if err != nil || !empty {
		return false, err
	}
	l.closeCommands()
	for _, pipe := range []*os.File{l.wires.output, l.wires.lines} {
		if pipe != nil {
			// An already closed pipe is fine: its pump has seen the end.
			_ = pipe.SetReadDeadline(time.Now().Add(drainTimeout))
		}
	}
	l.forget()
	close(l.gone)
	return true, nil
}

// ended notes how the main process ended; only the first call counts.
func (l *Life) ended(status ExitStatus) {
	l.finish.Do(func() {
		l.exit = status
		close(l.done)
	})
}

// pump starts the readers of the child's pipes.
func (l *Life) pump(spec Spec) {
	if l.wires.output != nil {
		l.pumps.Go(func() { l.pumpOutput(spec) })
	}
	if l.wires.lines != nil {
		l.pumps.Go(l.pumpLines)
	} else {
		close(l.lines)
	}
	go func() {
		l.pumps.Wait()
		close(l.drained)
	}()
}

func (l *Life) pumpOutput(spec Spec) {
	defer closeAll(l.wires.output)
	var lost error
	eachLine(l.wires.output, func(line []byte) {
		_, err := spec.Output.Write(append(line[:len(line):len(line)], '\n'))
		if err != nil && lost == nil {
			l.log.Warn("output of "+l.label+" is being lost", "err", err)
		}
		lost = err
	})
}

func (l *Life) pumpLines() {
	defer closeAll(l.wires.lines)
	defer close(l.lines)
	eachLine(l.wires.lines, func(line []byte) {
		select {
		case l.lines <- string(line):
			return
		default:
		}
		select {
		case l.lines <- string(line):
		case <-l.gone:
		}
	})
}

// await calls look at least once, and again after growing pauses up to most, until it is true.
func await(ctx context.Context, most time.Duration, look func() (bool, error)) error {
	pause := 250 * time.Microsecond
	for {
		if ok, err := look(); ok || err != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", ErrNotEmpty, context.Cause(ctx))
		}
		pause = min(2*pause, most)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
