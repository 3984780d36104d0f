package raftstore

import (
	"errors"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// model drives a disk with random but legal writes and compares it with itself after a restart.
type model struct {
	t    *testing.T
	rand *rand.Rand
	dir  string
	who  owner
	disk *disk
	term uint64
	vote uint64

	memory *replica.Memory // what the disk should hold, but for a newer commit index
}

// TestDiskSurvivesRestart: what a reopened file holds is what the disk held in memory.
func TestDiskSurvivesRestart(t *testing.T) {
	for seed := range uint64(10) {
		m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(),
			who: owner{cluster: "test", node: "a", voters: []uint64{1, 2, 3}}, term: 1}
		m.open()
		for range 8 {
			for range m.rand.IntN(8) {
				m.write()
			}
			m.restart()
		}
		if err := m.disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// open loads the disk.
func (m *model) open() {
	m.t.Helper()
	var err error
	if m.disk, err = openDisk(m.dir, m.who, &window{}); err != nil {
		m.t.Fatal(err)
	}
	if m.disk.doubt != "" {
		m.t.Fatalf("doubt about a sound disk: %s", m.disk.doubt)
	}
	m.memory = m.disk.memory
}

// save writes a batch, to memory as the replica does and, unless only the commit index is newer, to disk.
func (m *model) save(b replica.Batch, durable bool) {
	m.t.Helper()
	if b.Hard == nil {
		b.Hard = m.memory.Hard()
	}
	if durable {
		if err := m.disk.Save(&b); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := m.memory.Save(&b); err != nil {
		m.t.Fatal(err)
	}
}

// write makes one random write.
func (m *model) write() {
	m.t.Helper()
	first, last := bounds(m.t, m.memory)
	snapshot, err := m.memory.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	commit := m.memory.Hard().GetCommit()
	switch m.rand.IntN(5) {
	case 0, 1: // append, in place of anything that is not committed
		m.save(replica.Batch{Entries: m.entries(commit + 1 + m.rand.Uint64N(last-commit+1))}, true)
	case 2: // vote in a new term
		m.term++
		m.vote = 1 + m.rand.Uint64N(3)
		m.save(replica.Batch{Hard: m.hard(commit)}, true)
	case 3: // commit, which need not be durable
		commit += m.rand.Uint64N(last - commit + 1)
		m.save(replica.Batch{Hard: m.hard(commit)}, false)
		if at := snapshot.GetMetadata().GetIndex(); commit > at && m.rand.IntN(2) == 0 {
			m.compact(first, last, commit)
		}
	case 4: // a leader's snapshot, perhaps with what follows it
		if m.rand.IntN(3) == 0 {
			at := last + 1 + m.rand.Uint64N(50)
			b := replica.Batch{Hard: m.hard(at), Snapshot: m.snapshot(at, m.term)}
			if m.rand.IntN(2) == 0 {
				b.Entries = m.entries(at + 1)
			}
			m.save(b, true)
		}
	}
}

// entries are some of the newest term.
func (m *model) entries(from uint64) []*pb.Entry {
	var entries []*pb.Entry
	for i := range 1 + m.rand.Uint64N(20) {
		entries = append(entries, &pb.Entry{Index: new(from + i), Term: new(m.term), Data: []byte("x")})
	}
	return entries
}

// compact takes a snapshot at commit and drops a random part of the log, perhaps while it grows.
func (m *model) compact(first, last, commit uint64) {
	m.t.Helper()
	term, err := m.memory.Term(commit)
	if err != nil {
		m.t.Fatal(err)
	}
	through := uint64(0)
	if commit > first {
		through = first + m.rand.Uint64N(commit-first)
	}
	b := replica.Batch{Compact: &replica.Compaction{Snapshot: m.snapshot(commit, term), Through: through}}
	if m.rand.IntN(2) == 0 {
		b.Entries = m.entries(last + 1)
	}
	m.save(b, true)
}

// hard is a hard state of the newest term.
func (m *model) hard(commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(m.term), Vote: new(m.vote), Commit: new(commit)}
}

// snapshot is one at an index.
func (m *model) snapshot(index, term uint64) *pb.Snapshot {
	snapshot, _ := replica.Seed(m.who.voters)
	snapshot.Data = []byte{byte(index)}
	snapshot.Metadata.Index, snapshot.Metadata.Term = new(index), new(term)
	return snapshot
}

// restart reopens the disk and compares. The commit index may be older, and one entry that is covered
// by the snapshot may have become the anchor.
func (m *model) restart() {
	m.t.Helper()
	before := m.memory
	if err := m.disk.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
	was, now := before.Hard(), m.memory.Hard()
	if was.GetTerm() != now.GetTerm() || was.GetVote() != now.GetVote() || was.GetCommit() < now.GetCommit() {
		m.t.Fatalf("hard state was %v, is %v", was, now)
	}
	oldSnapshot, oerr := before.Snapshot()
	newSnapshot, nerr := m.memory.Snapshot()
	if err := errors.Join(oerr, nerr); err != nil || !proto.Equal(oldSnapshot, newSnapshot) {
		m.t.Fatalf("snapshot was %v, is %v (%v)", oldSnapshot, newSnapshot, err)
	}
	oldFirst, oldLast := bounds(m.t, before)
	first, last := bounds(m.t, m.memory)
	if last != oldLast || first < oldFirst || first > max(oldFirst, newSnapshot.GetMetadata().GetIndex()+1) {
		m.t.Fatalf("log was [%d, %d], is [%d, %d]", oldFirst, oldLast, first, last)
	}
	for index := first - 1; index <= last; index++ {
		oldTerm, oerr := before.Term(index)
		term, nerr := m.memory.Term(index)
		if err := errors.Join(oerr, nerr); err != nil || oldTerm != term {
			m.t.Fatalf("term at %d was %d, is %d (%v)", index, oldTerm, term, err)
		}
	}
	m.term = now.GetTerm()
}

// bounds are the first and the last index of a log.
func bounds(t *testing.T, d *replica.Memory) (first, last uint64) {
	t.Helper()
	first, ferr := d.FirstIndex()
	last, lerr := d.LastIndex()
	if err := errors.Join(ferr, lerr); err != nil {
		t.Fatal(err)
	}
	return first, last
}
