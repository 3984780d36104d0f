package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Spec is what to run as one life.
type Spec struct {
	// Label is the life's id within the Forest. Letters, digits, - and _, at most 64.
	Label string
	// Args is the command; Args[0] without a slash is looked for in PATH (of Env, else our own).
	Args []string
	// Env is the whole environment, as given; empty means an empty environment.
	Env []string
	// Dir is the working directory; "" is the daemon's.
	Dir string
	// User is the account to run as, with its groups; "" and no UID means the daemon's own.
	User string
	// UID and GID are given together, instead of User; there are no further groups then.
	UID, GID *uint32
	// Control gives the child a pipe pair: it reads what Send writes on fd 3, and what it writes
	// on fd 4 comes out of Lines.
	Control bool
	// Output gets stdout and stderr together, one Write per line; nil discards them. An error
	// of Output loses the line and never stops the job, but a slow Output slows the job.
	Output io.Writer
}

// command is a Spec made ready to start. It travels as JSON to the init of a life.
type command struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	// Account is nil when the child keeps the daemon's own user.
	Account *account
}

type account struct {
	UID, GID uint32
	Groups   []uint32
}

func (s Spec) command() (command, error) {
	if !pathSafe.MatchString(s.Label) {
		return command{}, fmt.Errorf("label %q: want %s", s.Label, pathSafe)
	}
	if len(s.Args) == 0 || s.Args[0] == "" {
		return command{}, errors.New("no command")
	}
	account, err := s.account()
	if err != nil {
		return command{}, err
	}
	path, err := lookPath(s.Args[0], s.Env)
	if err != nil {
		return command{}, err
	}
	// A nil environment would mean our own to os.StartProcess.
	env := append(make([]string, 0, len(s.Env)), s.Env...)
	return command{Path: path, Args: s.Args, Env: env, Dir: s.Dir, Account: account}, nil
}

func (s Spec) account() (*account, error) {
	var want *account
	switch {
	case s.User != "" && (s.UID != nil || s.GID != nil):
		return nil, errors.New("both User and UID or GID given")
	case (s.UID == nil) != (s.GID == nil):
		return nil, errors.New("UID and GID must be given together")
	case s.UID != nil:
		want = &account{UID: *s.UID, GID: *s.GID}
	case s.User != "":
		found, err := lookAccount(s.User)
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", s.User, err)
		}
		want = found
	default:
		return nil, nil
	}
	// Without privileges even the switch to oneself is refused (setgroups), so leave it out. Any
	// other is for the kernel to judge: a daemon may have CAP_SETUID without being root.
	if os.Geteuid() != 0 && int(want.UID) == os.Geteuid() && int(want.GID) == os.Getegid() {
		return nil, nil
	}
	return want, nil
}

func lookAccount(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	ids, err := parseIDs(append([]string{u.Uid, u.Gid}, groups...))
	if err != nil {
		return nil, err
	}
	return &account{UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

func parseIDs(texts []string) ([]uint32, error) {
	ids := make([]uint32, 0, len(texts))
	for _, text := range texts {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, uint32(id))
	}
	return ids, nil
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
}

// lookPath is exec.LookPath with the PATH of the child's environment, which is the one meant.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	list := os.Getenv("PATH")
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			list = value
		}
	}
	for _, dir := range filepath.SplitList(list) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s in PATH: %w", name, os.ErrNotExist)
}
