package control

import (
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// Kind names an effect.
type Kind string

const (
	// Clear kills whatever process trees of this job earlier daemons have left on this host.
	Clear Kind = "clear"
	// Take makes the fence row and the role of the epoch.
	Take Kind = "take"
	// Drain ends the sessions of older epochs and waits until none can commit.
	Drain Kind = "drain"
	// Adopt hands the work of dead lives to the coming one.
	Adopt Kind = "adopt"
	// Start gives the credentials of the epoch to one process life and lets it run.
	Start Kind = "start"
	// Stop ends the process tree of the epoch; it succeeds only when the tree is empty.
	Stop Kind = "stop"
	// Surrender disables the epoch's own role, after its tree is empty.
	Surrender Kind = "surrender"
	// Mirror writes the mirror rows with the epoch's role.
	Mirror Kind = "mirror"
	// Propose puts a command to the replicated log.
	Propose Kind = "propose"
	// Moved reports a transition: for the log, the history and the metrics. It is not answered.
	Moved Kind = "moved"
)

// Effect is something to be done by the node. Effects are values; carrying one out twice is harmless.
type Effect struct {
	Kind  Kind
	Epoch lease.Epoch
	// Grace is set for Stop: from SIGTERM to kill.
	Grace time.Duration
	// Command is set for Propose.
	Command *lease.Command
	// Move is set for Moved.
	Move *Transition
}

// Transition is one row of the table having been taken.
type Transition struct {
	From, To State
	At       Instant
	// Cause and Detail say why, when the row is about an end.
	Cause  lease.Cause
	Detail string
	// Say is the row's sentence.
	Say string
}
