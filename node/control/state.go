package control

// State is what this host is doing about a job.
type State string

const (
	// Boot: killing what earlier daemons left; nothing may start before that is done.
	Boot State = "boot"
	// Standby: ready to be granted the job.
	Standby State = "standby"
	// Fencing: granted, taking the fence.
	Fencing State = "fencing"
	// Draining: fence committed, older sessions are being ended.
	Draining State = "draining"
	// Adopting: no older session can commit any more, the dead life's work is being taken over.
	Adopting State = "adopting"
	// Starting: the process has been told to go.
	Starting State = "starting"
	// Active: the process runs with the credentials of the epoch.
	Active State = "active"
	// Stopping: the epoch is over here, its process tree is being emptied.
	Stopping State = "stopping"
	// Left: the daemon is being stopped; its tree is empty and it will not run the job again.
	Left State = "left"
	// Witness: votes, never runs a job.
	Witness State = "witness"
)

// taking are the states between the grant and the running job.
var taking = []State{Fencing, Draining, Adopting, Starting}

// pursues is the effect each taking state waits for.
func (s State) pursues() Kind {
	switch s {
	case Boot:
		return Clear
	case Fencing:
		return Take
	case Draining:
		return Drain
	case Adopting:
		return Adopt
	case Starting:
		return Start
	case Stopping:
		return Stop
	default: // standby, active, left and witness wait for the world, not for an effect
		return ""
	}
}
