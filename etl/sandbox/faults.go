package sandbox

import (
	"sync"
	"time"
)

// Server names one of the three.
type Server string

// The servers of a sandbox.
const (
	S3       Server = "s3"
	GCS      Server = "gcs"
	BigQuery Server = "bigquery"
)

// Fault is something that goes wrong with the calls it matches. What goes wrong: Status (the call is refused), Lose (the
// connection ends), Delay, Do, or several of them.
type Fault struct {
	Server Server

	// Call is UploadPart, PutObject, ListParts, ... of S3; list, get, read, insert, delete of GCS; jobs.insert, jobs.get,
	// jobs.cancel, tables.get, tables.list, tabledata.list of BigQuery, and job, which is the work of a job itself: Delay
	// makes it slow, Reason makes it fail. "" is any call but job.
	Call string

	Name  string // in the request's path, or the job's id; "" is any
	Skip  int    // matching calls that pass before the first is hit
	Times int    // matching calls that are hit; 0: all until Clear

	Status     int           // HTTP status to refuse with
	Reason     string        // with Status: S3's code (SlowDown), Google's reason (quotaExceeded, rateLimitExceeded, billingNotEnabled, notFound, backendError)
	Message    string        // "" is made of the others
	RetryAfter time.Duration // header of that name, in whole seconds, rounded up; 0: no header

	// After lets so many bytes of the body pass first: of the request's when uploading, of the answer's when reading. It
	// goes with Lose and Do.
	After int64

	Lose  bool          // the connection ends without an answer, or within one
	Done  bool          // with Lose and no After: the call is done, only its answer is lost
	Delay time.Duration // the call waits so long first
	Do    func()        // called once a hit, for example to replace the object that is being read
}

// Faults are planned by a test while the sandbox runs. The zero value has none. Safe for use by several goroutines.
type Faults struct {
	mu    sync.Mutex
	plans []*plan
}

type plan struct {
	fault      Fault
	seen, hits int
}

// Add plans a fault and returns how many calls it has hit so far. A call meets one fault at most: the first planned that
// matches and has hits left. A fault that does nothing only counts.
func (f *Faults) Add(fault Fault) (hits func() int) {
	p := &plan{fault: fault}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plans = append(f.plans, p)
	return func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return p.hits
	}
}

// Clear drops all plans; what has been hit stays so.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plans = nil
}

// hit counts a call and returns the first fault that it meets, nil if it goes well.
func (f *Faults) hit(server Server, call, name string) *Fault {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.plans {
		if !p.fault.matches(server, call, name) {
			continue
		}
		p.seen++
		if p.seen <= p.fault.Skip || p.fault.Times > 0 && p.hits >= p.fault.Times {
			continue
		}
		p.hits++
		return &p.fault
	}
	return nil
}
