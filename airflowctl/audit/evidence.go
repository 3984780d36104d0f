package audit

import (
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Evidence is what was read, in one picture of the database; the sessions alone are as they were a moment later. Absent times are zero.
type Evidence struct {
	Job, Group string
	At         time.Time // the server's clock when it was read
	Row        fence.Row // the token is not read; Epoch 0: never taken
	Events     []Event   // of duoflow.event, by ID
	Roles      []Role    // of the job's epochs, by epoch
	Sessions   []Session // of epoch roles, that were there at two looks
	Prepared   []Prepared

	Schedulers []Scheduler // SchedulerJob rows of Airflow, by ID
	Tries      map[int64]int
	Lines      []Line    // of Airflow's log about tries that began more than once, each try by ID
	LogFrom    time.Time // oldest line of Airflow's log; zero: empty, or not read
	Unseen     []Unseen
}

// Event is a line of the ledger. IDs are given under the lock of the job's row, so they are in the order of the takes.
type Event struct {
	ID     int64
	Epoch  uint64
	Node   string
	Moment fence.Moment
	At     time.Time // the server's clock
}

// Role is the database role of one epoch.
type Role struct {
	Name   string
	Epoch  uint64
	Login  bool // may log in
	Member bool // of the job's group, by itself or through others
}

// armed roles could write.
func (r Role) armed() bool { return r.Login || r.Member }

// Session is a session of an epoch's role.
type Session struct {
	PID   int32
	Epoch uint64
	Since time.Time
	State string // "" when the reader may not see it
}

// Prepared is a transaction of an epoch's role that somebody may still commit.
type Prepared struct {
	Name  string
	Epoch uint64
}

// Scheduler is a row of Airflow's table job. Its times are of the clock of the scheduler's host, but for the end of a row that duoflow
// marked failed.
type Scheduler struct {
	ID               int64
	Host, State      string
	Start, Beat, End time.Time
}

// Line is a line of Airflow's log about one try of a task. The api-server writes "running" in the transaction in which it lets a worker begin the body.
type Line struct {
	ID    int64
	At    time.Time // the api-server's clock
	Try   Try
	Event string
	Host  string    // of the worker, "" when not told
	Made  time.Time // when the DAG run was made; zero: it is gone
}

// Try is one try of one task.
type Try struct {
	DAG, Run, Task string
	Map, Number    int // Map -1: not mapped
}

// Unseen is something that could not be looked at, so nothing is said about it.
type Unseen struct {
	What, Why string
	// Absent: there is nothing to look at, as Airflow's tables in the database of another kind of job.
	Absent bool
}
