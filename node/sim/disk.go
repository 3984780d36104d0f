package sim

import (
	"fmt"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// disk is where a host keeps its log; it outlives daemons. It models what raftstore/disk.go and sidecar.go do with
// files: a write is the sidecar's slot first, then one transaction. A write that is under way when the host loses its power
// may have left nothing, the sidecar alone, or all; so may one whose process is killed.
type disk struct {
	image    image
	previous image // as of the transaction before: what bbolt opens when the newest meta page is torn
	side     mark
	// writing is the batch under way, nil when none.
	writing *replica.Batch
	torn    bool
	noted   bool // the sidecar is of this life
	founded bool // as of the newest write
	voters  []uint64
}

// image is what the bbolt file holds.
type image struct {
	snapshot *pb.Snapshot
	hard     *pb.HardState
	entries  []*pb.Entry
	tx       uint64
}

// mark is what the sidecar holds (raftstore/sidecar.go).
type mark struct {
	there      bool
	term, vote uint64
	last, tx   uint64
	doubt      string
	founded    bool
}

func newDisk(voters []uint64) *disk {
	d := &disk{voters: voters}
	d.wipe()
	return d
}

// wipe makes it a new one.
func (d *disk) wipe() {
	snapshot, hard := replica.Seed(d.voters)
	if d.voters == nil { // of a node that joins
		snapshot, hard = replica.Blank()
	}
	d.image = image{snapshot: snapshot, hard: hard, tx: 1}
	d.previous, d.side, d.writing, d.torn = d.image, mark{}, nil, false
}

func (i image) last() uint64 {
	if n := len(i.entries); n > 0 {
		return i.entries[n-1].GetIndex()
	}
	return i.snapshot.GetMetadata().GetIndex()
}

// apply is one transaction, in the order of replica.Batch. Nothing that i shares with another image is changed.
func (i image) apply(b *replica.Batch) image {
	if b.Snapshot != nil {
		i.snapshot, i.entries = b.Snapshot, nil
	}
	if len(b.Entries) > 0 {
		first := b.Entries[0].GetIndex()
		keep := len(i.entries)
		for keep > 0 && i.entries[keep-1].GetIndex() >= first {
			keep--
		}
		i.entries = append(i.entries[:keep:keep], b.Entries...)
	}
	if c := b.Compact; c != nil {
		i.snapshot = c.Snapshot
		drop := 0
		for drop < len(i.entries) && i.entries[drop].GetIndex() < c.Through {
			drop++
		}
		i.entries = i.entries[drop:]
	}
	if b.Hard != nil {
		i.hard = b.Hard
	}
	i.tx++
	return i
}

// noteSide writes the sidecar as raftstore/disk.go's Save does, before the transaction.
func (d *disk) noteSide(b *replica.Batch) {
	d.founded = d.founded || b.Doubt == ""
	same := d.side.term == b.Hard.GetTerm() && d.side.vote == b.Hard.GetVote() && d.side.doubt == b.Doubt && d.side.founded == d.founded
	if d.side.there && same && d.noted {
		return
	}
	d.noted = true
	d.side = mark{true, b.Hard.GetTerm(), b.Hard.GetVote(), d.image.last(), d.image.tx, b.Doubt, d.founded}
}

func (d *disk) commit(b *replica.Batch) {
	d.noteSide(b)
	d.previous, d.image, d.torn = d.image, d.image.apply(b), false
}

// save makes a batch durable after a while.
func (d *disk) save(w *world, who *actor, took time.Duration, b *replica.Batch, done func()) {
	d.writing = b
	w.in(took, who, func() {
		d.commit(b)
		d.writing = nil
		done()
	})
}

// crash ends the write under way. parts: 0 nothing of it is there, 1 the sidecar is, 2 all is.
func (d *disk) crash(parts int) {
	b := d.writing
	d.writing = nil
	if b == nil {
		return
	}
	switch parts {
	case 1:
		d.noteSide(b)
	case 2:
		d.commit(b)
	}
}

// open reads the disk as raftstore/disk.go's load does, and says why it may have forgotten something (judge.go).
func (d *disk) open() (memory *replica.Memory, doubt string, err error) {
	if d.torn {
		d.image = d.previous // and the page stays as it is until the next transaction, however often it is opened
		doubt = "a meta page is damaged, so the last transaction may be missing"
	}
	if doubt == "" {
		doubt = d.judge()
	}
	d.founded = d.side.founded // none when there is no sidecar
	hard := d.image.hard
	if d.side.ahead(hard.GetTerm(), hard.GetVote()) {
		hard = &pb.HardState{Term: new(d.side.term), Vote: new(d.side.vote), Commit: new(hard.GetCommit())}
	}
	memory, err = replica.NewMemory(d.image.snapshot, d.image.hard, d.image.entries)
	if err == nil {
		err = memory.Save(&replica.Batch{Hard: hard})
	}
	if err != nil {
		return nil, "", fmt.Errorf("open disk: %w", err)
	}
	d.noted = doubt == ""
	if d.noted {
		d.image.hard = hard
		d.image.tx++
		d.side = mark{true, hard.GetTerm(), hard.GetVote(), d.image.last(), d.image.tx, "", d.founded}
	}
	return memory, doubt, nil
}

func (m mark) ahead(term, vote uint64) bool {
	return m.term > term || (m.term == term && m.vote != vote && m.vote != 0)
}

// judge mirrors raftstore/judge.go.
func (d *disk) judge() string {
	f, m := d.image, d.side
	term, vote := f.hard.GetTerm(), f.hard.GetVote()
	empty := term <= replica.SeedTerm && vote == 0 && f.last() <= replica.SeedIndex
	switch {
	case !m.there && empty:
		return ""
	case !m.there:
		return "the sidecar is missing"
	case m.doubt != "" && (!empty || !replica.IsNew(m.doubt)):
		return m.doubt
	case f.tx < m.tx:
		return "the file is an older copy"
	case m.ahead(term, vote) && f.tx == m.tx && f.last() == m.last:
		return ""
	case m.ahead(term, vote):
		return "the sidecar is ahead"
	case m.term != term || m.vote != vote:
		return "the sidecar is older"
	}
	return ""
}
