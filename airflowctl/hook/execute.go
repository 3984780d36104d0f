package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// keptOutput is how much of a command's output is told, in bytes; pipesWithin is how long what it has left behind may hold
// its output open after its end.
const (
	keptOutput  = 4 << 10
	pipesWithin = time.Second
)

// execute runs the command of an event once, and kills it with all its group when ctx ends.
func (r *Runner) execute(ctx context.Context, e event) error {
	command := r.cfg.Commands[e.Hook]
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(r.cfg.Env[:len(r.cfg.Env):len(r.cfg.Env)], r.variables(e)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.cfg.UID >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.cfg.UID), Gid: uint32(r.cfg.GID)}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipesWithin
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output
	began := time.Now()
	err := cmd.Start()
	if r.cfg.Started != nil {
		r.cfg.Started()
	}
	if err == nil {
		err = cmd.Wait()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; what it has left behind is not waited for
	}
	r.logger.Info("hook", "hook", e.Hook, "event", r.id(e), "took", time.Since(began), "output", output.String(), "err", err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s is not done after %s", ErrVeto, e.Hook, time.Since(began).Round(time.Millisecond))
	case err != nil:
		return fmt.Errorf("%w: %s: %w: %s", ErrVeto, e.Hook, err, output.lastLine())
	}
	return nil
}

func (r *Runner) variables(e event) []string {
	certain := "no"
	if e.Certain {
		certain = "yes"
	}
	return []string{
		"DUOFLOW_HOOK=" + string(e.Hook), "DUOFLOW_EVENT=" + r.id(e), "DUOFLOW_JOB=" + r.cfg.Job, "DUOFLOW_NODE=" + r.cfg.Node,
		"DUOFLOW_EPOCH=" + strconv.FormatUint(e.Epoch, 10), "DUOFLOW_CERTAIN=" + certain,
	}
}

// tail keeps the end of what is written to it. One goroutine of os/exec writes.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - keptOutput; over > 0 {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(bytes.TrimSpace(t.kept)), "?") }

func (t *tail) lastLine() string {
	text := t.String()
	return text[strings.LastIndexByte(text, '\n')+1:]
}
