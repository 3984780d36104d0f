package control

import (
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// Input is something that happened. The set is closed.
type Input interface{ event() event }

// event names an input kind in the transition table.
type event string

const (
	onBegin    event = "begin"
	onLease    event = "lease"
	onFence    event = "fence"
	onDone     event = "done"
	onExited   event = "exited"
	onProgress event = "progress"
	onForce    event = "force"
	onQuit     event = "quit"
	onTick     event = "tick"
	onLeading  event = "leading"
	onMembers  event = "members"
	onBeat     event = "beat"
	onLost     event = "lost"
	onProposed event = "proposed"
)

// Begin is the first input of a machine.
type Begin struct{}

// Lease is the job's state as the replicated log has it, after an accepted command.
type Lease struct{ Job lease.Job }

// Row is a fence row as read from the metastore. The zero value is a job that was never fenced.
type Row struct {
	Epoch lease.Epoch  `json:"epoch"`
	Node  lease.NodeID `json:"node,omitempty"`
	Token lease.Token  `json:"token,omitempty"`
}

// Fence is what the latest look at the metastore found.
type Fence struct {
	// Healthy: reachable within a second, and writable. Row and HighestRole count only then.
	Healthy bool
	Row     Row
	// HighestRole is the greatest epoch that has a role in the database; it may exceed the row's after a restore.
	HighestRole lease.Epoch
}

// Outcome is how an effect ended.
type Outcome string

const (
	// OK: done, and safe to do again.
	OK Outcome = "ok"
	// Failed: not done, or not known to be done; trying again may help.
	Failed Outcome = "failed"
	// Superseded: the fence row belongs to another grant; this epoch is over.
	Superseded Outcome = "superseded"
	// Refused: it will never work as things are (wrong schema, missing program).
	Refused Outcome = "refused"
)

// Done is the result of an effect.
type Done struct {
	Of      Kind
	Epoch   lease.Epoch
	Outcome Outcome
	Detail  string
}

// Exited says that the main process of the epoch's life ended by itself.
type Exited struct {
	Epoch  lease.Epoch
	Detail string
}

// Progress says how long, by the database's clock, the epoch's job has made none.
type Progress struct {
	Epoch lease.Epoch
	Idle  time.Duration
}

// Force is an operator's order, given without quorum, to take the fence under Epoch (fence row + 1).
type Force struct{ Epoch lease.Epoch }

// Quit says that this daemon is being stopped.
type Quit struct{}

// Tick lets time pass.
type Tick struct{}

// Leading says whether this node is raft leader with its own-term entry applied.
type Leading struct{ On bool }

// Members is the agreed membership.
type Members struct{ Nodes []lease.Node }

// Beat is what a node says of itself and one job, heard by the leader.
type Beat struct {
	From lease.NodeID
	Said Report
}

// Lost says that the connection to a node closed. Refused: and a redial was refused, so its process is gone while
// its host is up.
type Lost struct {
	Node    lease.NodeID
	Refused bool
}

// Proposed says that a proposal of the granter has ended, accepted or not.
type Proposed struct{}

// Report is one node's volatile word about itself and one job. It never enters the log.
type Report struct {
	Token   lease.Token `json:"token"`
	Goodbye bool        `json:"goodbye,omitempty"`
	// Hears are the nodes it has heard from within its own silence time.
	Hears []lease.NodeID `json:"hears,omitempty"`
	State State          `json:"state"`
	Epoch lease.Epoch    `json:"epoch,omitempty"`
	// Healthy, Row and HighestRole are those of the latest Fence input.
	Healthy     bool        `json:"healthy,omitempty"`
	Row         Row         `json:"row"`
	HighestRole lease.Epoch `json:"highest_role,omitempty"`
	// Unwritable: the daemon's own log has a disk that takes no writes. A grant would be the end of the daemon.
	Unwritable bool `json:"unwritable,omitempty"`
	// Warm: a standby process is imported and waiting.
	Warm bool `json:"warm,omitempty"`
}

func (Begin) event() event    { return onBegin }
func (Lease) event() event    { return onLease }
func (Fence) event() event    { return onFence }
func (Done) event() event     { return onDone }
func (Exited) event() event   { return onExited }
func (Progress) event() event { return onProgress }
func (Force) event() event    { return onForce }
func (Quit) event() event     { return onQuit }
func (Tick) event() event     { return onTick }
func (Leading) event() event  { return onLeading }
func (Members) event() event  { return onMembers }
func (Beat) event() event     { return onBeat }
func (Lost) event() event     { return onLost }
func (Proposed) event() event { return onProposed }
