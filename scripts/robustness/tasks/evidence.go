package main

import (
	"regexp"
	"strconv"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// Task is what a DAG asks to be done once: a task of a run, by itself or mapped.
type Task struct {
	DAG  string `json:"dag"`
	Run  string `json:"run"`
	Name string `json:"task"`
	Map  int    `json:"map"` // -1: not mapped
}

// Body is one life of a task's body, as it says itself.
type Body struct {
	Task
	ID       string // of this life, drawn by itself
	Try      int
	Instance string // Airflow's id of the try
	Date     string // of the run, RFC 3339; "" = none
	PID      int
	Beside   bool // it found another body of its task alive
	// Begin and End are nanoseconds since the machine's start; End is 0 when it never said that it had ended.
	Begin, End int64
	// BeganAt and EndedAt are the same by the wall clock, to be set beside Postgres's.
	BeganAt, EndedAt time.Time
	Outcome          string // outcomeDone, outcomeFailed, outcomeCut; "" = it never said that it had ended
}

// What a body says of its end.
const (
	outcomeDone   = "done"
	outcomeFailed = "failed" // as planned
	outcomeCut    = "cut"    // by an exception from outside
)

// Instance is a row of Airflow's about a task: as it is, or of a try that another one followed.
type Instance struct {
	Task
	ID      string     `json:"id"`
	Try     int        `json:"try"`
	State   string     `json:"state"`
	Current bool       `json:"current"` // false: of the history
	Ended   *time.Time `json:"ended,omitempty"`
}

// DagRun is Airflow's row about a run.
type DagRun struct {
	DAG   string     `json:"dag"`
	Run   string     `json:"run"`
	State string     `json:"state"`
	Date  *time.Time `json:"date,omitempty"`
}

// Trigger is a run that was asked for by REST.
type Trigger struct {
	DAG          string    `json:"dag"`
	Run          string    `json:"run"`
	At           time.Time `json:"at"`
	Asked        int       `json:"asked"`        // times
	Acknowledged bool      `json:"acknowledged"` // Airflow said that it exists
}

// Note is a change of a task instance's state or id, written by a trigger in the transaction that made it.
type Note struct {
	Task
	At      time.Time `json:"at"`
	Login   string    `json:"login"`
	Was     string    `json:"was"`    // state before
	State   string    `json:"state"`  // state after
	Before  string    `json:"before"` // id before
	ID      string    `json:"id"`     // id after
	Try     int       `json:"try"`
	Message string    `json:"message,omitempty"` // its Celery id
}

// epochLogin is the name of an epoch's role.
var epochLogin = regexp.MustCompile(`^df_.*_e(\d+)$`)

// epoch is that of the login; 0: it is no scheduler's.
func (n Note) epoch() uint64 {
	m := epochLogin.FindStringSubmatch(n.Login)
	if m == nil {
		return 0
	}
	epoch, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return 0 // no epoch has so many digits
	}
	return epoch
}

// Message is one that a worker has taken up.
type Message struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// Run is what a folder is about.
type Run struct {
	Seed     uint64    `json:"seed"`
	Commit   string    `json:"commit"` // of the repository
	Versions string    `json:"versions"`
	Started  time.Time `json:"started"`
	Clock    Clock     `json:"clock"`
}

// Clock says which dates of the DAG with a schedule have to be there: Start, and every so often until Until.
type Clock struct {
	DAG   string        `json:"dag"`
	Start time.Time     `json:"start"`
	Every time.Duration `json:"every"`
	Until time.Time     `json:"until"`
}

// Evidence is all that a run has seen.
type Evidence struct {
	Run       Run
	Trials    []Trial
	Bodies    []Body
	Runs      []DagRun
	Instances []Instance
	Triggers  []Trigger
	Notes     []Note // in the order in which they were written
	Messages  []Message
	Commits   []commitorder.Row
}
