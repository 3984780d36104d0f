package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/slowdisk"
)

// diskTroubles are what the disk below a node's data directory can do while the daemon runs. A job does not need it, so one that
// is slow costs nobody the job; a daemon whose log cannot be written ends.
var diskTroubles = []trouble{
	{name: "disk-slow-fsync", where: onAny, moves: mustNot, elsewhere: mustNot, begin: slowFsync},
	{name: "disk-fsync-fails", where: onAny, moves: may, elsewhere: mustNot, begin: failingFsync},
	{name: "disk-full", where: onAny, moves: may, elsewhere: mustNot, begin: fullDisk},
	{name: "disk-read-only", where: onAny, moves: may, elsewhere: mustNot, alone: true, begin: readOnlyDisk},
	// A quiet log writes nothing: these have all nodes write at once, so that the daemon ends on it.
	{name: "disk-fsync-fails-in-use", where: onAny, moves: may, elsewhere: may, begin: inUse(failingFsync)},
	{name: "disk-full-in-use", where: onAny, moves: may, elsewhere: may, begin: inUse(fullDisk)},
	{name: "disk-read-only-in-use", where: onAny, moves: may, elsewhere: may, alone: true, begin: inUse(readOnlyDisk)},
	{name: "disk-slow-fsync-in-use", where: onAny, moves: may, elsewhere: may, begin: inUse(slowFsync)},
}

// servedWithin bounds the wait for a holder of the job that can be told to give it up.
const servedWithin = 5 * time.Second

// inUse has the job moved while something is the matter with a disk. Beside another trouble nobody may hold the job until that one is
// mended, and that waits for us.
func inUse(begin beginning) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		waiting, cancel := context.WithTimeout(ctx, servedWithin)
		defer cancel()
		active, err := s.await(waiting, false)
		if unserved := (*unservedError)(nil); errors.As(err, &unserved) {
			return nil, fmt.Errorf("%w: %w", errMissed, err)
		}
		if err != nil {
			return nil, err
		}
		mend, err := begin(ctx, s, n, dice)
		if err != nil {
			return mend, err
		}
		return mend, s.askFor(ctx, standbyOf(active.Node))
	}
}

const (
	diskSize    = "48M"       // of one node's
	shelfSize   = "size=256m" // three, and one that is being mended
	slowestSync = 5 * time.Second
	// freeWithin is how long a disk may stay busy after its daemon was killed. It is a limit for being stuck.
	freeWithin = 30 * time.Second
)

// nodeDisk is what lies below a data directory: an ext4 in a file in memory, which can be full and turn read-only as any, and on it
// a slow disk.
type nodeDisk struct {
	image, ext4, at string
	slow            *slowdisk.Disk
}

// caretaker gives mounts back when our end of its standard input closes, also if that is because we were killed.
const caretaker = `cat >/dev/null; for at; do umount -l "$at"; done`

// prepareDisks puts a disk below every node's data directory.
func prepareDisks(ctx context.Context, s *stage) (stop func() error, err error) {
	program, err := s.Lab.Build(ctx, "./scripts/slowdisk/server")
	if err != nil {
		return nil, err
	}
	s.disks = map[string]*nodeDisk{}
	shelf := filepath.Join(s.Lab.Dir, "disks")
	if err := errors.Join(os.Mkdir(shelf, 0o755), command(ctx, "mount", "-t", "tmpfs", "-o", shelfSize, "tmpfs", shelf)); err != nil {
		return nil, err
	}
	var mounts []string
	for _, name := range nodeNames {
		mounts = append(mounts, filepath.Join(shelf, name))
	}
	release, err := careFor(append(mounts, shelf))
	if err != nil {
		return nil, errors.Join(err, syscall.Unmount(shelf, syscall.MNT_DETACH))
	}
	stop = func() error {
		// Before what is below them is taken away nobody may write any more.
		var errs []error
		for _, name := range nodeNames {
			if d := s.disks[name]; d != nil {
				errs = append(errs, s.Cluster.Nodes[name].Kill(context.Background()), d.slow.Unmount())
			}
		}
		return errors.Join(append(errs, release())...)
	}
	for _, name := range nodeNames {
		d := &nodeDisk{image: filepath.Join(shelf, name+".ext4"), ext4: filepath.Join(shelf, name), at: s.Cluster.Nodes[name].DataDir()}
		if err := d.mount(ctx, program); err != nil {
			return stop, err
		}
		s.disks[name] = d
	}
	return stop, nil
}

// careFor starts the caretaker; release ends its care and waits until the mounts are gone.
func careFor(mounts []string) (release func() error, err error) {
	cmd := exec.Command("sh", append([]string{"-c", caretaker, "caretaker"}, mounts...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start caretaker of disks: %w", err)
	}
	return func() error { return errors.Join(alive.Close(), cmd.Wait()) }, nil
}

func (d *nodeDisk) mount(ctx context.Context, program string) error {
	if err := errors.Join(
		command(ctx, "truncate", "-s", diskSize, d.image), command(ctx, "mkfs.ext4", "-q", d.image), os.Mkdir(d.ext4, 0o755),
	); err != nil {
		return err
	}
	if err := d.mountExt4(ctx); err != nil {
		return err
	}
	data := filepath.Join(d.ext4, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return fmt.Errorf("make folder on a disk: %w", err)
	}
	var err error
	d.slow, err = slowdisk.Mount(program, data, d.at)
	return err
}

func (d *nodeDisk) mountExt4(ctx context.Context) error {
	return command(ctx, "mount", "-o", "loop,errors=remount-ro", d.image, d.ext4)
}

// command runs a short command; its output becomes part of the error.
func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func slowFsync(_ context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	d := s.disks[n.Name].slow
	_, err := d.Slow(between(dice, 20*time.Millisecond, slowestSync))
	return healer(d), err
}

func healer(d *slowdisk.Disk) func(context.Context) error {
	return func(context.Context) error { _, err := d.Heal(); return err }
}

func failingFsync(_ context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	d := s.disks[n.Name].slow
	_, err := d.Fail()
	return s.unexcused(n, "the disk fails", healer(d)), err
}

// unexcused undoes, and then excuses the daemon's end no longer, unless it is on its way out: what failed just now ends it now, or when a
// busy machine lets it, and then its last words are about that.
func (s *stage) unexcused(n *lab.Node, words string, undo func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := undo(ctx); err != nil {
			return err
		}
		if err := lab.Pause(ctx, settleFor); err != nil {
			return err
		}
		if n.Process().Ended() {
			return s.keepUp(n)
		}
		s.excused[n.Name], s.lastWords[n.Name] = false, words
		return nil
	}
}

// fullDisk leaves no space on it.
func fullDisk(_ context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	filler := filepath.Join(s.disks[n.Name].ext4, "filler")
	mend := s.unexcused(n, "no space left on device", func(context.Context) error { return os.Remove(filler) })
	file, err := os.Create(filler)
	if err != nil {
		return mend, fmt.Errorf("fill disk: %w", err)
	}
	for size := 1 << 20; size >= 512; size /= 2 { // as it fills up, smaller pieces still find room
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return mend, fmt.Errorf("fill disk: %w", err)
	}
	return mend, file.Close()
}

// readOnlyDisk does to it what an error of the device does. It is mended as an operator would: nobody uses it, it is checked, and
// mounted again.
func readOnlyDisk(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	s.lastWords[n.Name] = "read-only file system" // also when it is started again before the disk is mended
	d := s.disks[n.Name]
	mend := func(ctx context.Context) error {
		if err := n.Process().Signal(syscall.SIGKILL); err != nil {
			return err
		}
		if err := errors.Join(awaitEnd(ctx, n), d.repair(ctx)); err != nil {
			return err
		}
		return s.keepUp(n)
	}
	out, err := exec.CommandContext(ctx, "findmnt", "--noheadings", "--output", "SOURCE", d.ext4).Output()
	if err != nil {
		return mend, fmt.Errorf("find the device of %s: %w", d.ext4, err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
		return mend, fmt.Errorf("break disk: %w", err)
	}
	return mend, nil
}

func (d *nodeDisk) repair(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freeWithin)
	defer cancel()
	for command(ctx, "umount", d.ext4) != nil { // who has a file open on it is on its way out
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("unmount %s: %w", d.ext4, err)
		}
	}
	// A copy, so that the kernel takes it for another file system: a mount namespace of somebody else on this machine may keep the broken
	// one mounted, and mounted again that would be read-only still.
	mended := d.image + ".mended"
	if err := command(ctx, "cp", "--sparse=always", d.image, mended); err != nil {
		return err
	}
	var exit *exec.ExitError
	err := exec.CommandContext(ctx, "e2fsck", "-fy", mended).Run()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) { // 1: errors corrected
		return fmt.Errorf("check %s: %w", mended, err)
	}
	if err := os.Rename(mended, d.image); err != nil {
		return fmt.Errorf("replace %s: %w", d.image, err)
	}
	return d.mountExt4(ctx)
}

// copyFile is for small files.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
