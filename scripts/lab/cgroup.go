package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// cgroup is one cgroup v2 folder. Its methods are safe for concurrent use.
type cgroup struct {
	path string

	mu sync.Mutex
	fd *os.File // children are born in it
}

// cgroupRoot finds where version 2 is mounted: /sys/fs/cgroup, or beside version 1.
func cgroupRoot() (string, error) {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", fmt.Errorf("read mounts: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("find cgroup v2: not mounted")
}

func newCgroup(path string) (*cgroup, error) {
	g := &cgroup{path: path}
	return g, g.open()
}

func (g *cgroup) open() error {
	if err := os.MkdirAll(g.path, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	fd, err := os.Open(g.path)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	g.fd = fd
	return nil
}

func (g *cgroup) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fd.Close()
}

// birth calls f with a descriptor of the folder, for a child that is to be born in it.
func (g *cgroup) birth(f func(fd int) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return f(int(g.fd.Fd()))
}

func (g *cgroup) write(name, value string) error {
	if err := os.WriteFile(filepath.Join(g.path, name), []byte(value), 0); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// kill ends every process in it and below, also frozen ones, and returns when none is left. The folder
// is made anew, thawed: Linux (6.18, seen here) kills every later child that is born into a cgroup whose
// count of kills differs from that of its parent's cgroup.
func (g *cgroup) kill(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.write("cgroup.kill", "1"); err != nil {
		return err
	}
	if err := g.await(ctx, "populated 0"); err != nil {
		return err
	}
	if err := errors.Join(g.fd.Close(), g.removeTree()); err != nil {
		return err
	}
	return g.open()
}

func (g *cgroup) removeTree() error {
	var dirs []string
	err := filepath.WalkDir(g.path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list cgroups of %s: %w", g.path, err)
	}
	for _, dir := range slices.Backward(dirs) { // children come after their parents
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

func (g *cgroup) freeze(ctx context.Context, frozen bool) error {
	state := "0"
	if frozen {
		state = "1"
	}
	if err := g.write("cgroup.freeze", state); err != nil {
		return err
	}
	return g.await(ctx, "frozen "+state)
}

// await waits for a line of cgroup.events.
func (g *cgroup) await(ctx context.Context, line string) error {
	for {
		text, err := os.ReadFile(filepath.Join(g.path, "cgroup.events"))
		if err != nil {
			return fmt.Errorf("read cgroup.events: %w", err)
		}
		if strings.Contains(string(text), line) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %q in %s: %w", line, g.path, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// pids lists the processes in it and below.
func (g *cgroup) pids() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(g.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", g.path, err)
	}
	return pids, nil
}
