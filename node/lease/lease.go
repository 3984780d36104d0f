package lease

import (
	"cmp"
	"slices"
	"time"
)

// NodeID names one duoflowd node; unique in a cluster, `[a-z][a-z0-9-]{0,15}`. The zero value names nobody.
type NodeID string

// JobName names one job, of which at most one instance may be effective; same alphabet as NodeID.
type JobName string

// Epoch numbers the grants of one job, from 1, strictly increasing for ever. 0 means: never granted.
// It is not raft's term: an election changes the term and leaves every epoch alone.
type Epoch uint64

// Token is one life of a daemon: 128 random bits drawn at start, 32 lower-case hexadecimal digits.
// The zero value belongs to no life.
type Token string

// Phase says whether the current epoch of a job is held.
type Phase string

const (
	// Vacant is a job that was never granted; its epoch is 0.
	Vacant Phase = "vacant"
	// Granted is a job whose epoch belongs to Holder until it releases it or a later epoch is granted.
	Granted Phase = "granted"
	// Released is a job whose holder has said that its process tree is empty.
	Released Phase = "released"
)

// Node is a member as the cluster has agreed on it.
type Node struct {
	ID NodeID `json:"id"`
	// Witness votes and never holds a grant (invariant I7).
	Witness bool `json:"witness,omitempty"`
	// Leaving: it is about to be removed from the cluster and is granted nothing any more; see Retire.
	Leaving bool `json:"leaving,omitempty"`
}

// Move is an operator's wish to have a job elsewhere, bound to the epoch it was made for.
type Move struct {
	// To is the wished holder; empty: any eligible node but the present holder.
	To NodeID `json:"to,omitempty"`
	// Now asks for a failover: grant without waiting for the holder to stop.
	Now bool `json:"now,omitempty"`
	// Here asks for a new life where the job is; To is its holder.
	Here bool `json:"here,omitempty"`
}

// Job is the agreed state of one job.
type Job struct {
	Name   JobName `json:"name"`
	Epoch  Epoch   `json:"epoch"`
	Holder NodeID  `json:"holder,omitempty"`
	Token  Token   `json:"token,omitempty"`
	Phase  Phase   `json:"phase"`
	// Move is nil while no operator has asked for one.
	Move *Move `json:"move,omitempty"`
	// Plan is nil while no operator wants one later, Pause while nothing is held back.
	Plan  *Plan  `json:"plan,omitempty"`
	Pause *Pause `json:"pause,omitempty"`
	// Order counts the pauses and plans that were made or ended, so that two of them are told apart.
	Order uint64 `json:"order,omitempty"`
	// History is oldest first, at most HistoryCap entries.
	History []Entry `json:"history,omitempty"`
}

// HistoryCap bounds the history kept per job, in entries.
const HistoryCap = 200

// Entry is one transition of a job.
type Entry struct {
	Kind  Kind   `json:"kind"`
	Epoch Epoch  `json:"epoch"`
	Node  NodeID `json:"node"`
	// Cause is the machine-readable reason, Detail the sentence for people.
	Cause  Cause  `json:"cause,omitempty"`
	Detail string `json:"detail,omitempty"`
	// At is the proposer's wall clock in Unix milliseconds. It is shown to people and read by no rule.
	At int64 `json:"at,omitempty"`
	// Phases are measured durations of this transition, in the order in which they were reported; empty until then.
	Phases []Timing `json:"phases,omitempty"`
	// By is the raft leader that granted the epoch and saw the job run under it; empty until it has reported that.
	By NodeID `json:"by,omitempty"`
	// Index is that of the command in raft's log; 0 = unknown.
	Index uint64 `json:"index,omitempty"`
}

// PhaseWhole names the Timing that is no part of the others but the time from the first sign that the epoch before was over to
// the first sign that the job ran under this one, on the clock of Entry.By.
const PhaseWhole = "whole"

// Timing is how long one named phase of a transition took, on the clock of the one node that measured it.
type Timing struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"`
}

// Kind is what an Entry records.
type Kind string

const (
	// KindGrant is a grant decided by the raft leader.
	KindGrant Kind = "grant"
	// KindRelease is a holder saying that its process tree is empty.
	KindRelease Kind = "release"
	// KindObserve is the log catching up with a fence taken without quorum.
	KindObserve Kind = "observe"
	// KindPause is an operator holding back what the cluster does by itself.
	KindPause Kind = "pause"
	// KindResume is the end of that.
	KindResume Kind = "resume"
	// KindRestore is the beginning of another life of the cluster, with a state from before: the epoch is left out, nobody has it.
	KindRestore Kind = "restore"
)

// Begins reports whether an entry of that kind is the beginning of an epoch.
func (k Kind) Begins() bool { return k == KindGrant || k == KindObserve }

// Cause is why a transition happened.
type Cause string

// Causes of grants, releases and observations. They are part of the log: never reuse or rename one.
const (
	CauseFirst       Cause = "first"       // the job had never been granted
	CauseRestart     Cause = "restart"     // the last holder had released it
	CauseGoodbye     Cause = "goodbye"     // the holder's daemon said it is leaving
	CauseGone        Cause = "gone"        // connection closed and redial refused: process gone, host up
	CauseSilent      Cause = "silent"      // no beat for the detection time
	CauseReborn      Cause = "reborn"      // the holder's daemon has restarted: the life that held the grant is over
	CauseBlind       Cause = "blind"       // the holder cannot reach the metastore, another node can
	CauseFollow      Cause = "follow"      // the job it follows moved
	CauseSwitchover  Cause = "switchover"  // an operator asked, the old holder cooperated
	CauseFailover    Cause = "failover"    // an operator asked, without waiting for the old holder
	CauseForced      Cause = "forced"      // an operator had the fence taken without quorum
	CauseExited      Cause = "exited"      // the job's process ended by itself
	CauseHung        Cause = "hung"        // the job made no progress
	CauseStartFailed Cause = "startfailed" // the job could not be started
	CauseFenced      Cause = "fenced"      // the fence row names a later epoch, or another life
	CauseShutdown    Cause = "shutdown"    // the daemon is being stopped
	CausePaused      Cause = "paused"      // an operator wants it stopped
	CauseOperator    Cause = "operator"    // an operator asked
	CauseExpired     Cause = "expired"     // the time of a pause is over
)

// State is everything the cluster has agreed on. The zero value is a cluster that knows no node and no job.
type State struct {
	// Nodes and Jobs are sorted by name.
	Nodes []Node `json:"nodes"`
	Jobs  []Job  `json:"jobs"`
	// index is that of the command being applied.
	index uint64
}

// Job returns the job called name, or a vacant one and false.
func (s *State) Job(name JobName) (Job, bool) {
	if i, ok := s.find(name); ok {
		return s.Jobs[i].clone(), true
	}
	return Job{Name: name, Phase: Vacant}, false
}

// Node returns the agreed member called id.
func (s *State) Node(id NodeID) (Node, bool) {
	i, ok := s.findNode(id)
	if !ok {
		return Node{}, false
	}
	return s.Nodes[i], true
}

func (s *State) findNode(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(s.Nodes, id, func(n Node, id NodeID) int { return cmp.Compare(n.ID, id) })
}

func (s *State) find(name JobName) (int, bool) {
	return slices.BinarySearchFunc(s.Jobs, name, func(j Job, name JobName) int { return cmp.Compare(j.Name, name) })
}

// HeldBy reports whether the job's current epoch is granted to this life of this node.
func (j Job) HeldBy(node NodeID, token Token) bool {
	return j.Phase == Granted && j.Holder == node && j.Token == token
}

func (j Job) clone() Job {
	j.History = slices.Clone(j.History)
	if j.Move != nil {
		move := *j.Move
		j.Move = &move
	}
	if j.Plan != nil {
		plan := *j.Plan
		j.Plan = &plan
	}
	j.Pause = j.Pause.clone()
	return j
}

// record appends to the history and drops the oldest entries over the cap.
func (s *State) record(j *Job, e Entry) {
	e.Index = s.index
	j.History = append(j.History, e)
	if over := len(j.History) - HistoryCap; over > 0 {
		j.History = slices.Delete(j.History, 0, over)
	}
}
