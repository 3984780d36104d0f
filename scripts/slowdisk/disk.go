package slowdisk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopWithin is how long a server may take to end. It is a limit for being stuck.
const stopWithin = 30 * time.Second

// Disk is a mount with its server. Its methods are safe for concurrent use.
type Disk struct {
	cmd  *exec.Cmd
	errs *strings.Builder // until the server has ended, its

	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Scanner
}

// Mount starts the program, which is the one in the folder server, and returns when backing is mounted at the folder at. The
// server is no child of anybody's session: it ends, and unmounts, when the pipe to it closes, also if that is because we were killed.
func Mount(program, backing, at string) (*Disk, error) {
	d := &Disk{cmd: exec.Command(program, backing, at), errs: &strings.Builder{}}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	d.cmd.Stderr = d.errs
	in, err := d.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("mount slow disk: %w", err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("mount slow disk: %w", err)
	}
	d.in, d.out = in, bufio.NewScanner(out)
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("mount slow disk: %w", err)
	}
	if !d.out.Scan() || d.out.Text() != ready {
		_ = in.Close()
		return nil, fmt.Errorf("mount slow disk: %w: %s", d.cmd.Wait(), d.errs)
	}
	return d, nil
}

// Slow makes every sync take that long, those under way too; 0 = as long as it takes. It returns how many were asked for since
// the last change.
func (d *Disk) Slow(takes time.Duration) (asked int, err error) { return d.set(takes, false) }

// Fail makes every sync fail with EIO, those under way too, and returns as Slow does.
func (d *Disk) Fail() (asked int, err error) { return d.set(0, true) }

// Heal undoes Slow and Fail, and returns as Slow does.
func (d *Disk) Heal() (asked int, err error) { return d.set(0, false) }

func (d *Disk) set(takes time.Duration, fails bool) (asked int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintf(d.in, order+"\n", takes, fails); err != nil {
		return 0, fmt.Errorf("change slow disk: %w", err)
	}
	if !d.out.Scan() {
		return 0, errors.New("change slow disk: its server has ended")
	}
	if _, err := fmt.Sscanf(d.out.Text(), answer, &asked); err != nil {
		return 0, fmt.Errorf("change slow disk: %q: %w", d.out.Text(), err)
	}
	return asked, nil
}

// Unmount takes the disk away, from under those who have files open on it too, and waits for the end of its server. It may be
// called once.
func (d *Disk) Unmount() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := time.AfterFunc(stopWithin, func() { _ = d.cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	if err := errors.Join(d.in.Close(), d.cmd.Wait()); err != nil {
		return fmt.Errorf("unmount slow disk: %w: %s", err, d.errs)
	}
	return nil
}
