package proc

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process we started ourselves.
type child struct {
	process *os.Process
	status  syscall.WaitStatus // valid when reaped is closed
	reaped  chan struct{}

	// mu is held while the child is reaped, so that with it held and reaped open the child's pid
	// cannot belong to anyone else.
	mu sync.Mutex
}

// startChild starts a process from a goroutine locked to an OS thread, which then waits for it:
// Pdeathsig means the death of the thread that started the child, not of the daemon, and this
// thread lives exactly as long as the child. after is called on it when the child is reaped.
func startChild(path string, args []string, attr *os.ProcAttr, after func()) (*child, error) {
	c := &child{reaped: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		process, err := os.StartProcess(path, args, attr)
		c.process = process
		started <- err
		if err != nil {
			return
		}
		c.reap()
		after()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

func (c *child) reap() {
	for {
		// WNOWAIT leaves the zombie, and with it the pid, in place until we hold the lock.
		err := unix.Waitid(unix.P_PID, c.process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state, err := c.process.Wait()
	if err == nil {
		c.status = state.Sys().(syscall.WaitStatus)
	} else {
		// Somebody else waited for it: gone all the same, but how is unknown.
		c.status = syscall.WaitStatus(255 << 8)
	}
	close(c.reaped)
}
