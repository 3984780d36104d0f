package airflowctl

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/hook"
	"github.com/duoflow/duoflow/airflowctl/schedule"
)

// Kind is what kind of program a job is.
type Kind string

const (
	// Airflow is an Airflow scheduler, started through the warm-standby shim.
	Airflow Kind = "airflow"
	// Command is any program that connects to the database by service name.
	Command Kind = "command"
)

// ErrSuperseded: another grant has the fence; this epoch is over and trying again is pointless.
var ErrSuperseded = errors.New("superseded by another grant")

// ErrRefused: it cannot work as things are; somebody must change something.
var ErrRefused = errors.New("refused")

// Config is one job on one host.
type Config struct {
	// Name of the job, Node of this host; both as in package node.
	Name, Node string
	Kind       Kind
	// Python is the interpreter Airflow is installed for; only for Airflow.
	Python string
	// Command is the program and its arguments; only for Command.
	Command []string
	// Schedule says when Command runs, as schedule.Parse reads it; empty: all the time. Runner is then the program, with its
	// first arguments, that runs it at those times: it gets `--schedule <Schedule> -- <Command>` and is the life's main process.
	Schedule string
	Runner   []string
	// Warm keeps an imported standby process ready; only for Airflow.
	Warm bool
	// AcceptRevisions are revisions of Airflow's schema that the operator vouches for; only for Airflow.
	AcceptRevisions []string
	// User runs the process tree; empty: the daemon's own user.
	User string
	// Env is the whole environment the job starts from, `name=value` each.
	Env []string
	// Dir is the working directory; empty: Root.
	Dir string
	// Root is a directory of this job's own, for service files and output.
	Root string
	// Hooks are an operator's commands around what happens here, HookTimeout how long each may take; see package hook.
	Hooks       map[hook.Name][]string
	HookTimeout time.Duration
	// FenceDSN logs in as this host's fencer; Group is the role an epoch is granted. DSN holds a password.
	FenceDSN, Group string
	// Life is which life of the cluster this node is of, as fence.Config has it; nil: the first.
	Life func() uint64
	// Started, unless nil, is called whenever a process has been started; see proc.Config.
	Started func()
	// Broker gives each epoch a user of its own at RabbitMQ; nil: Celery connects as configured. Only for Airflow.
	Broker *Broker
	// Gate is shared with the other jobs of this program: how many connect to one metastore at a time. nil: as many as there are.
	Gate *fence.Gate
	// Observer is told what happens. It must not block.
	Observer Observer
	Logger   *slog.Logger
}

// Observer is told what happens to a job, from any goroutine.
type Observer interface {
	Health(h fence.Health)
	Exited(epoch uint64, detail string)
	Idle(epoch uint64, idle time.Duration)
}

// Status is what people may want to know about a job on this host.
type Status struct {
	// Warm: a standby process is imported and waits.
	Warm bool
	// Shadow: nothing is done here, see type Shadow.
	Shadow bool
	// Line is what the life of the current epoch says of itself; of kind Airflow, what is unsafe about it.
	Line Line
	// Numbers are what that life counts of itself. Nobody may change them.
	Numbers []Number
	// Slots is what its schedule comes to, as a Line's Text: the next slot, and what became of the newest; empty: unknown.
	Slots string
	// MirroredAt is when the mirror rows were last written, on this host's clock; zero: never.
	MirroredAt time.Time
	// LastLines is the end of the output of the lives that ended here, by epoch.
	LastLines map[uint64][]string
	// HooksWaiting is how many hooks are still to be told what has happened.
	HooksWaiting int
	// LostLines is how many lines of output could not be written since the daemon started.
	LostLines uint64
}

// commandLine is what the main process of a command's life is started with.
func (c Config) commandLine() []string {
	if c.Schedule == "" {
		return c.Command
	}
	return slices.Concat(c.Runner, []string{"--schedule", c.Schedule, "--"}, c.Command)
}

// newBroker makes the fence of the broker; nil when none is configured.
func (c Config) newBroker() (*broker.Fence, error) {
	switch {
	case c.Broker == nil:
		return nil, nil
	case c.Kind != Airflow:
		return nil, fmt.Errorf("a job of kind %s gets no user at the broker", c.Kind)
	}
	config := c.Broker.Config
	config.Job, config.Logger = c.Name, c.Logger
	return broker.New(config)
}

// checkSchedule refuses what could never be run.
func (c Config) checkSchedule() error {
	switch _, err := schedule.Parse(c.Schedule); {
	case c.Schedule == "":
		return nil
	case err != nil:
		return err
	case c.Kind != Command:
		return fmt.Errorf("a job of kind %s runs all the time", c.Kind)
	case len(c.Runner) == 0:
		return errors.New("nothing runs it: Runner is empty")
	}
	return nil
}

// service names the section of a life's service file.
func (k Kind) service() string {
	if k == Airflow {
		return "airflow"
	}
	return "duoflow"
}

// treeName tells this daemon's process trees from all others on the host. A daemon is its data directory: two that
// share a host, in a test or for two clusters, may well have the names of node and job in common.
func (c Config) treeName() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Root)) // a hash never fails
	return fmt.Sprintf("%s-%s-%08x", c.Node, c.Name, h.Sum32())
}

// owner returns the ids that the job's files are given to; -1 each for the daemon's own.
func (c Config) owner() (uid, gid int, err error) {
	if c.User == "" {
		return -1, -1, nil
	}
	u, err := user.Lookup(c.User)
	if err != nil {
		return 0, 0, err
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}
