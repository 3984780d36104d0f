package airflowctl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/airflowctl/shim"
)

const (
	// dumpWithin bounds how much later a hung life is killed because it is asked where it hangs.
	dumpWithin = 500 * time.Millisecond
	// dumpQuiet without a new line means that all stacks are printed: the handler prints without a pause.
	dumpQuiet = 60 * time.Millisecond
	// dumpThreads bounds how many threads are described.
	dumpThreads = 32
	// dumpSign is in the first line of each stack that Python's faulthandler prints.
	dumpSign = "(most recent call first)"
)

// dump writes into the job's output what can be seen of a life that is about to be killed without having been asked
// to end: what the kernel knows of each thread, then, of a scheduler that can still answer, its Python stacks.
func (l *life) dump(ctx context.Context) {
	main, err := lookAt(l.PID())
	select {
	case <-l.Done():
		return // nothing left to look at; the process id may be another's by now
	default:
	}
	if err != nil {
		l.tell("cannot look at it: %v", err)
		return
	}
	l.tell("killed without grace: process %d, state %s, %d threads", l.PID(), main.state, len(main.threads))
	for _, thread := range main.threads[:min(len(main.threads), dumpThreads)] {
		l.tell("%s", thread)
	}
	switch {
	case l.job.cfg.Kind != Airflow:
	case main.stopped():
		l.tell("it is stopped, so it cannot print its Python stacks")
	case !main.catches(shim.Dump):
		l.tell("it has no handler for Python stacks")
	default:
		l.askStacks(ctx)
	}
}

// askStacks lets Python print all stacks, and returns when it has or the time is up.
func (l *life) askStacks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dumpWithin)
	defer cancel()
	if err := l.Signal(shim.Dump); err != nil {
		l.tell("ask for Python stacks: %v", err)
		return
	}
	last, since := l.said.Tail(dumpTail), time.Now()
	for sleep(ctx, dumpQuiet/6) {
		now := l.said.Tail(dumpTail)
		switch {
		case !slices.Equal(now, last):
			last, since = now, time.Now()
		case time.Since(since) > dumpQuiet && printed(now):
			return
		}
	}
	if !printed(l.said.Tail(dumpTail)) {
		l.tell("it did not print its Python stacks within %s", dumpWithin)
	}
}

// dumpTail is more lines than a life's log keeps.
const dumpTail = 1000

func printed(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, dumpSign) })
}

// tell puts a line of ours among those of the process. A full disk must not keep it from being killed.
func (l *life) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(l.said, "duoflow: "+format+"\n", args...)
}

// portrait is what /proc shows of a process.
type portrait struct {
	state   string // as in proc(5), such as "S (sleeping)"
	caught  uint64 // signals with a handler; bit 0 is signal 1
	threads []string
}

func (p portrait) stopped() bool { return strings.HasPrefix(strings.ToUpper(p.state), "T ") }

func (p portrait) catches(signal syscall.Signal) bool { return p.caught>>(uint(signal)-1)&1 == 1 }

func lookAt(pid int) (portrait, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return portrait{}, err
	}
	p := portrait{state: field(status, "State")}
	if p.caught, err = strconv.ParseUint(field(status, "SigCgt"), 16, 64); err != nil {
		return portrait{}, fmt.Errorf("read signals: %w", err)
	}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return portrait{}, err
	}
	for _, task := range tasks {
		if thread, ok := lookAtThread(filepath.Join(dir, "task", task.Name())); ok {
			p.threads = append(p.threads, thread)
		}
	}
	return p, nil
}

// lookAtThread describes one thread; false when it has ended. Its kernel stack is for root only, and goes without.
func lookAtThread(dir string) (string, bool) {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return "", false
	}
	text := fmt.Sprintf("thread %s (%s), state %s", filepath.Base(dir), field(status, "Name"), field(status, "State"))
	if place, err := os.ReadFile(filepath.Join(dir, "wchan")); err == nil && string(place) != "0" && len(place) > 0 {
		text += ", waits in " + string(place)
	}
	if stack, err := os.ReadFile(filepath.Join(dir, "stack")); err == nil && len(stack) > 0 {
		text += ", kernel: " + kernelStack(string(stack))
	}
	return text, true
}

// field is the value of one line of a status file of /proc; "" when there is none.
func field(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kernelStack puts a stack of the kernel, such as "[<0>] do_wait+0x5/0x20", into one line of names, innermost first.
func kernelStack(text string) string {
	var names []string
	for line := range strings.Lines(text) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "+")
		if name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, " < ")
}
