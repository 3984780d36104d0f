package raftstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// drive is a data directory of node a, and what a test does to it.
type drive struct {
	t    *testing.T
	dir  string
	who  owner
	disk *disk // nil = closed
}

// newDrive makes one that has voted for node 2 in term 2 and holds entries up to index 3.
func newDrive(t *testing.T) *drive {
	t.Helper()
	v := &drive{t: t, dir: t.TempDir(), who: owner{cluster: "test", node: "a", voters: []uint64{1, 2, 3}}}
	v.open("")
	v.save(2, 2, 2, 3)
	v.close()
	return v
}

// open opens the directory and wants a reason of doubt with this text; "" = none.
func (v *drive) open(doubt string) {
	v.t.Helper()
	var err error
	if v.disk, err = openDisk(v.dir, v.who, &window{}); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(v.close)
	if got := v.disk.doubt; (got == "") != (doubt == "") || !strings.Contains(got, doubt) {
		v.t.Fatalf("doubt %q, want %q", got, doubt)
	}
}

// close closes it if it is open.
func (v *drive) close() {
	v.t.Helper()
	if v.disk == nil {
		return
	}
	if err := v.disk.Close(); err != nil {
		v.t.Error(err)
	}
	v.disk = nil
}

// save writes term, vote and entries.
func (v *drive) save(term, vote uint64, indexes ...uint64) {
	v.t.Helper()
	if err := v.disk.Save(batch(term, vote, indexes...)); err != nil {
		v.t.Fatal(err)
	}
}

// batch is a write of a term, a vote and entries.
func batch(term, vote uint64, indexes ...uint64) *replica.Batch {
	b := &replica.Batch{Hard: &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(uint64(1))}}
	for _, index := range indexes {
		b.Entries = append(b.Entries, &pb.Entry{Index: new(index), Term: new(term)})
	}
	return b
}

// noteOnly writes the sidecar as a Save does that ends there.
func (v *drive) noteOnly(term, vote, last uint64) {
	v.t.Helper()
	if err := v.disk.note(batch(term, vote).Hard, "", last); err != nil {
		v.t.Fatal(err)
	}
}

// copy reads a file of the closed directory; the returned call puts it back.
func (v *drive) copy(name string) (putBack func()) {
	v.t.Helper()
	text, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		v.t.Fatal(err)
	}
	return func() { v.write(name, text) }
}

// write replaces a file.
func (v *drive) write(name string, text []byte) {
	v.t.Helper()
	if err := os.WriteFile(filepath.Join(v.dir, name), text, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// remove removes a file.
func (v *drive) remove(name string) {
	v.t.Helper()
	if err := os.Remove(filepath.Join(v.dir, name)); err != nil {
		v.t.Fatal(err)
	}
}

// hard wants this term and vote.
func (v *drive) hard(term, vote uint64) {
	v.t.Helper()
	if got := v.disk.memory.Hard(); got.GetTerm() != term || got.GetVote() != vote {
		v.t.Errorf("term %d vote %d, want %d and %d", got.GetTerm(), got.GetVote(), term, vote)
	}
}

func TestSoundDriveIsTrusted(t *testing.T) {
	v := newDrive(t)
	for i := range uint64(5) {
		v.open("")
		v.hard(2+i, 2)
		v.save(3+i, 2, 4+i)
		v.close()
	}
}

// TestOlderFileIsDoubted: only the bbolt file comes from a backup, of whatever age.
func TestOlderFileIsDoubted(t *testing.T) {
	for name, test := range map[string]struct {
		between    func(*drive)
		term, vote uint64
	}{
		"a newer vote":   {func(v *drive) { v.save(3, 1) }, 3, 1},
		"another vote":   {func(v *drive) { v.save(2, 2); v.save(3, 0); v.save(3, 3) }, 3, 3},
		"only entries":   {func(v *drive) { v.save(2, 2, 4, 5) }, 2, 2},
		"only a restart": {func(*drive) {}, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			v := newDrive(t)
			putBack := v.copy(diskFile)
			v.open("")
			test.between(v)
			v.close()
			putBack()
			v.open("raft.db is an older copy: it ends with transaction")
			v.hard(test.term, test.vote)
		})
	}
}

// TestOlderMetaPageIsDoubted: bbolt opens a file whose newest meta page is damaged as of the transaction
// before, and repairs it with the next write. The doubt stays.
func TestOlderMetaPageIsDoubted(t *testing.T) {
	v := newDrive(t)
	v.open("")
	v.save(3, 1)
	newest := int64(0)
	if err := v.disk.db.View(func(tx *bbolt.Tx) error { newest = int64(tx.ID()) % 2; return nil }); err != nil {
		t.Fatal(err)
	}
	v.close()
	file, err := os.OpenFile(filepath.Join(v.dir, diskFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte{0xff}, newest*int64(os.Getpagesize())+metaOffset+metaSummed)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v.open("a meta page of raft.db is damaged")
		v.hard(3, 1) // which bbolt has forgotten
		v.close()
	}
	v.open("a meta page")
	for range 2 {
		b := batch(4, 0)
		b.Doubt = v.disk.doubt
		if err := v.disk.Save(b); err != nil {
			t.Fatal(err)
		}
	}
	v.close()
	v.open("a meta page")
}

// TestUnfinishedWriteIsTaken: the process or the power went between the two files. Nobody was told of the
// vote, so that is no doubt, but it must not be given again.
func TestUnfinishedWriteIsTaken(t *testing.T) {
	v := newDrive(t)
	v.open("")
	v.noteOnly(7, 3, 3)
	v.close()
	v.open("")
	v.hard(7, 3)
	v.close()
	v.open("")
	v.hard(7, 3)
}

// TestUnfinishedWriteOfEntriesIsTaken: as above, and the write had entries too, as that of a new leader's first message has.
func TestUnfinishedWriteOfEntriesIsTaken(t *testing.T) {
	v := newDrive(t)
	v.open("")
	v.save(2, 2, 4)
	b := batch(7, 3, 5, 6)
	b.Entries[1].Data = make([]byte, 1<<20)
	v.disk.db.MaxSize = 1 // the transaction finds no room, after the sidecar
	if err := v.disk.Save(b); !errors.Is(err, bbolterrors.ErrMaxSizeReached) {
		t.Fatalf("the write ended with %v", err)
	}
	v.close()
	v.open("")
	v.hard(7, 3)
	v.save(7, 3, 5)
	v.close()
	v.open("")
}

// TestVoteAheadIsDoubted: the log ended elsewhere when the sidecar was written.
func TestVoteAheadIsDoubted(t *testing.T) {
	v := newDrive(t)
	v.open("")
	v.noteOnly(7, 3, 9)
	v.close()
	v.open("raft.vote tells of term 7 and a vote for 3, raft.db only of term 2 and 2")
	v.hard(7, 3)
}

func TestOlderSidecarIsDoubted(t *testing.T) {
	v := newDrive(t)
	putBack := v.copy(sidecarFile)
	v.open("")
	v.save(3, 1)
	v.close()
	putBack()
	v.open("raft.vote is older than raft.db")
}

// TestTornSidecarIsNoDoubt: the newer slot was being written when the power went.
func TestTornSidecarIsNoDoubt(t *testing.T) {
	v := newDrive(t)
	v.open("")
	torn := int64((v.disk.side.found.Seq + 1) % 2)
	if _, err := v.disk.side.file.WriteAt([]byte("torn"), torn*slotBytes); err != nil {
		t.Fatal(err)
	}
	v.close()
	v.open("")
	v.hard(2, 2)
}

func TestUnreadableSidecarIsDoubted(t *testing.T) {
	for name, text := range map[string][]byte{
		"empty":   {},
		"zeroes":  make([]byte, 2*slotBytes),
		"garbage": bytes.Repeat([]byte("x \n"), 2*slotBytes),
		"short":   []byte("00000000 {}\n"),
	} {
		t.Run(name, func(t *testing.T) {
			v := newDrive(t)
			v.write(sidecarFile, text)
			v.open("unreadable " + filepath.Join(v.dir, sidecarFile))
			v.hard(2, 2)
			v.save(3, 0)
			v.close()
			v.open("")
		})
	}
}

func TestMissingSidecar(t *testing.T) {
	v := newDrive(t)
	v.remove(sidecarFile)
	v.open("raft.vote is missing, so raft.db may be an older copy")
	v.save(3, 0)
	v.close()
	v.open("")
	v.close()

	// A file of a version that kept no sidecar.
	v.remove(sidecarFile)
	db, err := openFile(filepath.Join(v.dir, diskFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keySidecar) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	v.open("")
	v.close()
	v.remove(sidecarFile)
	v.open("raft.vote is missing")
	v.close()

	// A new file whose making was interrupted before there was a sidecar.
	v.remove(diskFile)
	v.open("")
	v.close()
	v.remove(sidecarFile)
	v.open("")
}

func TestMissingFileBesideSidecar(t *testing.T) {
	v := newDrive(t)
	v.remove(diskFile)
	v.open("raft.db is missing, but raft.vote tells of term 2 and index 1")
	v.hard(2, 2)
}

// TestDoubtOutlastsRestart: until a write without it, whatever else is written. A node that is started
// again before it has caught up must not think that all is well.
func TestDoubtOutlastsRestart(t *testing.T) {
	v := newDrive(t)
	v.open("")
	v.close()
	v.remove(diskFile)
	v.open("raft.db is missing")
	v.close()
	v.open("raft.db is an older copy") // the one that was made just now
	b := batch(5, 0, 2, 3, 4)
	b.Doubt = v.disk.doubt
	if err := v.disk.Save(b); err != nil {
		t.Fatal(err)
	}
	v.close()
	v.open("raft.db is an older copy")
	v.hard(5, 0)
	v.save(5, 0)
	v.close()
	v.open("")
}

// TestDoubtOutlastsUnfinishedWrite: the first write into a file that was made anew ended with the sidecar. The
// reason of that is no longer that of a new directory, and stays.
func TestDoubtOutlastsUnfinishedWrite(t *testing.T) {
	for reason, want := range map[string]string{
		"raft.db is missing":        "raft.db is missing",
		"the data directory is new": "", // drawn anew from the empty log, see replica.IsNew
	} {
		v := newDrive(t)
		v.remove(diskFile)
		v.open("raft.db is missing")
		if err := v.disk.note(batch(5, 0).Hard, reason, v.disk.last); err != nil {
			t.Fatal(err)
		}
		v.close()
		v.open(want)
		v.hard(5, 0)
	}
}

// TestFoundedOutlastsRestart: from the first write without a doubt on, and for as long as both files are there.
func TestFoundedOutlastsRestart(t *testing.T) {
	v := &drive{t: t, dir: t.TempDir(), who: owner{cluster: "test", node: "a", voters: []uint64{1, 2, 3}}}
	expect := func(want bool) {
		t.Helper()
		if v.open(""); v.disk.founded != want {
			t.Errorf("founded %v, want %v", v.disk.founded, want)
		}
		v.close()
	}
	expect(false)
	expect(false) // a start is not the end of a doubt
	v.open("")
	b := batch(2, 0) // of somebody who was elected without it
	b.Doubt = "the data directory is new"
	if err := v.disk.Save(b); err != nil {
		t.Fatal(err)
	}
	v.close()
	v.open(b.Doubt)
	v.save(2, 0)
	v.close()
	expect(true)
	expect(true)
	v.remove(diskFile)
	v.remove(sidecarFile)
	expect(false)
}

func TestForeignSidecarIsRefused(t *testing.T) {
	for name, change := range map[string]func(*mark){
		`of cluster "other"`: func(m *mark) { m.Cluster = "other" },
		`of node "b"`:        func(m *mark) { m.Node = "b" },
	} {
		v := newDrive(t)
		v.open("")
		m := v.disk.side.found
		change(&m)
		if err := v.disk.side.write(m); err != nil {
			t.Fatal(err)
		}
		v.close()
		_, err := openDisk(v.dir, v.who, &window{})
		if !errors.Is(err, ErrForeignDir) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "move") {
			t.Errorf("got %v, want ErrForeignDir %s", err, name)
		}
	}
}

func FuzzDecodeMark(f *testing.F) {
	f.Add("test", "a (0001)", uint64(7), "doubt", uint16(9))
	f.Fuzz(func(t *testing.T, cluster, node string, term uint64, doubt string, at uint16) {
		m := mark{Version: sidecarVersion, Cluster: cluster, Node: node, Term: term, Doubt: doubt}
		slot, err := encodeMark(m)
		if err != nil {
			return // longer than a slot
		}
		got, err := decodeMark(slot)
		if err != nil || got.Term != term {
			t.Fatalf("round trip: %+v %v", got, err)
		}
		end := bytes.IndexByte(slot, '\n') + 1
		slot[int(at)%end] ^= 1 << (at % 8)
		if got, err := decodeMark(slot); err == nil {
			t.Fatalf("flipped bit %d was not seen: %+v", at, got)
		}
		_, _ = decodeMark([]byte(node)) // must not panic
	})
}
