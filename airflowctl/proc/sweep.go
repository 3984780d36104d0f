package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sweepCgroups kills the leftover cgroups of this name, wherever an earlier daemon made them: it
// may have run by hand in a login session and now runs below systemd. After the first sweep only
// our own place can have any.
func (f *Forest) sweepCgroups(ctx context.Context) error {
	h, err := readHierarchy()
	if err != nil {
		return err
	}
	dirs, err := f.leftovers(h)
	if err != nil {
		return err
	}
	problems := make([]error, 0, len(dirs))
	for _, dir := range dirs {
		begin := time.Now()
		if h.inside(dir) {
			problems = append(problems, fmt.Errorf("clear %s: this daemon itself runs in it", dir))
			continue
		}
		err := await(ctx, killEvery, func() (bool, error) {
			if err := killCgroup(dir); err != nil {
				return false, err
			}
			return reclaimCgroup(dir)
		})
		if err != nil {
			problems = append(problems, fmt.Errorf("clear %s: %w", dir, err))
			continue
		}
		f.log.Info("leftover process tree killed", "reason", dir, "took", time.Since(begin))
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	f.swept = true
	return nil
}

func (f *Forest) leftovers(h hierarchy) ([]string, error) {
	if f.swept && f.base == "" {
		return nil, nil
	}
	if f.swept {
		return lifeDirs(filepath.Join(f.base, familyDir, f.name))
	}
	var dirs []string
	seen := make(map[string]bool) // one hierarchy can be mounted twice
	for _, m := range h.mounts {
		err := filepath.WalkDir(m.point, func(path string, entry fs.DirEntry, err error) error {
			if vanished(err) || errors.Is(err, fs.ErrPermission) {
				return nil
			}
			if err != nil || !entry.IsDir() {
				return err
			}
			if entry.Name() != f.name || filepath.Base(filepath.Dir(path)) != familyDir || seen[path] {
				return nil
			}
			seen[path] = true
			found, err := lifeDirs(path)
			dirs = append(dirs, found...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("search cgroups: %w", err)
		}
	}
	return dirs, nil
}

func lifeDirs(family string) ([]string, error) {
	entries, err := os.ReadDir(family)
	if vanished(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("search cgroups: %w", err)
	}
	var dirs []string
	for _, entry := range entries {
		if entry.IsDir() {
			dirs = append(dirs, filepath.Join(family, entry.Name()))
		}
	}
	return dirs, nil
}

// leftInit is the init of a life that another daemon started.
type leftInit struct {
	process
	mode Mode
}

// sweepInits ends inits of this name. They end by themselves when their daemon dies, so there is
// one only in the moments after that, or when it was stopped.
func (f *Forest) sweepInits(ctx context.Context) error {
	err := await(ctx, killEvery, func() (bool, error) {
		list, err := readProcesses()
		if err != nil {
			return false, err
		}
		left := f.leftInits(list)
		for _, init := range left {
			init.end(list)
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("end leftover inits: %w", err)
	}
	return nil
}

func (f *Forest) leftInits(list []process) []leftInit {
	var left []leftInit
	for _, p := range list {
		dir := filepath.Join("/proc", strconv.Itoa(p.pid))
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || p.zombie() {
			continue
		}
		mode, ok := f.initMode(text, p.name)
		if !ok {
			continue
		}
		// Another user can call a process anything.
		info, err := os.Stat(dir)
		if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			continue
		}
		left = append(left, leftInit{process: p, mode: mode})
	}
	return left
}

// initMode tells whether a process with this command line and name is an init of ours. One that is
// dying has lost its command line, but in a PID namespace not yet killed the others; only its name
// still shows what it is.
func (f *Forest) initMode(cmdline []byte, name string) (Mode, bool) {
	if len(cmdline) == 0 {
		return "", name == initComm(f.name)
	}
	args := strings.Split(string(cmdline), "\x00")
	if len(args) < 5 || args[0] != initName || args[1] != initFlag || args[3] != f.name {
		return "", false
	}
	return Mode(args[2]), true
}

// end kills the init of a PID namespace, which kills all in it; in group mode the init is what
// holds the descendants together and goes last.
func (i leftInit) end(list []process) {
	alive := false
	if i.mode == ModeGroup {
		for _, p := range descendants(list, i.pid) {
			if !p.zombie() {
				alive = true
				p.kill()
			}
		}
	}
	if !alive {
		i.kill()
	}
}
