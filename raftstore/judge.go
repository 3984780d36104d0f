package raftstore

import (
	"errors"
	"fmt"
	"os"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// found is what the bbolt file says about itself, to be compared with the sidecar.
type found struct {
	term, vote, last uint64
	tx               uint64 // its newest transaction
	made             bool   // it was made just now
	marked           bool   // it was written by a version that keeps a sidecar
	life             Life   // of the cluster
}

// empty says whether nothing was ever promised on the strength of this file.
func (f found) empty() bool {
	return f.term <= replica.SeedTerm && f.vote == 0 && f.last <= replica.SeedIndex
}

// judge says why the disk may have forgotten what it promised; "" = it has not. problem is that of
// openSidecar.
func judge(f found, m mark, problem error) string {
	switch {
	case errors.Is(problem, os.ErrNotExist):
		// A file of before there were sidecars, or one whose making was interrupted.
		if !f.marked || f.empty() {
			return ""
		}
		return sidecarFile + " is missing, so " + diskFile + " may be an older copy"
	case problem != nil:
		return fmt.Sprintf("%v, so %s may be an older copy", problem, diskFile)
	case m.Doubt != "" && (!f.empty() || !replica.IsNew(m.Doubt)):
		return m.Doubt
	case f.made && (m.Term > replica.SeedTerm || m.Last > replica.SeedIndex):
		return fmt.Sprintf("%s is missing, but %s tells of term %d and index %d", diskFile, sidecarFile, m.Term, m.Last)
	case f.tx < m.Tx && !f.made:
		return fmt.Sprintf("%s is an older copy: it ends with transaction %d, %s knows of %d", diskFile, f.tx, sidecarFile, m.Tx)
	}
	return judgeVotes(f, m)
}

// judgeVotes compares term and vote. The sidecar is written first, so it is ahead when the transaction
// that follows did not end. That is no doubt while bbolt's newest transaction is the one that the
// sidecar knew: nobody was told, and the newer term and vote are here. In every other case something
// was put back, or a disk has lost what it said it had written.
func judgeVotes(f found, m mark) string {
	ahead := m.ahead(f.term, f.vote)
	switch {
	case ahead && f.tx == m.Tx && f.last == m.Last:
		return ""
	case ahead:
		return fmt.Sprintf("%s tells of term %d and a vote for %x, %s only of term %d and %x",
			sidecarFile, m.Term, m.Vote, diskFile, f.term, f.vote)
	case m.Term != f.term || m.Vote != f.vote:
		return fmt.Sprintf("%s is older than %s: term %d and a vote for %x, not term %d and %x",
			sidecarFile, diskFile, m.Term, m.Vote, f.term, f.vote)
	}
	return ""
}

// checkMark refuses the sidecar of somebody else.
func (who owner) checkMark(m mark) error {
	for _, fact := range []struct{ what, got, want string }{
		{"cluster", m.Cluster, who.cluster},
		{"node", m.Node, who.node},
	} {
		if fact.got != fact.want {
			return fmt.Errorf("%w: %s is of %s %q, this node's is %q; set data_dir to this node's own directory, "+
				"or move this one away to start empty", ErrForeignDir, sidecarFile, fact.what, fact.got, fact.want)
		}
	}
	return nil
}

// ahead says whether the mark is of a newer term, or of a vote where there was none.
func (m mark) ahead(term, vote uint64) bool {
	return m.Term > term || (m.Term == term && m.Vote != vote && m.Vote != 0)
}

// newest is a hard state with the newer term and vote of the two. It holds with a doubt as well: whatever
// else was forgotten, a leader of an older term must not be followed, nor a vote given twice.
func (m mark) newest(hard *pb.HardState) *pb.HardState {
	if !m.ahead(hard.GetTerm(), hard.GetVote()) {
		return hard
	}
	return &pb.HardState{Term: new(m.Term), Vote: new(m.Vote), Commit: new(hard.GetCommit())}
}
