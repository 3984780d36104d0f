package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// damaged is a directory to be harmed: a log of a hundred entries in a tree of several pages, a free list, a snapshot with overflow.
func damaged(t *testing.T) (dir string, last uint64) {
	t.Helper()
	dir = t.TempDir()
	d, err := openDisk(dir, damagedOwner(), &window{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(40) {
		last = save(t, d, last, 1+n%4, 1+n/10)
	}
	snapshot := &pb.Snapshot{Data: bytes.Repeat([]byte("snapshot"), 900), Metadata: &pb.SnapshotMetadata{
		ConfState: &pb.ConfState{Voters: damagedOwner().voters}, Index: new(last - 10), Term: new(uint64(4)),
	}}
	compaction := &replica.Compaction{Snapshot: snapshot, Through: last - 60}
	if err := errors.Join(d.Save(&replica.Batch{Hard: hard(last, 5), Compact: compaction}), d.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, last
}

func damagedOwner() owner { return owner{cluster: "c", node: "n", voters: []uint64{1, 2, 3}} }

func hard(commit, term uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(uint64(2)), Commit: new(commit)}
}

// save appends entries of all lengths, and returns where the log ends then.
func save(t *testing.T, d *disk, last, count, term uint64) uint64 {
	t.Helper()
	b := &replica.Batch{Hard: hard(last, term)}
	for range count {
		last++
		data := strings.Repeat(fmt.Sprint("entry ", last), int(1+last%30))
		b.Entries = append(b.Entries, &pb.Entry{Index: new(last), Term: new(term), Data: []byte(data)})
	}
	if err := d.Save(b); err != nil {
		t.Errorf("save: %v", err)
	}
	return last
}

// content is everything that a disk remembers.
func content(t *testing.T, d *disk) string {
	t.Helper()
	first, err := d.memory.FirstIndex()
	last, lastErr := d.memory.LastIndex()
	entries, entriesErr := d.memory.Entries(first, last+1, 1<<40)
	snapshot, snapshotErr := d.memory.Snapshot()
	if err := errors.Join(err, lastErr, entriesErr, snapshotErr); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(d.memory.Hard(), first, entries, snapshot)
}

// reopened writes and opens once more what was taken in spite of the damage: something may lie where the next write goes.
func reopened(t *testing.T, d *disk, dir string) {
	t.Helper()
	last, err := d.memory.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		last = save(t, d, last, 4, 9)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDisk(dir, damagedOwner(), &window{})
	if err != nil {
		t.Errorf("taken, and refused after the next writes: %v", err)
		return
	}
	if got, err := again.memory.LastIndex(); err != nil || got != last {
		t.Errorf("the log ends at %d, want %d: %v", got, last, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamageIsNeverTaken: flipped bytes, a cut and a torn write in either file. Each is refused with what to do, or doubted, or it hit
// what nobody reads: then all is as it was, and goes on.
func TestDamageIsNeverTaken(t *testing.T) {
	dir, _ := damaged(t)
	sound, err := openDisk(dir, damagedOwner(), &window{})
	if err != nil {
		t.Fatal(err)
	}
	want := content(t, sound)
	if err := sound.Close(); err != nil {
		t.Fatal(err)
	}
	taken, doubted, refused := 0, 0, 0
	for name, harms := range map[string]func([]byte) map[string][]byte{diskFile: harmsOfPages, sidecarFile: harmsOfLines} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for label, changed := range harms(text) {
			harmed := t.TempDir()
			if err := errors.Join(os.CopyFS(harmed, os.DirFS(dir)), os.Remove(filepath.Join(harmed, name)),
				os.WriteFile(filepath.Join(harmed, name), changed, 0o600)); err != nil {
				t.Fatal(err)
			}
			d, err := openDisk(harmed, damagedOwner(), &window{})
			switch {
			case err != nil && strings.Contains(err.Error(), adviceDamaged):
				refused++
			case err != nil:
				t.Errorf("%s, %s: %v does not say what to do", name, label, err)
			case d.doubt != "":
				doubted++
				reopened(t, d, harmed)
			default:
				taken++
				if content(t, d) != want {
					t.Errorf("%s, %s: taken, and not what it was", name, label)
				}
				reopened(t, d, harmed)
			}
		}
	}
	t.Logf("%d refused, %d doubted, %d of no effect", refused, doubted, taken)
	if refused == 0 || doubted == 0 || taken == 0 {
		t.Error("not all of it was hit")
	}
}

// harmsOfPages are dense where a page has its header and the first elements, and thin elsewhere.
func harmsOfPages(text []byte) map[string][]byte {
	harms := map[string][]byte{}
	for at := range bytes.TrimRight(text, "\x00") {
		if in := at % os.Getpagesize(); in < 16 || in < 96 && at%7 == 0 || at%997 == 0 {
			flip(harms, text, at)
		}
	}
	for at := 0; at < len(text); at += 8053 {
		cut(harms, text, at)
	}
	return harms
}

func harmsOfLines(text []byte) map[string][]byte {
	harms := map[string][]byte{}
	for at := 0; at < len(text); at++ {
		if in := at % slotBytes; in < 200 && in%11 == 0 || at%1013 == 0 {
			flip(harms, text, at)
		}
	}
	for at := 0; at < len(text); at += 2039 {
		cut(harms, text, at)
	}
	return harms
}

func flip(harms map[string][]byte, text []byte, at int) {
	changed := bytes.Clone(text)
	changed[at] ^= []byte{0x01, 0xff}[at%2]
	harms[fmt.Sprint("flipped at ", at)] = changed
}

func cut(harms map[string][]byte, text []byte, at int) {
	harms[fmt.Sprint("cut at ", at)] = text[:at]
	harms[fmt.Sprint("zeros from ", at)] = append(bytes.Clone(text[:at]), make([]byte, len(text)-at)...)
}
