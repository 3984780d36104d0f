package hook

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"
)

// Name is one of the moments a command may be run at.
type Name string

const (
	// PreStart is asked when everything is ready for a life to begin. A command that does not end with 0 in time vetoes it.
	PreStart Name = "pre_start"
	// PostStart is told when a life has begun.
	PostStart Name = "post_start"
	// PreStop is asked before a life is ended that still runs. Nothing can be vetoed any more.
	PreStop Name = "pre_stop"
	// PostStop is told when nothing of a life is left.
	PostStop Name = "post_stop"
	// OnFence is told when this host has taken the fence, so that older epochs are cut off.
	OnFence Name = "on_fence"
)

// Names are all of them, in the order in which they come about in the life of an epoch.
func Names() []Name { return []Name{OnFence, PreStart, PostStart, PreStop, PostStop} }

// DefaultTimeout is how long a command may take.
const DefaultTimeout = 10 * time.Second

// Config is what a Runner is made of.
type Config struct {
	Job, Node string
	// Commands are programs with their arguments; a hook without one does nothing.
	Commands map[Name][]string
	// Timeout is how long a command may take before it is killed; 0: DefaultTimeout.
	Timeout time.Duration
	// Dir keeps what is still to be told; it is made when missing.
	Dir string
	// Env is the whole environment a command starts from, `name=value` each.
	Env []string
	// UID and GID are whom a command runs as; -1 each: the daemon's own.
	UID, GID int
	// Started, unless nil, is called when a command has been started, or could not be; see proc.Config.
	Started func()
	Logger  *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	for name, command := range c.Commands {
		if !slices.Contains(Names(), name) {
			errs = append(errs, fmt.Errorf("hook %q: want one of %v", name, Names()))
		}
		if len(command) == 0 || !filepath.IsAbs(command[0]) {
			errs = append(errs, fmt.Errorf("hook %s: %q: want a program with its whole path", name, command))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("hooks: timeout %s: want 0s or more", c.Timeout))
	}
	return errors.Join(errs...)
}

// Check says what is wrong with commands; nil when nothing is.
func Check(commands map[Name][]string, timeout time.Duration) error {
	return Config{Commands: commands, Timeout: timeout}.validate()
}
