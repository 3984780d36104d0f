package web

import "time"

// JobView is one job as this node sees it.
type JobView struct {
	Name   string `json:"job"`              // as configured
	State  string `json:"state"`            // of the job on this node, in the words of node/control
	Active bool   `json:"active"`           // this node holds the job and runs it
	Epoch  uint64 `json:"epoch"`            // current epoch of the job; 0 = never granted
	Holder string `json:"holder"`           // node that holds it; empty = none
	Unsafe string `json:"unsafe,omitempty"` // why the job is not fully fenced; empty = fenced
	// Detection says why this node lets the holder be unheard for longer than its profile does; empty = it does not.
	Detection string `json:"detection,omitempty"`
	// Status is what the job says of itself where it runs, StatusAgeMS how long ago it did; empty = nothing.
	Status      string `json:"status,omitempty"`
	StatusAgeMS int64  `json:"status_age_ms,omitempty"`
	// Schedule is what the job's schedule comes to: its next slot, and what became of the newest; empty = unknown, or it has none.
	Schedule string `json:"schedule,omitempty"`
	// Paused says what a pause holds back, by whom and why; Planned what is to be moved, and when; empty = nothing.
	Paused  string `json:"paused,omitempty"`
	Planned string `json:"planned,omitempty"`

	// For the page only.
	On      []OnView `json:"-"` // every node, in the order of the configuration
	Suspect string   `json:"-"` // why this node, as raft leader, suspects the holder; empty = it does not
}

// StatusAge is StatusAgeMS for people.
func (j JobView) StatusAge() string {
	return (time.Duration(j.StatusAgeMS) * time.Millisecond).Round(time.Second).String()
}

// View is what the node's loop published last.
type View struct {
	Node    string        `json:"node"`           // this node's name
	Witness bool          `json:"witness"`        // it votes and never runs a job
	Quorum  bool          `json:"quorum"`         // it is in touch with a majority
	Ready   bool          `json:"ready"`          // knows a leader or is active, and reaches the metastore unless witness
	Leader  string        `json:"leader"`         // raft leader; empty = unknown
	Reason  string        `json:"reason"`         // why it is not ready; empty when it is
	Age     time.Duration `json:"-"`              // since the loop published this; 0 = just now
	Jobs    []JobView     `json:"jobs,omitempty"` // in the order of the configuration

	// For the page only.
	Nodes []NodeView `json:"-"`
	Moves []MoveView `json:"-"` // the newest first
	Now   time.Time  `json:"-"` // of this host's clock, for people
}

// staleAfter is the age at which a View says nothing any more. A healthy loop publishes many times a second; on an
// overloaded host a check should not fail before the peers' own detection (0.15 to 2 s) would.
const staleAfter = 2 * time.Second

func (v View) stale() bool { return v.Age > staleAfter }

// job finds the named job, or the first when name is empty.
func (v View) job(name string) (JobView, bool) {
	for _, j := range v.Jobs {
		if name == "" || j.Name == name {
			return j, true
		}
	}
	return JobView{}, false
}
