package audit

import "time"

// Kind is what a finding is about.
type Kind string

// The kinds of findings. None of them is ever right.
const (
	LedgerOrder Kind = "ledger out of order" // a take that is not above the one before, or a line without its take
	RowDiffers  Kind = "row differs"         // the fence row is not the newest take
	RoleArmed   Kind = "role armed"          // a role of another epoch than the row's, or of a released one, could write
	OldSession  Kind = "old session"         // a role of an older epoch is connected, or has a prepared transaction
	Overlap     Kind = "overlap"             // two schedulers at a time, or two process trees on one host
	TryTwice    Kind = "try ran twice"       // a worker was let begin the body of one try twice
)

// Report is what the evidence shows.
type Report struct {
	Epochs   []Epoch // the ledger, by epoch
	Findings []Finding
	Remarks  []string // what is worth knowing and not wrong
	Unseen   []Unseen
}

// Epoch is one line of the ledger. Times are of the server's clock; zero: not told.
type Epoch struct {
	Epoch            uint64 // 0: before the oldest take that the ledger has
	Node             string
	Taken, Released  time.Time
	Started, Stopped time.Time // of its process tree, as its daemon noted
	Superseded       time.Time // when the next epoch was taken
	By               uint64    // that epoch; 0: none
	Schedulers       []Scheduler
	Tries            int  // of tasks that these schedulers queued or adopted last
	Known            bool // its take is in the ledger
}

// Finding is something that must not be.
type Finding struct {
	Kind   Kind
	Epoch  uint64 // 0: none in particular
	Detail string
	Mend   string
}

// Complete tells whether all was looked at that there is.
func (r Report) Complete() bool {
	for _, u := range r.Unseen {
		if !u.Absent {
			return false
		}
	}
	return true
}
