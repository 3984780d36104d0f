package lease

import (
	"cmp"
	"fmt"
	"time"
)

// Level is how much a pause holds back. What an operator asks for is done under the first two; the zero value is no pause.
type Level string

const (
	// PauseMoves keeps the job where it is: no other node is granted it, and a life that ended is followed by one on its node.
	PauseMoves Level = "moves"
	// PauseGrants grants nothing: the job that runs goes on, and when it ends nobody runs it.
	PauseGrants Level = "grants"
	// PauseStopped has the holder stop the job in order, and grants nothing.
	PauseStopped Level = "stopped"
)

// MaxWait bounds how long a pause may be for, and how far ahead a move may be planned: 30 days. It says neither: for ever is 0.
const MaxWait = 30 * 24 * time.Hour

// Pause holds back what the cluster does by itself about a job.
type Pause struct {
	Level Level `json:"level"`
	// For is how long; 0 until it is ended. The raft leader counts it, from when it learnt of the pause: another leader, or a
	// restarted one, may count longer and never shorter.
	For time.Duration `json:"for,omitempty"`
	// By is who asked, Reason why, for people.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// At is as in Entry.
	At int64 `json:"at,omitempty"`
}

// Plan is a move that an operator wants later. It is dropped when the job changes hands before.
type Plan struct {
	Move Move `json:"move"`
	// In is how long after the plan was made the move is due, counted as Pause.For.
	In time.Duration `json:"in"`
	By string        `json:"by,omitempty"`
	At int64         `json:"at,omitempty"`
}

// Hold puts a pause in the place of another, or ends one.
type Hold struct {
	Job JobName `json:"job"`
	// Order is Job.Order as the operator saw it, so that nobody ends a pause that he has not seen.
	Order uint64 `json:"order"`
	// Pause is nil to end the one there is.
	Pause *Pause `json:"pause,omitempty"`
	// Cause is CauseOperator or CauseExpired.
	Cause Cause  `json:"cause"`
	By    string `json:"by,omitempty"`
	At    int64  `json:"at,omitempty"`
}

// stops reports whether the level is that under which nobody runs the job.
func (p *Pause) stops() bool { return p != nil && p.Level == PauseStopped }

// Paused is the level of the job's pause; empty when there is none.
func (j Job) Paused() Level {
	if j.Pause == nil {
		return ""
	}
	return j.Pause.Level
}

// Stopped reports whether a pause has nobody run the job.
func (j Job) Stopped() bool { return j.Pause.stops() }

func (s *State) hold(j *Job, h Hold) Outcome {
	switch {
	case h.Order != j.Order:
		return refuse(j.Name, "order %d was given since the one you know, %d", j.Order, h.Order)
	case h.Pause == nil && j.Pause == nil:
		return refuse(j.Name, "it is not paused")
	}
	j.Order++
	entry := Entry{Kind: KindResume, Epoch: j.Epoch, Node: j.Holder, Cause: h.Cause, Detail: byWhom(h.By, ""), At: h.At}
	if h.Pause != nil {
		entry.Kind, entry.Detail = KindPause, Text(string(h.Pause.Level)+byWhom(h.Pause.By, h.Pause.Reason))
	}
	j.Pause = h.Pause.clone()
	if j.Pause.stops() {
		j.Move, j.Plan = nil, nil
	}
	s.record(j, entry)
	return accept(j.Name)
}

// byWhom is the part of an entry's sentence that says who wanted it, and why.
func byWhom(who, why string) string {
	text := ""
	if who != "" {
		text = " by " + who
	}
	if why != "" {
		text += ": " + why
	}
	return text
}

func (p *Pause) clone() *Pause {
	if p == nil {
		return nil
	}
	copied := *p
	return &copied
}

func (h Hold) validate() error {
	if h.Pause == nil {
		return cmp.Or(validJob(h.Job), validText(h.By), validWord(string(h.Cause)))
	}
	return cmp.Or(validJob(h.Job), validText(h.By), validWord(string(h.Cause)), h.Pause.validate())
}

func (p Pause) validate() error {
	switch p.Level {
	case PauseMoves, PauseGrants, PauseStopped:
	default:
		return fmt.Errorf("pause level %q: want %s, %s or %s", p.Level, PauseMoves, PauseGrants, PauseStopped)
	}
	return cmp.Or(validWait(p.For), validText(p.By), validText(p.Reason))
}

func validWait(wait time.Duration) error {
	if wait < 0 || wait > MaxWait {
		return fmt.Errorf("a wait of %s: want at least 0 and at most %s", wait, MaxWait)
	}
	return nil
}
