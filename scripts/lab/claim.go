package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	claimDir   = "/run/duoflow-lab"
	firstClaim = 1
	lastClaim  = 250
)

//go:embed cleanup.sh
var cleanupScript string

// claim is the number of a lab, unique on this machine while its lock is held: by us and by the
// watcher, which keeps it until all is cleaned up. All names and addresses come from the number.
type claim struct {
	number int
	lock   *os.File
	alive  *os.File // the watcher waits for this pipe to close
	watch  *exec.Cmd
}

// newClaim takes the first free number, and cleans up what dead labs left.
func newClaim() (*claim, error) {
	if err := os.MkdirAll(claimDir, 0o755); err != nil {
		return nil, fmt.Errorf("make claim folder: %w", err)
	}
	sweepClaims()
	for number := firstClaim; number <= lastClaim; number++ {
		lock, err := tryLock(claimPath(number), os.O_CREATE)
		if err != nil {
			return nil, err
		}
		if lock == nil {
			continue
		}
		if addressTaken(number) {
			lock.Close()
			continue
		}
		c := &claim{number: number, lock: lock}
		sweep(c) // its owner may have died since
		return c, nil
	}
	return nil, errors.New("claim a lab number: all are in use")
}

func claimPath(number int) string { return filepath.Join(claimDir, strconv.Itoa(number)) }

// tryLock returns nil without an error when another process holds the lock.
func tryLock(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open claim: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock claim: %w", err)
}

// sweepClaims cleans up after labs whose processes and watchers are gone. What it cannot clean now
// the next start will.
func sweepClaims() {
	paths, _ := filepath.Glob(filepath.Join(claimDir, "*"))
	for _, path := range paths {
		number, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		lock, err := tryLock(path, 0)
		if err != nil || lock == nil {
			continue
		}
		sweep(&claim{number: number, lock: lock})
		lock.Close()
	}
}

func sweep(c *claim) {
	text, _ := io.ReadAll(c.lock)
	if len(text) == 0 {
		return // it was taken down in order
	}
	fields := strings.Split(string(text), "\n")
	_ = exec.Command("sh", append([]string{"-c", cleanupScript, "lab"}, fields[1:]...)...).Run()
	if dir := fields[0]; dir != "-" {
		_ = os.RemoveAll(dir)
	}
	_ = c.lock.Truncate(0)
}

// addressTaken tells whether some interface that is not ours uses the claim's addresses.
func addressTaken(number int) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	prefix := fmt.Sprintf("%d.%d.", netPrefix, number)
	for _, addr := range addrs {
		if strings.HasPrefix(addr.String(), fmt.Sprintf("10.%s", prefix)) {
			return true
		}
	}
	return false
}

// bridge is the name of the bridge, and the prefix of everything else; 15 bytes are the limit of
// interface names.
func (c *claim) bridge() string { return fmt.Sprintf("dflab%d", c.number) }

// guard starts the watcher, which cleans up when this process ends or release is called. dir is
// removed by a later sweep only; "" keeps it.
func (c *claim) guard(dir, cgroup string, hosts []string) error {
	args := append([]string{c.bridge(), cgroup}, hosts...)
	if dir == "" {
		dir = "-"
	}
	if _, err := c.lock.WriteAt([]byte(strings.Join(append([]string{dir}, args...), "\n")), 0); err != nil {
		return fmt.Errorf("write claim: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make watcher's pipe: %w", err)
	}
	defer read.Close()
	c.alive = write
	c.watch = exec.Command("sh", append([]string{"-c", cleanupScript, "lab"}, args...)...)
	c.watch.Stdin = read
	c.watch.ExtraFiles = []*os.File{c.lock} // the lock lasts until the watcher is through
	c.watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.watch.Start(); err != nil {
		return fmt.Errorf("start watcher: %w", err)
	}
	return nil
}

// release lets the watcher clean up, waits for it and gives the number back.
func (c *claim) release() error {
	var err error
	if c.watch != nil {
		c.alive.Close()
		if err = c.watch.Wait(); err != nil {
			err = fmt.Errorf("clean up lab %d: %w", c.number, err)
		}
	}
	return errors.Join(err, c.lock.Truncate(0), c.lock.Close())
}
