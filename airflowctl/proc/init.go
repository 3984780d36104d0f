package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How a daemon starts the init of a life: <initName> <initFlag> <mode> <name> <label>, with
// initEnv set. The flag is there to be refused by a program that does not call MaybeInit.
const (
	initName = "duoflow-init"
	initFlag = "--duoflow.init"
	initEnv  = "DUOFLOW_PROC_INIT"
)

// Files of an init beyond those of the main process (0 to 4).
const (
	fdOrders = 5 // read: one JSON order, then lines "reap" and "signal <n>"; its end is the daemon's end
	fdStatus = 6 // write: "ready", "warn <text>", "failed <errno> <text>", "started <pid>", "exit <wait status>", "empty"
)

// order is what an init shall do.
type order struct {
	Probe     bool // only say "ready"
	MountProc bool // in a mount namespace of its own: give it a /proc of its own
	Control   bool // the main process gets fd 3 and 4
	Command   command
}

// startedAsInit tells whether some daemon started this process as an init.
func startedAsInit() bool { return os.Getenv(initEnv) != "" }

// MaybeInit must be the first call of main, and of TestMain, in every program that makes a Forest.
// It returns at once, unless this process was started as the init of a life (pidns and group
// mode): then it serves as that and never returns.
func MaybeInit() {
	if !startedAsInit() || len(os.Args) != 5 || os.Args[0] != initName || os.Args[1] != initFlag {
		return
	}
	// Main's Pdeathsig looks at this thread.
	runtime.LockOSThread()
	i := lifeInit{mode: Mode(os.Args[2]), name: os.Args[3], reap: make(chan struct{})}
	// Not os.Exit: nothing of the program we are a copy of shall run at our end.
	syscall.Exit(i.run())
}

// initComm is the name an init bears in the process table: 15 bytes, all that fits.
func initComm(name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return fmt.Sprintf("df-%012x", h.Sum64()&(1<<48-1))
}

// lifeInit is process 1 of a PID namespace, or in group mode the subreaper of a life. It starts
// the main process, reaps all orphans, and ends when no process is left or the daemon has died.
type lifeInit struct {
	mode   Mode
	name   string // of the Forest
	orders *bufio.Reader
	status *os.File
	pid    int // main process, in our namespace
	pidfd  int
	reap   chan struct{}
}

func (i *lifeInit) run() int {
	// No signal may end us, and none may be ignored, since that would be inherited: so all go to
	// a channel nobody reads.
	signal.Notify(make(chan os.Signal, 1))
	for fd := 3; fd <= fdStatus; fd++ {
		syscall.CloseOnExec(fd)
	}
	i.orders = bufio.NewReader(os.NewFile(fdOrders, "orders"))
	i.status = os.NewFile(fdStatus, "status")
	// Of the whole process, not of this thread as prctl would.
	if err := os.WriteFile("/proc/self/comm", []byte(initComm(i.name)), 0); err != nil {
		return i.fail(fmt.Errorf("take name: %w", err))
	}
	text, err := i.orders.ReadBytes('\n')
	if err != nil {
		return i.fail(fmt.Errorf("read order: %w", err)) // the daemon died
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return i.fail(fmt.Errorf("read order: %w", err))
	}
	if err := i.prepare(o); err != nil {
		return i.fail(err)
	}
	if o.Probe {
		i.say("ready")
		return 0
	}
	if err := i.start(o); err != nil {
		return i.fail(err)
	}
	i.say("started %d", i.pid)
	go i.obey()
	<-i.reap
	return i.reapAll()
}

// fail ends an init that has started nothing.
func (i *lifeInit) fail(err error) int {
	var errno syscall.Errno // 0 if it is none
	errors.As(err, &errno)
	i.say("failed %d %v", int(errno), err)
	i.say("empty")
	return 1
}

// say tells the daemon. If it is gone, the end of the orders tells us so.
func (i *lifeInit) say(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	_, _ = i.status.WriteString(text + "\n")
}

func (i *lifeInit) prepare(o order) error {
	if i.mode == ModeGroup {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become subreaper: %w", err)
		}
		return nil
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("pid is %d in the new namespace, want 1", os.Getpid())
	}
	if !o.MountProc {
		return nil
	}
	// With the daemon's /proc still there, most programs run all the same: in a container where
	// proc may not be mounted that is better than no PID namespace.
	if err := mountProc(); err != nil {
		i.say("warn mount /proc: %v", err)
	}
	return nil
}

func mountProc() error {
	// Slave: mounts of the host still come in, but ours do not go out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

func (i *lifeInit) start(o order) error {
	files := []uintptr{0, 1, 2}
	if o.Control {
		files = append(files, 3, 4)
	}
	var err error
	// Not os.StartProcess: its Process would wait for a child that reapAll waits for.
	i.pid, err = syscall.ForkExec(o.Command.Path, o.Command.Args, &syscall.ProcAttr{
		Dir: o.Command.Dir, Env: o.Command.Env, Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &i.pidfd,
			Credential: o.Command.Account.credential(),
		},
	})
	if err != nil {
		return fmt.Errorf("exec %s: %w", o.Command.Path, err)
	}
	// The pipes shall end with the job, not with us.
	for fd := 1; fd <= 4; fd++ {
		if err := unix.Dup3(0, fd, unix.O_CLOEXEC); err != nil {
			i.say("warn let go of pipes: %v", err)
		}
	}
	return nil
}

// obey follows the orders until the daemon dies.
func (i *lifeInit) obey() {
	for {
		line, err := i.orders.ReadString('\n')
		if err != nil {
			break
		}
		verb, arg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch verb {
		case "reap":
			close(i.reap) // the daemon has found main's pid, which had to stay until then
		case "signal":
			if n, err := strconv.Atoi(arg); err == nil {
				// Fails only when main is gone, and that the daemon hears anyway.
				_ = unix.PidfdSendSignal(i.pidfd, syscall.Signal(n), nil, 0)
			}
		}
	}
	if i.mode == ModePIDNS {
		syscall.Exit(0) // and the kernel kills the rest
	}
	if !closed(i.reap) {
		close(i.reap)
	}
	for { // until reapAll finds nothing left and ends us
		_ = killDescendants(os.Getpid())
		time.Sleep(killEvery)
	}
}

// reapAll waits for every child, ours and adopted, until there is none.
func (i *lifeInit) reapAll() int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		switch {
		case err == syscall.EINTR:
		case err == syscall.ECHILD:
			i.say("empty")
			return 0
		case err != nil:
			i.say("warn wait: %v", err)
			return 1
		case pid == i.pid:
			i.say("exit %d", uint32(status))
		}
	}
}
