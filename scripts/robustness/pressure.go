package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// pressureTroubles take a host's processor or memory away. Where the active node's own host is short of it, another may serve better.
var pressureTroubles = []trouble{
	{name: "cpu-pressure", where: onAny, moves: may, elsewhere: mustNot, longest: 10 * time.Second, begin: felt(cpuPressure)},
	{name: "memory-pressure", where: onAny, moves: may, elsewhere: mustNot, longest: 10 * time.Second, begin: felt(memoryPressure)},
}

const (
	cpuPeriod = 100 * time.Millisecond
	// feltMost bounds how long pressure lasts before it can be mended at all: a moment of it is nothing.
	feltMost = 4 * time.Second
	// hogBytes is what is read again and again where leastMemory is all there is, so that the host is short of it all the time.
	hogBytes    = 64 << 20
	leastMemory = 24 << 20
)

// felt has pressure last for a while.
func felt(begin beginning) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		mend, err := begin(ctx, s, n, dice)
		if err != nil {
			return mend, err
		}
		return mend, lab.Pause(ctx, between(dice, feltMost/4, feltMost))
	}
}

// limit is a cgroup, of version 1 or 2, with a host's processes and less of something.
type limit struct {
	dir string
	// own: it was made for this, and the processes go back where they were; else it is the host's own, and gets back what it had.
	own  bool
	file string
	was  string
}

// limited gives a host's processes, and those that they start, less of what a controller counts. files are the names of the limit in
// version 1 and in version 2, values what is written there.
func limited(n *lab.Node, controller string, files, values [2]string) (*limit, error) {
	pids, err := n.PIDs()
	if err != nil {
		return nil, err
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("%w: nothing runs on %s", errMissed, n.Name)
	}
	mount, found, err := controllerMount(controller)
	if err != nil {
		return nil, err
	}
	if !found {
		return limitHost(pids[0], controller, files[1], values[1])
	}
	l := &limit{dir: filepath.Join(mount, fmt.Sprintf("duoflow-pressure-%d", pids[0])), own: true}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	err = writeTo(l.dir, files[0], values[0])
	for _, pid := range pids {
		err = errors.Join(err, l.take(pid))
	}
	return l, err
}

// controllerMount is where version 1 of a controller is mounted, if it is.
func controllerMount(controller string) (path string, found bool, err error) {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", false, fmt.Errorf("read mounts: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[2] == "cgroup" && strings.Contains(","+fields[3]+",", ","+controller+",") {
			return fields[1], true, nil
		}
	}
	return "", false, nil
}

// limitHost limits the host's own cgroup of version 2, .../duoflow-lab/N/HOST.
func limitHost(pid int, controller, file, value string) (*limit, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("find cgroup: %w", err)
	}
	_, below, found := strings.Cut(strings.TrimSpace(string(text)), "::")
	parts := strings.SplitAfter(below, "/")
	if !found || len(parts) < 4 {
		return nil, fmt.Errorf("find cgroup: %q", text)
	}
	dir := "/sys/fs/cgroup"
	for _, part := range parts[:4] {
		if part = strings.Trim(part, "/"); part == "" {
			continue
		}
		if err := writeTo(dir, "cgroup.subtree_control", "+"+controller); err != nil {
			return nil, err
		}
		dir = filepath.Join(dir, part)
	}
	was, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, fmt.Errorf("read limit: %w", err)
	}
	return &limit{dir: dir, file: file, was: string(was)}, writeTo(dir, file, value)
}

func writeTo(dir, file, value string) error {
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("write to cgroup: %w", err)
	}
	return nil
}

// take moves a process, which may have ended, below the limit.
func (l *limit) take(pid int) error {
	err := writeTo(l.dir, "cgroup.procs", strconv.Itoa(pid))
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// lift takes the limit away.
func (l *limit) lift(ctx context.Context) error {
	if !l.own {
		return writeTo(l.dir, l.file, l.was)
	}
	for {
		text, err := os.ReadFile(filepath.Join(l.dir, "cgroup.procs"))
		if err != nil {
			return fmt.Errorf("read cgroup: %w", err)
		}
		for pid := range strings.FieldsSeq(string(text)) {
			if err := writeTo(filepath.Dir(l.dir), "cgroup.procs", pid); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		if err := os.Remove(l.dir); err == nil {
			return nil
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil { // one was started just now
			return fmt.Errorf("empty cgroup: %w", err)
		}
	}
}

// cpuPressure leaves a host 3 to 50 % of one processor.
func cpuPressure(_ context.Context, _ *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	quota := strconv.FormatInt(between(dice, cpuPeriod*3/100, cpuPeriod/2).Microseconds(), 10)
	l, err := limited(n, "cpu", [2]string{"cpu.cfs_quota_us", "cpu.max"},
		[2]string{quota, quota + " " + strconv.FormatInt(cpuPeriod.Microseconds(), 10)})
	if l == nil {
		return nil, err
	}
	return l.lift, err
}

// memoryPressure leaves a host little memory, and a neighbour that wants all of it: a file is read that does not fit.
func memoryPressure(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	most := strconv.Itoa(leastMemory)
	l, err := limited(n, "memory", [2]string{"memory.limit_in_bytes", "memory.high"}, [2]string{most, most})
	if l == nil || err != nil {
		return nil, errors.Join(err, liftIf(ctx, l))
	}
	file := filepath.Join(s.Lab.Dir, "hog")
	hog, err := n.Host.Start(lab.Spec{
		Name: "hog",
		Args: []string{"sh", "-c", fmt.Sprintf("truncate -s %d %q; while :; do cat %q >/dev/null; done", hogBytes, file, file)},
	})
	if err != nil {
		return nil, errors.Join(err, l.lift(ctx))
	}
	mend := func(ctx context.Context) error {
		err := hog.Signal(syscall.SIGKILL)
		return errors.Join(err, l.lift(ctx), os.RemoveAll(file))
	}
	if l.own {
		err = l.take(hog.PID())
	}
	return mend, err
}

func liftIf(ctx context.Context, l *limit) error {
	if l == nil {
		return nil
	}
	return l.lift(ctx)
}
