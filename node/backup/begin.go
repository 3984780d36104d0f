package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/node/lease"
)

// DefaultSkip is how many epochs a restore leaves out, for those that were granted after the backup and are in no database any more
// because that was restored too: more than years of failovers.
const DefaultSkip = 100_000

// MaxEpoch bounds what a restore goes up to: roles are named by epochs of at most 18 digits, and there has to be room for what comes.
const MaxEpoch = 1_000_000_000_000_000

// Order says how a life is to begin. It has to be the same on every node.
type Order struct {
	// Skip is how many epochs of each job are left out.
	Skip uint64
	// Stopped begins with every job paused, so that nobody runs one before an operator says so.
	Stopped bool
	// Members are the names of all nodes; their order does not matter.
	Members []string
}

// Mark is 8 hexadecimal digits that differ where the picture or the order does. The id of a life ends with it, so that two nodes whose
// beginnings are not the same cannot be of one life.
func (p Picture) Mark(o Order) (string, error) {
	of, err := p.Sum()
	if err != nil {
		return "", err
	}
	members := slices.Sorted(slices.Values(o.Members))
	all := sha256.Sum256(fmt.Appendf(nil, "%s %d %t %s", of, o.Skip, o.Stopped, strings.Join(members, ",")))
	return hex.EncodeToString(all[:4]), nil
}

// Begin makes of a picture what a life begins with: every job is released under an epoch that nobody ever had, so that it is granted anew;
// what operators wanted then is dropped, but for pauses. It depends on nothing but its arguments.
func (p Picture) Begin(life string, o Order) (Picture, error) {
	if p.Begins != "" {
		return Picture{}, fmt.Errorf("the file begins life %s and cannot begin another", p.Begins)
	}
	state, err := lease.DecodeSnapshot(p.State)
	if err != nil {
		return Picture{}, fmt.Errorf("begin life %s: %w", life, err)
	}
	for i := range state.Nodes {
		state.Nodes[i].Leaving = false // who leads says anew who the nodes are
	}
	for i := range state.Jobs {
		job := &state.Jobs[i]
		if o.Skip >= MaxEpoch || uint64(job.Epoch) >= MaxEpoch-o.Skip {
			return Picture{}, fmt.Errorf("job %s: epoch %d and %d more are beyond %d", job.Name, job.Epoch, o.Skip, uint64(MaxEpoch))
		}
		job.Move = nil
		if job.Plan != nil {
			job.Plan, job.Order = nil, job.Order+1
		}
		if o.Stopped {
			job.Order++
			job.Pause = &lease.Pause{Level: lease.PauseStopped, Reason: "restored; look at it, then resume", At: p.At}
		}
		if job.Phase != lease.Vacant {
			p.leaveBehind(job, life, o.Skip)
		}
	}
	p.Begins, p.Members, p.State = life, slices.Sorted(slices.Values(o.Members)), state.Snapshot()
	// A life begins above the log of an empty node, which so gets the state from a leader.
	p.Index, p.Term = max(p.Index, 1)+1, max(p.Term, 1)+1
	if _, err := lease.DecodeSnapshot(p.State); err != nil {
		return Picture{}, fmt.Errorf("begin life %s: %w", life, err)
	}
	return p, nil
}

// leaveBehind releases a job under an epoch beyond all that were granted. Its owner is nobody's life: the token is made of the life's id.
func (p Picture) leaveBehind(job *lease.Job, life string, skip uint64) {
	token := sha256.Sum256([]byte(life + " " + string(job.Name)))
	before := job.Epoch
	job.Epoch += lease.Epoch(skip)
	job.Phase, job.Token = lease.Released, lease.Token(hex.EncodeToString(token[:16]))
	job.History = append(job.History, lease.Entry{
		Kind: lease.KindRestore, Epoch: job.Epoch, Node: job.Holder, Cause: lease.CauseOperator, At: p.At, Index: p.Index,
		Detail: fmt.Sprintf("life %s begins with epoch %d, as node %s knew it at index %d", life, before, p.Node, p.Index),
	})
	if over := len(job.History) - lease.HistoryCap; over > 0 {
		job.History = slices.Delete(job.History, 0, over)
	}
}

// Replay applies what is left of a log to a snapshot of it; no snapshot is the state in which a cluster begins.
func Replay(snapshot []byte, commands func(yield func(index uint64, command []byte) bool)) (lease.State, error) {
	var state lease.State
	if len(snapshot) > 0 {
		var err error
		if state, err = lease.DecodeSnapshot(snapshot); err != nil {
			return lease.State{}, err
		}
	}
	for index, entry := range commands {
		c, err := lease.DecodeCommand(entry)
		if err != nil {
			return lease.State{}, fmt.Errorf("log entry %d: %w", index, err)
		}
		state.ApplyAt(index, c)
	}
	return state, nil
}
