package lab_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// disk is a file system of its own under a node's data_dir.
type disk struct {
	t      *testing.T
	dir    string
	image  string // of an ext4
	device string // its name in /sys
}

// freezeAtMost is when a frozen disk is thawed whatever happens, in seconds.
const freezeAtMost = "20"

// caretaker gives the disk back when our end of its standard input closes, also if that is because we were killed.
const caretaker = `cat >/dev/null; fsfreeze -u "$1" 2>/dev/null; umount -l "$1"`

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// smallDisk is a tmpfs of 2 MiB under a node that does not run yet.
func smallDisk(t *testing.T, n *lab.Node) *disk {
	t.Helper()
	command(t, "mount", "-t", "tmpfs", "-o", "mode=0755,size=2m", "tmpfs", n.DataDir())
	d := &disk{t: t, dir: n.DataDir()}
	d.care(n)
	return d
}

// realDisk is an ext4 in a file, which turns read-only after an error.
func realDisk(t *testing.T, n *lab.Node) *disk {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	command(t, "truncate", "-s", "64M", image)
	command(t, "mkfs.ext4", "-q", image)
	command(t, "mount", "-o", "loop,errors=remount-ro", image, n.DataDir())
	d := &disk{t: t, dir: n.DataDir(), image: image}
	d.care(n)
	d.device = filepath.Base(command(t, "findmnt", "--noheadings", "--output", "SOURCE", d.dir))
	return d
}

// care has the disk unmounted at the end, when nothing runs on the node's host any more.
func (d *disk) care(n *lab.Node) {
	cmd := exec.Command("sh", "-c", caretaker, "caretaker", d.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := cmd.StdinPipe()
	must(d.t, err)
	must(d.t, cmd.Start())
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Kill(ctx); err != nil {
			d.t.Logf("kill %s before its disk goes: %v", n.Name, err)
		}
		_ = alive.Close()
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("unmount %s: %v", d.dir, err)
		}
	})
}

// fill leaves no space on the disk; the returned call gives it back.
func (d *disk) fill() (empty func()) {
	d.t.Helper()
	path := filepath.Join(d.dir, "filler")
	file, err := os.Create(path)
	must(d.t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
	must(d.t, file.Close())
	return func() { must(d.t, os.Remove(path)) }
}

// breakIt does to the disk what an error of the device does.
func (d *disk) breakIt() {
	d.t.Helper()
	must(d.t, os.WriteFile("/sys/fs/ext4/"+d.device+"/trigger_fs_error", []byte("1"), 0))
}

// mend checks it and mounts it again, as an operator would: ext4 does not become writable without.
func (d *disk) mend() {
	d.t.Helper()
	eventually(d.t, "nobody uses "+d.dir, func() bool { // a daemon that tries to start does, for a moment
		return exec.Command("umount", d.dir).Run() == nil
	})
	if out, err := exec.Command("e2fsck", "-fy", d.image).CombinedOutput(); err != nil {
		d.t.Logf("e2fsck: %v: %s", err, out) // 1 = errors corrected
	}
	command(d.t, "mount", "-o", "loop,errors=remount-ro", d.image, d.dir)
}

// freeze lets every write wait; the returned call ends that, and may be made twice.
func (d *disk) freeze() (thaw func()) {
	d.t.Helper()
	late := exec.Command("sh", "-c", `timeout "$2" head -n 1; fsfreeze -u "$1"`, "watchdog", d.dir, freezeAtMost)
	late.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := late.StdinPipe()
	must(d.t, err)
	must(d.t, late.Start())
	command(d.t, "fsfreeze", "--freeze", d.dir)
	var once sync.Once
	thaw = func() {
		once.Do(func() {
			_, _ = io.WriteString(alive, "now\n") // if it has gone, it was too late
			if err := late.Wait(); err != nil {
				d.t.Errorf("thaw %s: %v", d.dir, err)
			}
		})
	}
	d.t.Cleanup(thaw)
	return thaw
}
