package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// FuzzLoad puts any records, framed as sound ones, into the file of a store: it is refused by an error that names the place, or gives a
// log that raft can be started with, which ends where the file does.
func FuzzLoad(f *testing.F) {
	snapshot, hard := replica.Seed([]uint64{1, 2, 3})
	first := snapshot.GetMetadata().GetIndex() + 1
	entry := &pb.Entry{Index: new(first), Term: new(uint64(2)), Data: []byte("12345678")}
	f.Add(marshal(f, snapshot), marshal(f, hard), marshal(f, entry), []byte{}, first)
	second := &pb.Entry{Index: new(first + 1), Term: new(uint64(2))}
	f.Add(marshal(f, snapshot), marshal(f, &pb.HardState{Term: new(uint64(2)), Commit: new(first)}), marshal(f, entry), marshal(f, second), first)
	f.Add(marshal(f, snapshot), marshal(f, hard), marshal(f, &pb.Entry{Index: new(uint64(math.MaxUint64))}), []byte{}, uint64(math.MaxUint64))
	who := owner{cluster: "test", node: "a (1)", voters: []uint64{1, 2, 3}}
	db := scratch(f, who)
	f.Fuzz(func(t *testing.T, snapshot, hard, one, two []byte, at uint64) {
		err := db.Update(func(tx *bbolt.Tx) error {
			if err := tx.DeleteBucket(bucketLog); err != nil {
				return err
			}
			_, made := tx.CreateBucket(bucketLog)
			return errors.Join(made, put(tx, bucketState, keySnapshot, snapshot), put(tx, bucketState, keyHard, hard),
				put(tx, bucketLog, indexKey(at), one), put(tx, bucketLog, indexKey(at+1), two))
		})
		if err != nil {
			t.Fatal(err)
		}
		memory, seen, err := load(db, who)
		if err != nil {
			if err.Error() == "" || seen != (found{}) && memory == nil && seen.last != 0 {
				t.Fatalf("%v, with %+v", err, seen)
			}
			return
		}
		if last, err := memory.LastIndex(); err != nil || last != seen.last {
			t.Fatalf("the log ends at %d, %v; told was %d", last, err, seen.last)
		}
		r, err := replica.New(replica.Config{ID: 1, Storage: memory, Machine: &list{}, HeartbeatTicks: 1, ElectionTicks: 10, SnapshotEvery: 100})
		if err != nil {
			return
		}
		if _, is := restored(memory, snapshot); !is {
			t.Fatal("another snapshot than the file's")
		}
		for range 12 {
			r.Tick()
		}
	})
}

// restored compares the snapshot in memory with the file's.
func restored(memory *replica.Memory, text []byte) (*pb.Snapshot, bool) {
	want := &pb.Snapshot{}
	if proto.Unmarshal(text, want) != nil {
		return nil, false
	}
	got, err := memory.Snapshot()
	return got, err == nil && got.GetMetadata().GetIndex() == want.GetMetadata().GetIndex() && bytes.Equal(got.GetData(), want.GetData())
}

// scratch is a file of a store, without the waits for the disk.
func scratch(f *testing.F, who owner) *bbolt.DB {
	f.Helper()
	dir := f.TempDir()
	if err := createFile(dir, who); err != nil {
		f.Fatal(err)
	}
	db, err := openFile(filepath.Join(dir, diskFile))
	if err != nil {
		f.Fatal(err)
	}
	db.NoSync, db.NoFreelistSync = true, true
	f.Cleanup(func() { _ = db.Close() })
	return db
}

func marshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	text, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// FuzzMeta: a meta page of bbolt is sound only if its sum is, and one flipped bit in what is summed is seen. No page size that a page
// tells makes the second look fail.
func FuzzMeta(f *testing.F) {
	f.Add([]byte("anything"), uint32(os.Getpagesize()), uint16(77))
	f.Add([]byte{}, uint32(math.MaxUint32), uint16(0))
	f.Add([]byte{}, uint32(0), uint16(100))
	f.Fuzz(func(t *testing.T, text []byte, size uint32, flip uint16) {
		page := make([]byte, metaOffset+metaSummed+8)
		copy(page[metaOffset:], text)
		meta := page[metaOffset:]
		binary.NativeEndian.PutUint32(meta, metaMagic)
		binary.NativeEndian.PutUint32(meta[metaPageSize:], size)
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:metaSummed])
		binary.NativeEndian.PutUint64(meta[metaSummed:], sum.Sum64())
		sound, told, err := readMeta(bytes.NewReader(page), 0)
		if err != nil || !sound || told != int64(size) {
			t.Fatalf("sound %v, page size %d of %d, %v", sound, told, size, err)
		}
		if _, _, err := readMeta(bytes.NewReader(page), told); err != nil {
			t.Fatalf("the second page: %v", err)
		}
		meta[int(flip/8)%(metaSummed+8)] ^= 1 << (flip % 8)
		if sound, _, err := readMeta(bytes.NewReader(page), 0); sound || err != nil {
			t.Fatalf("flipped bit %d was not seen: %v", flip, err)
		}
		if sound, _, err := readMeta(bytes.NewReader(text), 0); sound && len(text) < len(page) || err != nil {
			t.Fatalf("sound %v, %v", sound, err)
		}
	})
}

// FuzzSidecar: two slots of any text. What is read of them is a mark that one of them holds, and the newer one where both do.
func FuzzSidecar(f *testing.F) {
	older, err := encodeMark(mark{Version: sidecarVersion, Cluster: "test", Node: "a", Seq: 6, Term: 4})
	if err != nil {
		f.Fatal(err)
	}
	newer, err := encodeMark(mark{Version: sidecarVersion, Cluster: "test", Node: "a", Seq: 7, Term: 5, Vote: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimRight(older, "\x00"), bytes.TrimRight(newer, "\x00"))
	f.Add([]byte("00000000 \n"), []byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		text := make([]byte, 2*slotBytes)
		copy(text[:slotBytes], one)
		copy(text[slotBytes:], two)
		if err := os.WriteFile(filepath.Join(dir, sidecarFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		first, badFirst := decodeMark(text[:slotBytes])
		second, badSecond := decodeMark(text[slotBytes:])
		s, err := openSidecar(dir)
		defer func() { _ = s.close() }()
		if badFirst != nil && badSecond != nil {
			if !errors.Is(err, errSidecar) || s.found != (mark{}) || s.file != nil {
				t.Fatalf("no sound slot, and yet %+v, %v", s.found, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		want := first
		if badFirst != nil || badSecond == nil && second.Seq >= first.Seq {
			want = second
		}
		if s.found != want {
			t.Fatalf("%+v of %+v and %+v", s.found, first, second)
		}
		if again, err := encodeMark(want); err == nil && len(want.Doubt) <= doubtMost {
			if back, err := decodeMark(again); err != nil || back != want {
				t.Fatalf("%+v became %+v, %v", want, back, err)
			}
		}
	})
}
