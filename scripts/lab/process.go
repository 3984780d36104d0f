package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Spec says what to start on a host.
type Spec struct {
	Name string   // of the log file; the log is appended to
	Args []string // program and arguments
	Env  []string // nil = our own, without proxies and the like
	Dir  string   // "" = our own
	User string   // "" = our own
}

// Process is one started program. It gets SIGKILL when this process ends.
type Process struct {
	cmd     *exec.Cmd
	logPath string
	done    chan struct{}
	err     error
}

// Start starts a program on the host and returns without waiting for it.
func (h *Host) Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(h.logPath(spec.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", spec.Name, err)
	}
	p := &Process{logPath: log.Name(), done: make(chan struct{}), cmd: exec.Command(spec.Args[0], spec.Args[1:]...)}
	if spec.Env == nil {
		spec.Env = cleanEnv()
	}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = spec.Env, spec.Dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, UseCgroupFD: true}
	if p.cmd.SysProcAttr.Credential, err = credential(spec.User); err != nil {
		log.Close()
		return nil, err
	}
	started := make(chan error, 1)
	go p.live(h, log, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", spec.Name, h.Name, err)
	}
	return p, nil
}

// live owns the thread that forks: the death signal is tied to it, and it has moved into the host's
// network for good, so it is never unlocked and ends with this goroutine.
func (p *Process) live(h *Host, log *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer log.Close()
	if err := h.net.enter(h.Name); err != nil {
		started <- err
		return
	}
	err := h.node.birth(func(fd int) error {
		p.cmd.SysProcAttr.CgroupFD = fd
		return p.cmd.Start()
	})
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func credential(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("find user: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read uid of %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read gid of %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how it ended, nil for exit code 0; valid after Done.
func (p *Process) Err() error { return p.err }

// Ended tells whether Done is closed.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the program alone, not to its children.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !p.Ended() {
		return fmt.Errorf("signal process %d: %w", p.PID(), err)
	}
	return nil
}

// Stop sends SIGTERM and waits for the end; when ctx ends first it sends SIGKILL and says so.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("stop process %d: %w; killed", p.PID(), ctx.Err())
}

// Kill sends SIGKILL to the program alone and waits for its end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// LogPath is the file with the program's output.
func (p *Process) LogPath() string { return p.logPath }

// LogTail is the last n lines of the output, for error texts.
func (p *Process) LogTail(n int) string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// await calls ready until it returns nil, and fails when the program or ctx ends first.
func (p *Process) await(ctx context.Context, what string, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("wait for %s: it ended (%w): %s", what, p.err, p.LogTail(8))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w, last %w: %s", what, ctx.Err(), err, p.LogTail(8))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
