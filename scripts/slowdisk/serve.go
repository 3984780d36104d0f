package slowdisk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// order is a line that the server is told: how long a sync takes, and whether it then fails with EIO.
const order = "sync %s %t"

// answer is what it says when that is so: how many syncs it was asked for since the order before.
const answer = "ok %d"

// ready is the server's first line, when the mount is there.
const ready = "ready"

// Serve mounts the folder backing at the folder at, and does what it is told line by line, until in ends. Then the mount is
// taken away for who comes later. For those who have a file open on it the disk is gone when the process ends, which has to be
// at once.
func Serve(backing, at string, in io.Reader, out io.Writer) error {
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return fmt.Errorf("serve %s: %w", backing, err)
	}
	d := &disk{}
	_, err = fs.Mount(at, &node{root.(*fs.LoopbackNode), d}, &fs.Options{
		MountOptions: fuse.MountOptions{
			AllowOther: true, DirectMountStrict: true, FsName: "slowdisk", Name: "slowdisk",
			Options: []string{"default_permissions"},
		},
	})
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", backing, at, err)
	}
	err = d.obey(in, out)
	// Not Server.Unmount: it fails while somebody has a file open, and that is when a disk is taken away.
	if gone := syscall.Unmount(at, syscall.MNT_DETACH); gone != nil {
		return errors.Join(err, fmt.Errorf("unmount %s: %w", at, gone))
	}
	return err
}

// disk is what the mount's syncs are like. The zero value is a disk that only passes them on.
type disk struct {
	mu    sync.Mutex
	takes time.Duration
	fails bool
	asked int
	// changed is closed with the next order, so that a sync under way ends when it would with the new one.
	changed chan struct{}
}

func (d *disk) obey(in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, ready); err != nil {
		return fmt.Errorf("say that the mount is there: %w", err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var text string
		var fails bool
		if _, err := fmt.Sscanf(lines.Text(), order, &text, &fails); err != nil {
			return fmt.Errorf("read order %q: %w", lines.Text(), err)
		}
		takes, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("read order %q: %w", lines.Text(), err)
		}
		if _, err := fmt.Fprintf(out, answer+"\n", d.set(takes, fails)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}

// set changes the disk, also for syncs under way, and returns how many were asked for since the last time.
func (d *disk) set(takes time.Duration, fails bool) (asked int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed != nil {
		close(d.changed)
	}
	asked, d.asked = d.asked, 0
	d.takes, d.fails, d.changed = takes, fails, make(chan struct{})
	return asked
}

// wait lets a sync take its time. As with a disk, only the end of who asked for it ends it before.
func (d *disk) wait(ctx context.Context) syscall.Errno {
	began, interrupted := time.Now(), ctx.Done()
	for first := true; ; first = false {
		d.mu.Lock()
		if first {
			d.asked++
		}
		left, fails, changed := d.takes-time.Since(began), d.fails, d.changed
		d.mu.Unlock()
		if left <= 0 && fails {
			return syscall.EIO
		}
		if left <= 0 {
			return fs.OK
		}
		if interrupted == nil {
			left = min(left, lookEvery)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-interrupted:
			interrupted = nil
		}
		timer.Stop()
		if interrupted == nil && killed(ctx) {
			return syscall.EINTR
		}
	}
}

// lookEvery is how often it is looked whether who asked for a sync was killed, after the kernel has told of a signal to it: the
// kernel tells of one only, and the first may be the one with which Go preempts a goroutine, or a freezer stops a process.
const lookEvery = 10 * time.Millisecond

// killed says whether the thread that made a request has been killed, which then waits for the answer in order to end. The
// kernel turns every deadly signal but those that dump core into SIGKILL for each thread of the process.
func killed(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok {
		return true
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid))
	if err != nil {
		return true // it is gone
	}
	for line := range strings.Lines(string(text)) {
		var pending uint64
		if _, err := fmt.Sscanf(line, "SigPnd:%x", &pending); err == nil {
			return pending&(1<<(syscall.SIGKILL-1)) != 0
		}
	}
	return true
}

// node is a file or folder of the mount.
type node struct {
	*fs.LoopbackNode
	disk *disk
}

// WrapChild implements fs.NodeWrapChilder: everything below a node is one too.
func (n *node) WrapChild(_ context.Context, below fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{below.(*fs.LoopbackNode), n.disk}
}

// Fsync implements fs.NodeFsyncer, for fsync and fdatasync.
func (n *node) Fsync(ctx context.Context, file fs.FileHandle, flags uint32) syscall.Errno {
	if errno := n.disk.wait(ctx); errno != fs.OK {
		return errno
	}
	if syncer, ok := file.(fs.FileFsyncer); ok {
		return syncer.Fsync(ctx, flags)
	}
	return fs.OK
}

// OpendirHandle implements fs.NodeOpendirHandler: a folder's sync is slow as well.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	handle, out, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != fs.OK {
		return handle, out, errno
	}
	return &folder{handle.(folderHandle), n.disk}, out, errno
}

// folderHandle is what the pass-through's handles of open folders can do.
type folderHandle interface {
	fs.FileReaddirenter
	fs.FileFsyncdirer
	fs.FileSeekdirer
	fs.FileReleasedirer
}

type folder struct {
	folderHandle
	disk *disk
}

// Fsyncdir implements fs.FileFsyncdirer.
func (f *folder) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	if errno := f.disk.wait(ctx); errno != fs.OK {
		return errno
	}
	return f.folderHandle.Fsyncdir(ctx, flags)
}
