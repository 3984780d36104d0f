package proc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// initTimeout bounds what an init does before it has started the main process.
const initTimeout = 10 * time.Second

// selfExe is this program even after its file was replaced by an upgrade.
const selfExe = "/proc/self/exe"

// initTree is a life with an init: pidns and group mode.
type initTree struct {
	mode   Mode
	init   *child
	orders *os.File // its end makes the init end everything
	status *os.File
	heard  chan struct{} // status was read to its end
	empty  bool          // the init said so; valid when heard is closed
	group  atomic.Int64  // process group of main, in group mode; 0 before it runs
}

func (t *initTree) tell(format string, args ...any) error {
	if err := t.orders.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.orders, format+"\n", args...)
	return err
}

func (t *initTree) signal(sig syscall.Signal) error { return t.tell("signal %d", int(sig)) }

func (t *initTree) kill() error {
	if t.mode == ModePIDNS {
		err := t.init.process.Kill()
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return err
	}
	t.init.mu.Lock()
	defer t.init.mu.Unlock()
	if closed(t.init.reaped) {
		return nil
	}
	// A stopped init would reap nobody.
	if err := t.init.process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continue init: %w", err)
	}
	return killDescendants(t.init.process.Pid)
}

// reclaim relies on the kernel in pidns mode: init is not reaped before its namespace is empty.
// In group mode the init says it, when it has no child left; descendants always end up as its
// children, because it is their subreaper.
func (t *initTree) reclaim() (bool, error) {
	if !closed(t.init.reaped) || !closed(t.heard) {
		return false, nil
	}
	if t.mode == ModeGroup && !t.empty {
		return false, ErrLost
	}
	closeAll(t.orders)
	return true, nil
}

// launchInit starts this program as an init. files are 0 to 4 of it.
func launchInit(mode Mode, name, label string, files []*os.File) (*initTree, error) {
	ordersOurs, ordersChild, err := pipeFor(true)
	if err != nil {
		return nil, err
	}
	defer closeAll(ordersChild)
	statusOurs, statusChild, err := pipeFor(false)
	if err != nil {
		closeAll(ordersOurs)
		return nil, err
	}
	defer closeAll(statusChild)
	args := []string{initName, initFlag, string(mode), name, label}
	init, err := startChild(selfExe, args, &os.ProcAttr{
		Env: []string{initEnv + "=1"}, Sys: initAttributes(mode),
		Files: append(slices.Clone(files), ordersChild, statusChild),
	}, func() {})
	if err != nil {
		closeAll(ordersOurs, statusOurs)
		return nil, fmt.Errorf("start init: %w", err)
	}
	return &initTree{
		mode: mode, init: init, orders: ordersOurs, status: statusOurs, heard: make(chan struct{}),
	}, nil
}

// initAttributes: in group mode there is no Pdeathsig, because the init has to live on for a
// moment when the daemon dies: it ends the tree, told by the end of its orders.
func initAttributes(mode Mode) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if mode == ModeGroup {
		return attr
	}
	attr.Pdeathsig = syscall.SIGKILL
	attr.Cloneflags = syscall.CLONE_NEWPID
	if os.Geteuid() == 0 {
		attr.Cloneflags |= syscall.CLONE_NEWNS
		return attr
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	return attr
}

func (t *initTree) give(o order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode order: %w", err)
	}
	if err := t.orders.SetWriteDeadline(time.Now().Add(initTimeout)); err != nil {
		return err
	}
	if _, err := t.orders.Write(append(text, '\n')); err != nil && !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("give order: %w", err)
	}
	return nil // EPIPE: the init is gone already, and its status tells more
}

// startInit starts the command as the first child of a new init.
func (f *Forest) startInit(life *Life, cmd command) error {
	files := slices.Clone(life.wires.child)
	for len(files) < fdOrders {
		files = append(files, files[0])
	}
	t, err := launchInit(f.mode, f.name, life.label, files)
	if err != nil {
		return err
	}
	life.wires.closeChild()
	life.tree = t
	first := make(chan string, 1)
	go t.listen(life, first)
	pid, err := t.handshake(order{
		MountProc: f.mode == ModePIDNS && os.Geteuid() == 0,
		Control:   life.wires.commands != nil,
		Command:   cmd,
	}, first)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), initTimeout)
		defer cancel()
		closeAll(t.orders)
		return errors.Join(err, life.Kill(ctx))
	}
	life.pid = pid
	return nil
}

// handshake gives the order and returns main's pid in our namespace, 0 if it is not visible.
func (t *initTree) handshake(o order, first <-chan string) (int, error) {
	if err := t.give(o); err != nil {
		return 0, err
	}
	timer := time.NewTimer(initTimeout)
	defer timer.Stop()
	var line string
	select {
	case line = <-first:
	case <-timer.C:
		return 0, fmt.Errorf("wait for init: %w", os.ErrDeadlineExceeded)
	}
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "started":
	case "failed":
		return 0, readFailure(arg)
	default:
		return 0, ErrNoInit
	}
	inner, err := strconv.Atoi(arg)
	if err != nil {
		return 0, fmt.Errorf("read pid of main: %w", err)
	}
	pid := t.outerPID(inner)
	if err := t.tell("reap"); err != nil && !errors.Is(err, syscall.EPIPE) {
		return 0, fmt.Errorf("let init reap: %w", err)
	}
	return pid, nil
}

// outerPID finds the child of the init that has this pid in the init's namespace. The init reaps
// nobody until told, so it is there even if it has ended.
func (t *initTree) outerPID(inner int) int {
	if t.mode == ModeGroup {
		t.group.Store(int64(inner))
		return inner
	}
	list, err := readProcesses()
	if err != nil {
		return 0
	}
	for _, p := range list {
		if p.parent == t.init.process.Pid && innerPID(p.pid) == inner {
			return p.pid
		}
	}
	return 0
}

// listen follows what the init says until it has ended. The first line that is no warning goes to
// first.
func (t *initTree) listen(life *Life, first chan<- string) {
	begun := false
	eachLine(t.status, func(line []byte) {
		verb, arg, _ := strings.Cut(string(line), " ")
		switch {
		case verb == "warn":
			warn(life.log, life.label, arg)
		case !begun:
			begun = true
			first <- string(line)
		case verb == "exit":
			if n, err := strconv.ParseUint(arg, 10, 32); err == nil {
				life.ended(exitOf(syscall.WaitStatus(n)))
			}
		case verb == "empty":
			t.empty = true
		}
	})
	closeAll(t.status)
	if !begun {
		first <- ""
	}
	<-t.init.reaped
	if group := int(t.group.Load()); group > 0 && !t.empty {
		// Lost. Those that stayed in main's process group can still be reached.
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	close(t.heard)
	life.ended(exitBySignal(syscall.SIGKILL)) // if it did not end before: it went with its init
	if _, err := life.step(false); err != nil {
		warn(life.log, life.label, err.Error())
	}
}

func warn(log *slog.Logger, label, text string) {
	log.Warn("init of "+label, "reason", text)
}

// probeInit tells whether an init of this mode can be started, and whether main calls MaybeInit.
func probeInit(mode Mode, name string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open null: %w", err)
	}
	defer closeAll(null)
	t, err := launchInit(mode, name, "probe", []*os.File{null, null, null, null, null})
	if err != nil {
		return err
	}
	defer closeAll(t.orders, t.status)
	err = t.give(order{Probe: true})
	answer := ""
	if err == nil {
		err = t.status.SetReadDeadline(time.Now().Add(initTimeout))
	}
	if err == nil {
		eachLine(t.status, func(line []byte) {
			if answer == "" {
				answer = string(line)
			}
		})
	}
	// Whatever it is, it must not go on: it may be a program that does not know MaybeInit.
	if killErr := t.init.process.Kill(); killErr != nil && !errors.Is(killErr, os.ErrProcessDone) {
		err = errors.Join(err, killErr)
	}
	<-t.init.reaped
	if err != nil {
		return err
	}
	if answer == "ready" {
		return nil
	}
	if text, ok := strings.CutPrefix(answer, "failed "); ok {
		return readFailure(text)
	}
	return ErrNoInit
}

// readFailure makes an error again of what the init said, one that errors.Is can tell.
func readFailure(text string) error {
	number, rest, _ := strings.Cut(text, " ")
	errno, err := strconv.Atoi(number)
	if err != nil || errno == 0 {
		return errors.New(rest)
	}
	rest = strings.TrimSuffix(rest, ": "+syscall.Errno(errno).Error())
	return fmt.Errorf("%s: %w", rest, syscall.Errno(errno))
}
