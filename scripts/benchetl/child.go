package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/figures"
)

// task is one process that is measured.
type task struct {
	run  Run // Part, Work, System, and what is known of Rows and Bytes
	env  []string
	args []string
	// whole: the process says nothing of itself, what counts is the time from its start to its end.
	whole bool
	// tree: memory counts of all processes that it starts.
	tree bool
}

// answer is the last line of a process that measures itself.
type answer struct {
	Seconds     float64
	Rows, Bytes int64
	Version     string
}

// measure runs a process and notes it; output is what it has printed.
func (s *stage) measure(ctx context.Context, t task) (output []byte, err error) {
	run := t.run
	if run.Load, err = figures.Load(); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, t.args[0], t.args[1:]...)
	c.Env = append(s.env(), t.env...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := forgetPeak(); err != nil {
		return nil, err
	}
	var out, log bytes.Buffer
	c.Stdout, c.Stderr = &out, &log
	run.At = time.Now().UTC()
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("run %s of part %s: %w", run.System, run.Part, err)
	}
	watched := &watch{pid: c.Process.Pid}
	if t.tree {
		watched.begin()
	}
	err = c.Wait()
	run.Tree = watched.end()
	if err != nil {
		return nil, fmt.Errorf("run %s of part %s: %w: %s", run.System, run.Part, err, tail(log.Bytes()))
	}
	run.Seconds = time.Since(run.At).Seconds()
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		run.Peak = usage.Maxrss << 10 // Linux counts in KiB
	}
	run.CPU = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	if !t.whole {
		if err := s.believe(&run, out.Bytes()); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), s.note(run)
}

// forgetPeak makes this process small and lets the kernel forget how large it was: the peak of a process begins with that of the
// one that has started it.
func forgetPeak() error {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("reset peak memory: %w", err)
	}
	return nil
}

// believe takes what a process says of itself.
func (s *stage) believe(run *Run, output []byte) error {
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	var a answer
	if err := json.Unmarshal(lines[len(lines)-1], &a); err != nil {
		return fmt.Errorf("read what %s of part %s says: %w", run.System, run.Part, err)
	}
	if a.Seconds <= 0 || a.Rows+a.Bytes == 0 {
		return fmt.Errorf("%s of part %s has done nothing", run.System, run.Part)
	}
	if run.Rows > 0 && a.Rows != run.Rows || run.Bytes > 0 && a.Bytes != run.Bytes {
		s.report.Broken = append(s.report.Broken, fmt.Sprintf("%s of part %s: %d rows, %d bytes, want %d and %d", run.System, run.Part, a.Rows, a.Bytes, run.Rows, run.Bytes))
	}
	run.Seconds, run.Rows, run.Bytes = a.Seconds, a.Rows, a.Bytes
	if a.Version != "" {
		s.report.Versions[run.System] = a.Version
	}
	return nil
}

// note keeps a run, in the file too.
func (s *stage) note(run Run) error {
	s.report.Runs = append(s.report.Runs, run)
	c := Cell{Part: run.Part}
	s.say("%-8s %-48s %-8s %7.2f s  %s  %s  load %.1f", run.Part, run.Work, run.System, run.Seconds, c.rate(float64(max(run.Rows, run.Bytes))/run.Seconds), mebibytes(run.Peak), run.Load)
	if s.options.out == "" {
		return nil
	}
	return s.report.write(s.options.out)
}

func tail(log []byte) string {
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
