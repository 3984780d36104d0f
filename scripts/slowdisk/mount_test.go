//go:build mounts

package slowdisk_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/scripts/slowdisk"
)

// TestMain is the server when a disk starts this program as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && filepath.IsAbs(os.Args[1]) {
		if err := slowdisk.Serve(os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// forever is a sync that no test waits for.
const forever = time.Hour

// mounted is a slow disk over a folder.
func mounted(t *testing.T) (d *slowdisk.Disk, backing, at string) {
	t.Helper()
	dir := t.TempDir()
	backing, at = filepath.Join(dir, "backing"), filepath.Join(dir, "mount")
	must(t, errors.Join(os.Mkdir(backing, 0o755), os.Mkdir(at, 0o755)))
	program, err := os.Executable()
	must(t, err)
	d, err = slowdisk.Mount(program, backing, at)
	must(t, err)
	t.Cleanup(func() {
		must(t, d.Unmount())
		if isMounted(t, at) {
			t.Error("it is still mounted")
		}
	})
	if !isMounted(t, at) {
		t.Fatal("nothing is mounted")
	}
	return d, backing, at
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func isMounted(t *testing.T, at string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	return strings.Contains(string(text), " "+at+" ")
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() }) // some tests do before
	return file
}

// TestMountPassesOn: what is written through it is in the folder, and seen by who has mapped the file, as bbolt does.
func TestMountPassesOn(t *testing.T) {
	_, backing, at := mounted(t)
	file := create(t, filepath.Join(at, "file"))
	_, err := file.WriteString("first")
	must(t, err)
	mapped, err := unix.Mmap(int(file.Fd()), 0, 5, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(mapped)) }()
	_, err = file.WriteAt([]byte("later"), 0)
	must(t, err)
	if string(mapped) != "later" {
		t.Errorf("the mapping shows %q", mapped)
	}
	must(t, file.Sync())
	must(t, os.Rename(filepath.Join(at, "file"), filepath.Join(at, "renamed")))
	if text, err := os.ReadFile(filepath.Join(backing, "renamed")); err != nil || string(text) != "later" {
		t.Errorf("%q, %v", text, err)
	}
	other, err := os.Open(filepath.Join(at, "renamed"))
	must(t, err)
	defer other.Close()
	must(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a file is locked twice: %v", err)
	}
}

// TestMountIsSlow: a sync takes its time, and nothing else does.
func TestMountIsSlow(t *testing.T) {
	d, _, at := mounted(t)
	file := create(t, filepath.Join(at, "file"))
	const takes = 200 * time.Millisecond
	set(t, d.Slow, takes)
	for name, sync := range map[string]func() error{
		"fsync":     file.Sync,
		"fdatasync": func() error { return unix.Fdatasync(int(file.Fd())) },
		"folder":    func() error { return syncFolder(at) },
	} {
		began := time.Now()
		must(t, sync())
		if took := time.Since(began); took < takes {
			t.Errorf("%s took %s", name, took)
		}
	}
	set(t, d.Slow, forever)
	_, err := file.WriteString("not synced")
	must(t, err)
	must(t, os.Rename(filepath.Join(at, "file"), filepath.Join(at, "renamed")))
	synced := make(chan error, 1)
	go func() { synced <- file.Sync() }()
	awaitAsked(t, d)
	select {
	case err := <-synced:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	_, err = d.Heal()
	must(t, err)
	must(t, <-synced)
}

func set(t *testing.T, slow func(time.Duration) (int, error), takes time.Duration) {
	t.Helper()
	_, err := slow(takes)
	must(t, err)
}

// awaitAsked waits until the slow disk was asked for a sync.
func awaitAsked(t *testing.T, d *slowdisk.Disk) {
	t.Helper()
	for asked := 0; asked == 0; {
		var err error
		asked, err = d.Slow(forever)
		must(t, err)
	}
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// TestMountFails: syncs fail with EIO, one under way too, and what is mended is well.
func TestMountFails(t *testing.T) {
	d, _, at := mounted(t)
	file := create(t, filepath.Join(at, "file"))
	set(t, d.Slow, forever)
	synced := make(chan error, 1)
	go func() { synced <- file.Sync() }()
	awaitAsked(t, d)
	_, err := d.Fail()
	must(t, err)
	for what, err := range map[string]error{"the one under way": <-synced, "file": file.Sync(), "folder": syncFolder(at)} {
		if !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", what, err)
		}
	}
	asked, err := d.Heal()
	must(t, err)
	if asked != 2 {
		t.Errorf("%d syncs were counted", asked)
	}
	must(t, file.Sync())
}

// TestMountLetsTheKilledGo: a process that waits for a sync can be killed, as on a disk that answers in the end, also if it was
// stopped before.
func TestMountLetsTheKilledGo(t *testing.T) {
	for name, signals := range map[string][]os.Signal{
		"killed": {syscall.SIGKILL}, "stopped and killed": {syscall.SIGSTOP, syscall.SIGKILL},
		"ended": {syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			d, _, at := mounted(t)
			path := filepath.Join(at, "file")
			create(t, path)
			set(t, d.Slow, forever)
			cmd := exec.Command("sync", path)
			must(t, cmd.Start())
			awaitAsked(t, d)
			for _, signal := range signals {
				must(t, cmd.Process.Signal(signal))
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != signals[len(signals)-1] {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestMountIsNotInterrupted: a signal that kills nobody ends no sync, as on a disk. bbolt asks for one once and takes EINTR for a
// disk that failed.
func TestMountIsNotInterrupted(t *testing.T) {
	d, _, at := mounted(t)
	file := create(t, filepath.Join(at, "file"))
	set(t, d.Slow, forever)
	thread, synced := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		synced <- unix.Fdatasync(int(file.Fd()))
	}()
	awaitAsked(t, d)
	must(t, unix.Tgkill(os.Getpid(), <-thread, unix.SIGURG))
	select {
	case err := <-synced:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond): // the kernel tells the disk at once
	}
	_, err := d.Heal()
	must(t, err)
	must(t, <-synced)
}

// TestMountGoesFromUnderAnOpenFile: also with a sync under way.
func TestMountGoesFromUnderAnOpenFile(t *testing.T) {
	d, _, at := mounted(t)
	cmd := exec.Command("sh", "-c", `exec 3>"$0"; echo open; sync "$0"; sleep 1000000`, filepath.Join(at, "file"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	set(t, d.Slow, forever)
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait() // killed
	})
	awaitAsked(t, d) // what mounted cleans up is the test
}

func TestMountSaysWhyNot(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	must(t, err)
	_, err = slowdisk.Mount(program, dir, filepath.Join(dir, "missing"))
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("%v", err)
	}
}
