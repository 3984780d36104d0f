package pg

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postmaster is one run of the server process.
type postmaster struct {
	pid  int
	done chan struct{} // closed when it is reaped
	err  error         // its exit, valid after done
}

// spawn starts the server. SIGQUIT on our death makes the postmaster end its children too.
func (s *Server) spawn(port int) (*postmaster, error) {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data, "-p", strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.data
	cmd.SysProcAttr = s.account.attributes(syscall.SIGQUIT)
	run := &postmaster{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The death signal is tied to the thread that forks: it must live as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		run.pid = cmd.Process.Pid
		started <- nil
		run.err = cmd.Wait()
		close(run.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return run, nil
}

func (p *postmaster) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopLimit is how long a stopped postmaster may take to stop; it is killed all the same.
const stopLimit = 5 * time.Second

// killAll ends the postmaster and its children with SIGKILL. The postmaster is frozen first so that
// it cannot fork between the listing and the kill. Every backend has a session of its own, so no
// process group would reach them.
func (p *postmaster) killAll() error {
	if p.ended() {
		return nil
	}
	_ = syscall.Kill(p.pid, syscall.SIGSTOP)
	for end := time.Now().Add(stopLimit); state(p.pid) != 'T' && alive(p.pid) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // it goes on for a moment on the other processor, and may fork
	}
	children, err := childrenOf(p.pid)
	for _, pid := range append(children, p.pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	if err != nil {
		return err
	}
	return waitGone(children, 5*time.Second)
}

func childrenOf(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, fmt.Errorf("list processes of the server: %w", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list processes of the server: %w", err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// waitGone waits until the processes hold no memory any more; a zombie counts as gone.
func waitGone(pids []int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, pid := range pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("kill process %d of the server: still there after %s", pid, limit)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

func alive(pid int) bool {
	now := state(pid)
	return now != 0 && now != 'Z'
}

// state is the letter that proc(5) has for what a process does; 0 when it is gone.
func state(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	end := bytes.LastIndexByte(text, ')')
	if end < 0 || len(text) < end+3 {
		return 0
	}
	return text[end+2]
}
