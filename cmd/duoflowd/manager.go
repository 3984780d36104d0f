package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/node/control"
)

// manager is who started this daemon and wants to know how it is, as systemd does with Type=notify: datagrams to a socket, see
// sd_notify(3). nil when nobody wants to know.
type manager struct {
	socket int
	to     string
	// every is how often it wants a sign of life; 0: never.
	every time.Duration
	// told is when it had the last one; the loop's.
	told control.Instant
	log  *slog.Logger
}

// tellWithin bounds what waits for a manager that does not read. The loop does not wait at all.
const tellWithin = 5 * time.Second

// managerVariables are ours alone: a job that found them could speak in our place, and gunicorn would.
const (
	notifyVariable  = "NOTIFY_SOCKET"
	everyVariable   = "WATCHDOG_USEC"
	watchedVariable = "WATCHDOG_PID"
)

// findManager takes what the environment says about a manager, so that no job inherits it.
func findManager(log *slog.Logger) (*manager, error) {
	socket, every, watched := os.Getenv(notifyVariable), os.Getenv(everyVariable), os.Getenv(watchedVariable)
	for _, name := range []string{notifyVariable, everyVariable, watchedVariable} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("forget %s: %w", name, err)
		}
	}
	if socket == "" {
		return nil, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("%s=%s: want the path of a socket, or @ and a name", notifyVariable, socket)
	}
	m := &manager{to: socket, log: log}
	if every != "" && (watched == "" || watched == strconv.Itoa(os.Getpid())) {
		micros, err := strconv.ParseInt(every, 10, 64)
		if err != nil || micros <= 0 {
			return nil, fmt.Errorf("%s=%s: want microseconds", everyVariable, every)
		}
		m.every = time.Duration(micros) * time.Microsecond / 2 // as sd_watchdog_enabled(3) recommends
	}
	return m, m.open()
}

func (m *manager) open() (err error) {
	if m.socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a socket for %s: %w", notifyVariable, err)
	}
	within := unix.NsecToTimeval(tellWithin.Nanoseconds())
	if err := unix.SetsockoptTimeval(m.socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &within); err != nil {
		return fmt.Errorf("limit the socket for %s: %w", notifyVariable, err)
	}
	return nil
}

// tell says a word to the manager. A lost one is no reason to end: it is the manager's to judge a daemon that it does not hear.
func (m *manager) tell(word string) {
	if m == nil {
		return
	}
	if err := m.send(word, 0); err != nil {
		m.log.Warn("the service manager was not told", "reason", word, "err", err)
	}
}

// send makes the address each time: package unix writes into it, and two goroutines speak here.
func (m *manager) send(word string, flags int) error {
	return unix.Sendto(m.socket, []byte(word), flags, &unix.SockaddrUnix{Name: m.to})
}

// alive is the loop's sign of life: it says that the goroutine which owns the core goes on, and nothing about disks or networks,
// which the core is there to cope with.
func (m *manager) alive(now control.Instant) {
	if m == nil || m.every == 0 || (m.told != 0 && now.Since(m.told) < m.every) {
		return
	}
	m.told = now
	err := m.send("WATCHDOG=1", unix.MSG_DONTWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		m.log.Warn("the service manager was not told", "reason", "WATCHDOG=1", "err", err)
	}
}

// serving counts what has to listen before the daemon is ready.
type serving struct {
	missing atomic.Int32
	all     chan struct{} // closed when nothing is missing
}

func newServing(parts int32) *serving {
	s := &serving{all: make(chan struct{})}
	s.missing.Store(parts)
	return s
}

// begun is called once by each part.
func (s *serving) begun() {
	if s.missing.Add(-1) == 0 {
		close(s.all)
	}
}

// report tells the manager that the daemon is ready, once it is, and when it is about to end. A node without quorum is ready: its
// peers may be waiting for it, and an operator can ask it and make it take the job.
func (m *manager) report(ctx context.Context, s *serving) {
	select {
	case <-s.all:
		m.tell("READY=1")
	case <-ctx.Done():
	}
	<-ctx.Done()
	m.tell("STOPPING=1")
}
