//go:build mounts

package raftstore

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests mount file systems, so they need root: go test -tags mounts -run Mount ./raftstore

// run is a command that must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// mountTmpfs mounts 512 KiB.
func mountTmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// mountExt4 mounts a file of 16 MiB; its file system turns read-only after an error. device is its name
// in /sys.
func mountExt4(t *testing.T) (dir, device string) {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	run(t, "truncate", "-s", "16M", image)
	run(t, "mkfs.ext4", "-q", image)
	loop := run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", loop) })
	run(t, "mount", "-o", "errors=remount-ro", loop, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir, filepath.Base(loop)
}

// fill takes all space that is left; the returned call gives it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = file.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// onMount is a cluster whose node b has its data in dir.
func onMount(t *testing.T, dir string) (*cluster, *member) {
	t.Helper()
	c := newCluster(t, nil)
	c.members[1].cfg.Dir = filepath.Join(dir, "data")
	return c, c.members[1]
}

// ends waits for the end of a member's Run and wants these texts in its error.
func (c *cluster) ends(m *member, texts ...string) {
	c.t.Helper()
	select {
	case err := <-m.ended:
		m.stop = nil
		wants(c.t, err, texts...)
	case <-time.After(patience):
		c.t.Fatal("the store runs on")
	}
}

// wants wants these texts in an error.
func wants(t testing.TB, err error, texts ...string) {
	t.Helper()
	t.Logf("the error is: %v", err)
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is missing in: %v", text, err)
		}
	}
}

// offer proposes without caring for the outcome, until m has ended.
func (c *cluster) offer(m, through *member) {
	for len(m.ended) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = through.store.Propose(ctx, make([]byte, 4096))
		cancel()
	}
}

// TestMountFull: the node ends with an error that says what to do, the others go on, and when there is
// space again it catches up by itself.
func TestMountFull(t *testing.T) {
	dir := mountTmpfs(t)
	c, m := onMount(t, dir)
	c.startAll()
	c.propose(c.leader(), "before")
	c.agree("before")
	empty := fill(t, dir)
	m.store.probe.look()
	wants(t, errors.New(m.store.Unwritable()), "takes no writes", "no space left on device")
	c.offer(m, c.others(m)[0])
	c.ends(m, "write "+filepath.Join(dir, "data"), "no space left on device", "free space", "comes back by itself")
	c.propose(c.others(m)[0], "without it")
	empty()
	c.start(m)
	c.agree("before", "without it")
	if doubt := m.store.Status().Doubt; doubt != "" {
		t.Errorf("in doubt: %s", doubt)
	}
}

// TestMountFullAtStart: nothing half-made is left, so the next start is like the first.
func TestMountFullAtStart(t *testing.T) {
	dir := mountTmpfs(t)
	c, m := onMount(t, dir)
	empty := fill(t, dir)
	wants(t, c.runOnce(m), filepath.Join(dir, "data"), "no space left on device", "free space")
	if files, err := os.ReadDir(m.cfg.Dir); err == nil && len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	empty()
	c.startAll()
	c.propose(m, "all is well")
	c.agree("all is well")
}

func TestMountReadOnlyAtStart(t *testing.T) {
	dir := mountTmpfs(t)
	c, m := onMount(t, dir)
	c.fillAndStop("before")
	other := c.members[0]
	other.cfg.Dir = filepath.Join(dir, "other")
	run(t, "mount", "-o", "remount,ro", dir)
	wants(t, c.runOnce(m), filepath.Join(dir, "data", diskFile), "read-only file system", "mount it writable")
	wants(t, c.runOnce(other), filepath.Join(dir, "other"), "read-only file system", "mount it writable")
	run(t, "mount", "-o", "remount,rw", dir)
	c.start(m)
	c.start(c.members[2])
	c.agree("before")
}

// TestMountTurnsReadOnly: what ext4 does after an error of the disk.
func TestMountTurnsReadOnly(t *testing.T) {
	dir, device := mountExt4(t)
	c, m := onMount(t, dir)
	c.startAll()
	c.propose(c.leader(), "before")
	c.agree("before")
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	m.store.probe.look()
	wants(t, errors.New(m.store.Unwritable()), "takes no writes", "read-only file system")
	c.offer(m, c.others(m)[0])
	c.ends(m, "write "+filepath.Join(dir, "data"), "read-only file system", "mount it writable")
	c.propose(c.others(m)[0], "without it")
}

// TestMountFrozen freezes a real file system for two seconds under the leader.
func TestMountFrozen(t *testing.T) {
	dir, _ := mountExt4(t)
	c, m := onMount(t, dir)
	for _, other := range c.members {
		other.cfg.PreferredLeader = m.cfg.Self
	}
	c.startAll()
	c.until("it to lead", func() bool { return m.store.Status().Ready })
	c.connected()
	c.propose(m, "before")
	c.agree("before")
	term, began, worst := m.store.Status().Term, time.Now(), time.Duration(0)
	run(t, "fsfreeze", "--freeze", dir)
	stop := c.beating()
	for n := 0; time.Since(began) < 2*time.Second; n++ {
		start := time.Now()
		c.propose(c.others(m)[n%2], "on "+time.Since(began).String())
		worst = max(worst, time.Since(start))
		time.Sleep(20 * time.Millisecond)
	}
	beats, status := stop(), m.store.Status()
	run(t, "fsfreeze", "--unfreeze", dir)
	t.Logf("no proposal took longer than %s; stuck for %s", worst, status.Stuck)
	if worst > time.Second || status.Stuck < time.Second {
		t.Error("a proposal took too long, or the node does not know that its disk is stuck")
	}
	for _, other := range c.others(m) {
		if got := other.watch.beatCount(m.cfg.Self); got < beats*7/10 {
			t.Errorf("node %s heard %d of %d beats", other.cfg.name(other.cfg.Self), got, beats)
		}
		if now := other.store.Status(); now.Term != term+1 || now.Leader == m.cfg.Self {
			t.Errorf("term %d leader %x, want one change from term %d", now.Term, now.Leader, term)
		}
	}
	c.agree(c.others(m)[0].machine.all()...)
	c.until("it to recover", func() bool { return m.store.Status().Stuck == 0 })
}
