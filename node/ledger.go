package node

import (
	"fmt"
	"slices"
	"sync"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// ledger is the replicated state machine as raftstore drives it: it decodes what the log says, applies it, and tells
// the machines what changed. Readers get copies.
type ledger struct {
	mail *mailbox

	mu      sync.Mutex
	state   lease.State
	applied uint64
	// watched are commands, as they are in the log, whose outcome somebody waits for.
	watched map[string]*watched
}

// watched is a command's outcome; of one that is in the log several times, the newest.
type watched struct {
	lease.Outcome
	by int // how many wait
}

func newLedger(mail *mailbox) *ledger { return &ledger{mail: mail, watched: map[string]*watched{}} }

// Apply implements raftstore.StateMachine. A command this program cannot read ends it: to skip an entry that the
// other nodes carry out would be to disagree with them for ever, unnoticed.
func (l *ledger) Apply(index uint64, command []byte) {
	c, err := lease.DecodeCommand(command)
	if err != nil {
		panic(fmt.Sprintf("node: log entry %d: %v", index, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.state.ApplyAt(index, c)
	l.applied = index
	if w := l.watched[string(command)]; w != nil {
		w.Outcome = out
	}
	switch {
	case !out.Accepted:
	case c.Configure != nil:
		l.tellAll()
	case c.Retire != nil:
		l.tellAll()
	default:
		l.tell(out.Job)
	}
}

// Snapshot implements raftstore.StateMachine.
func (l *ledger) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Snapshot(), nil
}

// Restore implements raftstore.StateMachine.
func (l *ledger) Restore(snapshot []byte) error {
	state, err := lease.DecodeSnapshot(snapshot)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	l.tellAll()
	return nil
}

// picture is the whole state, encoded, and the index of the newest command that was applied to it here; 0 = none. A snapshot that came
// since may be newer.
func (l *ledger) picture() (state []byte, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Snapshot(), l.applied
}

// tell posts to every job, for a job may follow another.
func (l *ledger) tell(name lease.JobName) {
	if job, ok := l.state.Job(name); ok {
		l.mail.post("", control.Lease{Job: job})
	}
}

func (l *ledger) tellAll() {
	l.mail.post("", control.Members{Nodes: slices.Clone(l.state.Nodes)})
	for i := range l.state.Jobs {
		l.tell(l.state.Jobs[i].Name)
	}
}

// job returns what the log says of a job.
func (l *ledger) job(name lease.JobName) lease.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	job, _ := l.state.Job(name)
	return job
}

// agreed is job without its history.
func (l *ledger) agreed(name lease.JobName) lease.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Agreed(name)
}

// newest returns a job's newest entries, at most n, oldest first.
func (l *ledger) newest(name lease.JobName, n int) []lease.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Newest(name, n)
}

// watch remembers what becomes of a command that is about to be proposed, until done is called.
func (l *ledger) watch(command []byte) (outcome func() lease.Outcome, done func()) {
	key := string(command)
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.watched[key]
	if w == nil {
		w = &watched{}
		l.watched[key] = w
	}
	w.by++
	outcome = func() lease.Outcome {
		l.mu.Lock()
		defer l.mu.Unlock()
		return w.Outcome
	}
	done = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.by--; w.by == 0 {
			delete(l.watched, key)
		}
	}
	return outcome, done
}

// nodes returns the members that are agreed on.
func (l *ledger) nodes() []lease.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.state.Nodes)
}

// try says what would become of a command if it were applied now. It changes nothing.
func (l *ledger) try(c lease.Command) lease.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Try(c)
}

// lacks reports whether the cluster has not yet agreed on these members and on the jobs of the configuration.
func (l *ledger) lacks(nodes []lease.Node, jobs []lease.JobName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.EqualFunc(l.state.Nodes, nodes, func(a, b lease.Node) bool { return a.ID == b.ID && a.Witness == b.Witness })
	if !known {
		return true
	}
	return slices.ContainsFunc(jobs, func(name lease.JobName) bool { return !l.state.Knows(name) })
}
