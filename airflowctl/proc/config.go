package proc

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
)

// Mode is the way a tree is held together. It is shown to operators as it is.
type Mode string

// The modes, best first.
const (
	ModeCgroup Mode = "cgroup" // cgroup v2 with cgroup.kill (Linux 5.14)
	ModePIDNS  Mode = "pidns"  // PID namespace, inside a user namespace when not root
	ModeGroup  Mode = "group"  // degraded: subreaper and a walk of /proc
)

// Errors that callers tell apart.
var (
	// ErrNotEmpty: processes of the tree were still there when the context ended.
	ErrNotEmpty = errors.New("process tree not empty")
	// ErrLost: the init of a life in group mode was killed by someone else, so that nobody can
	// tell any more which processes belonged to it. The life never counts as empty.
	ErrLost = errors.New("process tree lost: its init was killed")
	// ErrExists: a life of this label is still there.
	ErrExists = errors.New("a life of this label exists")
	// ErrNoControl: Send on a life without a control pipe, or after Stop or Kill closed it.
	ErrNoControl = errors.New("no control pipe")
	// ErrNoInit: main does not call MaybeInit first, which pidns and group mode need.
	ErrNoInit = errors.New("main does not call proc.MaybeInit")
)

// Config describes the trees of one job on this node.
type Config struct {
	// Name tells this job's trees from all others on the host: Clear kills whatever bears it.
	// Letters, digits, - and _, at most 64. Two daemons on one host must not share a Name.
	Name string
	// Logger gets the few things nobody else can report; nil discards them.
	Logger *slog.Logger
	// Started, unless nil, is called when a process has been started, or could not be. A child that becomes another user shares our
	// memory until its exec(2), and so the kernel sets whether that may be dumped to what fs.suid_dumpable says, for us too.
	Started func()
	// ForceMode takes this mode or fails; "" picks the best one possible.
	ForceMode Mode
}

// pathSafe has no dot, so that no label can look like a cgroup interface file.
var pathSafe = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func (c Config) validate() error {
	var problems []error
	if !pathSafe.MatchString(c.Name) {
		problems = append(problems, fmt.Errorf("name %q: want %s", c.Name, pathSafe))
	}
	switch c.ForceMode {
	case "", ModeCgroup, ModePIDNS, ModeGroup:
	default:
		problems = append(problems, fmt.Errorf("mode %q: want cgroup, pidns or group", c.ForceMode))
	}
	return errors.Join(problems...)
}
