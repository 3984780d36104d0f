package spark

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is spark-submit with all that it starts: one process group.
type process struct {
	cmd   *exec.Cmd
	said  *tail
	ended chan struct{} // closed when the leader has ended and its group is killed
	err   error         // how; valid after ended

	mu     sync.Mutex
	reaped bool // with it false the group's number is nobody else's
	group  sync.WaitGroup
}

// launch starts spark-submit. The death signal is tied to the thread that forks, so that thread lives as long as the process:
// when this program is killed, Spark is too. job.py, which Spark starts, sees its socket close.
func launch(c Config, dir string, i install) (*process, error) {
	p := &process{said: &tail{secrets: c.secrets()}, ended: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(i.home, "bin", "spark-submit"),
		"--properties-file", filepath.Join(dir, nameConf), filepath.Join(dir, nameJob), filepath.Join(dir, nameSocket))
	p.cmd.Dir, p.cmd.Env = dir, c.environment(dir, i)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 5 * time.Second
	started := make(chan error, 1)
	p.group.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.reap()
		}
	})
	if err := <-started; err != nil {
		p.group.Wait()
		return nil, fmt.Errorf("start spark-submit: %w", err)
	}
	return p, nil
}

// reap waits for the leader, ends what it leaves behind while its number is still its own, and takes its exit.
func (p *process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // nobody is left, or somebody who has to go
	p.err = p.cmd.Wait()
	p.reaped = true
	p.mu.Unlock()
	close(p.ended)
}

// kill ends the whole group and waits until it is gone.
func (p *process) kill() {
	p.mu.Lock()
	if !p.reaped {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	p.mu.Unlock()
	p.group.Wait()
}

// wait gives the process a time to end by itself, and kills what is left.
func (p *process) wait(patience time.Duration) {
	select {
	case <-p.ended:
	case <-time.After(patience):
	}
	p.kill()
}

// why is how the process ended, in words, with the last that it said.
func (p *process) why() string {
	how := "it ended by itself"
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		how = exit.String()
	}
	if last := p.said.last(); last != "" {
		how += "; it said: " + last
	}
	return how
}

// tail keeps the end of what a program says.
type tail struct {
	secrets []string

	mu   sync.Mutex
	text []byte
}

const keepSaid = 32 << 10

// Write keeps the end; it never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - keepSaid; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// all is what was kept, without secrets.
func (t *tail) all() string {
	t.mu.Lock()
	text := string(t.text)
	t.mu.Unlock()
	return hide(text, t.secrets)
}

func hide(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// telling are the lines of a log in which Java says what went wrong.
var telling = [...]string{"Exception", "Error", "ERROR", "FATAL", "rror:", "giving up", "Giving up"}

// last is the last line that says what went wrong, else the last line.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(t.all()), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		if strings.HasPrefix(line, "at ") || strings.HasPrefix(line, "WARN") {
			continue
		}
		for _, word := range telling {
			if strings.Contains(line, word) {
				return clip(line)
			}
		}
	}
	return clip(strings.TrimSpace(lines[len(lines)-1]))
}

func clip(text string) string {
	const most = 500
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
