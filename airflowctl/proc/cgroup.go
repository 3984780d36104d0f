package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// familyDir is the directory all our cgroups are in: <base>/duoflow/<name>/<label>.
const familyDir = "duoflow"

// makeTries bounds the retries against another Forest that prunes the directories we make.
const makeTries = 10

// cgroupTree is a life in a cgroup of its own.
type cgroupTree struct {
	dir  string
	main *child
}

func (t *cgroupTree) signal(sig syscall.Signal) error { return t.main.process.Signal(sig) }

func (t *cgroupTree) kill() error { return killCgroup(t.dir) }

func (t *cgroupTree) reclaim() (bool, error) {
	if !closed(t.main.reaped) {
		return false, nil
	}
	return reclaimCgroup(t.dir)
}

// startCgroup starts the command as the first process of a new cgroup. clone3 puts it there before
// it runs a single instruction, so nothing it does can get out.
func (f *Forest) startCgroup(life *Life, cmd command) error {
	dir := filepath.Join(f.base, familyDir, f.name, life.label)
	if err := makeCgroup(dir); err != nil {
		return err
	}
	fd, err := os.Open(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("open cgroup: %w", err), removeCgroup(dir))
	}
	defer closeAll(fd)
	t := &cgroupTree{dir: dir}
	life.tree = t
	life.mu.Lock() // the child may end before t.main is set
	defer life.mu.Unlock()
	t.main, err = startChild(cmd.Path, cmd.Args, &os.ProcAttr{
		Dir: cmd.Dir, Env: cmd.Env, Files: life.wires.child,
		Sys: &syscall.SysProcAttr{
			Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: cmd.Account.credential(),
			UseCgroupFD: true, CgroupFD: int(fd.Fd()),
		},
	}, func() { life.mainReaped(t) })
	if err != nil {
		return errors.Join(err, removeCgroup(dir))
	}
	life.pid = t.main.process.Pid
	return nil
}

func (l *Life) mainReaped(t *cgroupTree) {
	l.mu.Lock()
	status := t.main.status
	l.mu.Unlock()
	l.ended(exitOf(status))
	if _, err := l.step(false); err != nil {
		l.log.Warn("cgroup of "+l.label+" not removed yet", "err", err)
	}
}

// makeCgroup makes the directory of one life. The directories above it are pruned when they are
// empty, perhaps by another daemon and just now, hence the retries.
func makeCgroup(dir string) error {
	var err error
	for range makeTries {
		if err = os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			continue
		}
		err = os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			return ErrExists
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("make cgroup: %w", err)
}

// killCgroup sends SIGKILL to all of the cgroup and its descendants, forks in flight included.
func killCgroup(dir string) error {
	err := writeExisting(filepath.Join(dir, "cgroup.kill"), "1")
	if err != nil && !vanished(err) {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// vanished: the cgroup was removed, before (ENOENT) or after (ENODEV) we opened the file.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

func writeExisting(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer closeAll(file)
	_, err = file.WriteString(text)
	return err
}

// populated tells whether a living process is in the cgroup or below. Zombies do not count: their
// files, and so their database sessions, are closed before they leave the cgroup.
func populated(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if vanished(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "populated "); ok {
			return strings.TrimSpace(value) != "0", nil
		}
	}
	return false, fmt.Errorf("read cgroup: no populated line in %q", text)
}

// reclaimCgroup removes the cgroup if it is empty, and says whether it is gone.
func reclaimCgroup(dir string) (bool, error) {
	busy, err := populated(dir)
	if err != nil || busy {
		return false, err
	}
	err = removeCgroup(dir)
	if errors.Is(err, syscall.EBUSY) {
		return false, nil
	}
	return err == nil, err
}

// removeCgroup removes an empty cgroup, those the job made in it, and the directories above it
// that are ours and hold nothing else.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		if vanished(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := syscall.Rmdir(dirs[i]); err != nil && !vanished(err) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	name := filepath.Dir(dir)
	// Other lives or other jobs in there are the normal case, so an error means nothing.
	_ = syscall.Rmdir(name)
	_ = syscall.Rmdir(filepath.Dir(name))
	return nil
}

// findBase is the first place where cgroups can be made that cgroup.kill works in.
func (h hierarchy) findBase(name string) (string, error) {
	// An empty clone3 is refused with EINVAL; a seccomp filter or an old kernel says otherwise.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); errno != unix.EINVAL {
		return "", fmt.Errorf("probe clone3: %w", errno)
	}
	problems := []error{errors.New("no usable cgroup v2")}
	for _, base := range h.bases() {
		err := probeBase(base, name)
		if err == nil {
			return base, nil
		}
		problems = append(problems, fmt.Errorf("try %s: %w", base, err))
	}
	return "", errors.Join(problems...)
}

// probeBase makes and removes a cgroup as a life would have it. The label cannot be a life's, and
// is used once, so that two Forests do not meet.
func probeBase(base, name string) (err error) {
	dir := filepath.Join(base, familyDir, name, fmt.Sprintf(".probe-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := makeCgroup(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeCgroup(dir)) }()
	kind, err := os.ReadFile(filepath.Join(dir, "cgroup.type"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(kind)) != "domain" {
		return fmt.Errorf("cgroup type %q", kind) // a threaded subtree takes no new processes
	}
	for _, file := range []string{filepath.Join(dir, "cgroup.kill"), filepath.Join(base, "cgroup.procs")} {
		// Not writing, only asking: moving into a new cgroup needs the right on the common
		// ancestor's cgroup.procs as well.
		if err := unix.Access(file, unix.W_OK); err != nil {
			return fmt.Errorf("open %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}
