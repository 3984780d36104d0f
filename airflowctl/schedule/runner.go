package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// SlotVariable names the slot, in RFC 3339 and in the schedule's zone, in the environment of the command.
const SlotVariable = "DUOFLOW_SLOT"

// notStarted is the exit code that is noted for a command that could not be started, as a shell has it.
const notStarted = 127

const (
	// usualAsk bounds how long a step of the database's clock goes unnoticed.
	usualAsk = time.Minute
	// lookEvery is how often a waiting runner looks at its clocks: a timer sleeps on while its host is suspended.
	lookEvery = time.Second
	// retryAfter paces the questions to a database that does not answer.
	retryAfter = time.Second
	// ahead is by how much the newest slot may lie in the future before somebody should be told.
	ahead = time.Minute
)

// Life is the life of a job that a runner is the main process of.
type Life struct {
	Job, Node string
	Epoch     uint64
}

// ledger is Table, or a test's.
type ledger interface {
	Past(ctx context.Context) (Past, error)
	See(ctx context.Context, at time.Time) error
	Begin(ctx context.Context, slot time.Time) error
	End(ctx context.Context, slot time.Time, exit int) error
}

// Config says what a Runner runs.
type Config struct {
	Schedule Schedule
	// Command is the program and its arguments.
	Command []string
	// NoRetry are exit codes that another try would not change: a slot whose run ends so is over, and the next one comes as usual.
	NoRetry []int
	// Env is the command's environment, without the slot; nil: that of this process.
	Env    []string
	Ledger ledger
	// Tell is told, in one line for people, what came of the newest slot and what is next, whenever that changes; nil: nobody
	// wants to know.
	Tell func(line string)
	// Logger is nil to discard.
	Logger *slog.Logger
}

// Runner runs one command at the slots of a schedule, one run at a time. Use New, then Run once.
type Runner struct {
	cfg      Config
	logger   *slog.Logger
	askEvery time.Duration
	told     string
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Runner, error) {
	if len(cfg.Command) == 0 || cfg.Ledger == nil || cfg.Schedule.zone == nil {
		return nil, errors.New("make runner: schedule, command and ledger are needed")
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Tell == nil {
		cfg.Tell = func(string) {}
	}
	return &Runner{cfg: cfg, logger: cfg.Logger, askEvery: usualAsk}, nil
}

// ExitError is a run that ended with a code other than 0 and those of NoRetry. The life ends with it: the slot is tried again by the next one, after
// the pause that the daemon gives a job that fails.
type ExitError struct{ Code int }

// Error says the code.
func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with exit code %d", e.Code) }

// Run runs the command at its slots until a run fails (ExitError), this epoch is over (ErrFenced) or ctx ends: then a
// command that runs gets SIGTERM, and Run returns nil when it has ended. Such a run is not done, whatever its exit code.
func (r *Runner) Run(ctx context.Context) error {
	// The command dies with the thread that starts it (see start), so that thread must live as long as this.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for told := false; ctx.Err() == nil; {
		past, err := r.past(ctx)
		if err != nil {
			return r.ended(ctx, err)
		}
		if past.Failed && slices.Contains(r.cfg.NoRetry, past.Exit) {
			past.Settled = true
		}
		next := r.cfg.Schedule.Decide(past)
		r.tell(next.line(past))
		if !next.Run.IsZero() {
			if err := r.run(ctx, next.Run); err != nil {
				return r.ended(ctx, err)
			}
			continue
		}
		if past.Failed && !past.Settled && !told {
			told = true
			r.logger.Warn("slot has failed and is tried again later", "slot", past.Slot.Format(time.RFC3339), "failures", past.Failures, "exit", past.Exit, "next", next.Next)
		}
		wait := r.askEvery
		if !next.Next.IsZero() {
			wait = min(wait, next.Next.Sub(past.Now))
		}
		sleep(ctx, wait)
	}
	return nil
}

func (r *Runner) tell(line string) {
	if line != r.told {
		r.told = line
		r.cfg.Tell(line)
	}
}

// ended is nil for what came of being told to stop.
func (r *Runner) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

// past is what the database knows, also of a job that it has not seen before.
func (r *Runner) past(ctx context.Context) (Past, error) {
	var past Past
	err := r.insist(ctx, func() (err error) {
		past, err = r.cfg.Ledger.Past(ctx)
		return err
	})
	if err != nil {
		return Past{}, err
	}
	if past.Slot.IsZero() {
		past.Slot, past.Settled, past.Seen = past.Now.Truncate(time.Second), true, true
		r.logger.Info("job is seen for the first time", "next", r.cfg.Schedule.Next(past.Slot))
		return past, r.insist(ctx, func() error { return r.cfg.Ledger.See(ctx, past.Slot) })
	}
	if past.Slot.Sub(past.Now) > ahead {
		r.logger.Warn("newest slot lies ahead of the database's clock; nothing is run before it", "slot", past.Slot, "now", past.Now)
	}
	return past, nil
}

// run runs one slot to its end.
func (r *Runner) run(ctx context.Context, slot time.Time) error {
	if err := r.insist(ctx, func() error { return r.cfg.Ledger.Begin(ctx, slot) }); err != nil {
		return err
	}
	r.logger.Info("slot begins", "slot", slot.Format(time.RFC3339))
	began := time.Now()
	exit, interrupted := r.execute(ctx, slot)
	if interrupted {
		r.logger.Info("slot is interrupted, and will be run again", "slot", slot.Format(time.RFC3339))
		return nil
	}
	// Noted even when the stop comes now, if the database is quick: it need not be run again then.
	if err := r.insist(ctx, func() error { return r.cfg.Ledger.End(context.WithoutCancel(ctx), slot, exit) }); err != nil {
		return err
	}
	if slices.Contains(r.cfg.NoRetry, exit) {
		r.logger.Error("slot has failed and is not tried again: no_retry has its exit code", "slot", slot.Format(time.RFC3339), "exit", exit)
		return nil
	}
	if exit != 0 {
		return &ExitError{exit} // nothing is logged, so that the command's last line stays the last one
	}
	r.logger.Info("slot is done", "slot", slot.Format(time.RFC3339), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// execute runs the command. interrupted: it was told to stop before its end.
func (r *Runner) execute(ctx context.Context, slot time.Time) (exit int, interrupted bool) {
	cmd := exec.CommandContext(ctx, r.cfg.Command[0], r.cfg.Command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(without(r.cfg.Env, SlotVariable), SlotVariable+"="+slot.Format(time.RFC3339))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		err := cmd.Process.Signal(syscall.SIGTERM)
		interrupted = err == nil // else it has ended already; read after Wait, which waits for this
		return err
	}
	switch err := cmd.Start(); {
	case ctx.Err() != nil && err != nil:
		return notStarted, true
	case err != nil:
		r.logger.Error("start the command", "err", err)
		return notStarted, false
	}
	_ = cmd.Wait() // how it ended is in ProcessState
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), interrupted
	}
	return cmd.ProcessState.ExitCode(), interrupted
}

// insist asks until there is an answer, or none can be hoped for.
func (r *Runner) insist(ctx context.Context, ask func() error) error {
	for told := false; ; told = true {
		err := ask()
		if err == nil || errors.Is(err, ErrFenced) {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		if !told {
			r.logger.Warn("database does not answer; trying on", "err", err)
		}
		sleep(ctx, retryAfter)
	}
}

// sleep waits by the clock that goes by first: the monotonic one stands still while the host is suspended, the wall clock may
// be set back. It never returns before a hundredth of a second.
func sleep(ctx context.Context, d time.Duration) {
	began := time.Now()
	for d = max(d, 10*time.Millisecond); ; {
		now := time.Now()
		left := d - max(now.Sub(began), now.Round(0).Sub(began.Round(0)))
		if left <= 0 {
			return
		}
		timer := time.NewTimer(min(left, lookEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func without(env []string, name string) []string {
	var kept []string
	for _, entry := range env {
		if !strings.HasPrefix(entry, name+"=") {
			kept = append(kept, entry)
		}
	}
	return kept
}
