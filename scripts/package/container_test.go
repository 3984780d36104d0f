//go:build packages

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stuck is how long something may take before it is taken for hung.
const stuck = 10 * time.Minute

// container is a Debian with its own systemd as process 1, in systemd-nspawn. It shares the network of this machine.
type container struct {
	t      *testing.T
	root   string
	leader string // its process 1, as seen from here
}

// inside is what the shell does that becomes the container: a v2 hierarchy of cgroups is all it gets to see, and one of those is its own.
const inside = `set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"
exec systemd-nspawn --register=no --keep-unit --quiet --notify-ready=yes --directory="$2" --machine=duoflow-packages --boot --console=pipe`

// boot starts a container in a root that is unpacked from image, and returns when its systemd has started everything.
func boot(t *testing.T, image string) *container {
	t.Helper()
	c := &container{t: t, root: filepath.Join(t.TempDir(), "root")}
	if err := os.Mkdir(c.root, 0o755); err != nil {
		t.Fatal(err)
	}
	outside(t, "tar", "-C", c.root, "-xpf", image)
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	name := "duoflow-packages-" + strconv.Itoa(os.Getpid())
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "-c", inside, "sh", name, c.root)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		remove(t, name)
		if t.Failed() {
			t.Logf("the container said:\n%s", said.String())
		}
	})
	words := make([]byte, 1000)
	for c.leader == "" || !bytes.Contains(words, []byte("READY=1")) {
		if err := conn.SetReadDeadline(time.Now().Add(stuck)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(words[:cap(words)])
		if err != nil {
			t.Fatalf("waiting for the container: %v", err)
		}
		words = words[:n]
		if _, after, ok := strings.Cut(string(words), "X_NSPAWN_LEADER_PID="); ok {
			c.leader, _, _ = strings.Cut(after, "\n")
		}
	}
	return c
}

// remove ends what is left in the container's cgroup, and the cgroup.
func remove(t *testing.T, name string) {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := filepath.Join(mount, name)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
			t.Error(err)
		}
		for deadline := time.Now().Add(stuck); ; time.Sleep(50 * time.Millisecond) { // rmdir says when it is empty, and nothing else does
			_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s cannot be removed", dir)
				break
			}
		}
	}
}

// try runs a command in the container.
func (c *container) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), stuck)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", c.leader, "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"DUOCTL_CONFIG=/etc/duoflow/tls/duoctl.yaml"}
	cmd.Dir = "/"
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return strings.TrimSpace(string(text)), err
}

// do is try for what has to succeed.
func (c *container) do(args ...string) string {
	c.t.Helper()
	text, err := c.try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// fails is try for what has to end with an exit code.
func (c *container) fails(code int, args ...string) string {
	c.t.Helper()
	text, err := c.try(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		c.t.Fatalf("%s: %v, not exit code %d\n%s", strings.Join(args, " "), err, code, text)
	}
	return text
}

// put writes a file in the container.
func (c *container) put(path, text string, mode os.FileMode) {
	c.t.Helper()
	path = filepath.Join(c.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		c.t.Fatal(err)
	}
}

// get reads a file in the container.
func (c *container) get(path string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, path))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func (c *container) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(c.root, path))
	return err == nil
}

// outside runs a command of this machine, which has to succeed and, if it writes anything, tells it.
func outside(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*stuck)
	defer cancel()
	text, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}
