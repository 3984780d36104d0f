package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/probe/journal"
)

func TestWhatIsAddedIsRead(t *testing.T) {
	folder := t.TempDir()
	add := func(node string, epoch int64, pid int, seqs ...int64) {
		t.Helper()
		file, err := journal.Open(folder, node, epoch, pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, seq := range seqs {
			if err := file.Add(seq); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	add("a", 1, 70, 1, 2)
	add("b", 2, -1080, 5)
	add("a", 1, 70, 4) // goes on
	var got []commitorder.Row
	if err := journal.Read(folder, func(r commitorder.Row) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	want := []commitorder.Row{{Node: "a", Epoch: 1, PID: 70, Seq: 1}, {Node: "a", Epoch: 1, PID: 70, Seq: 2}, {Node: "a", Epoch: 1, PID: 70, Seq: 4}, {Node: "b", Epoch: 2, PID: -1080, Seq: 5}}
	if !slices.Equal(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	var none *journal.File
	if err := none.Add(1); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoJournalIsAnError(t *testing.T) {
	for name, text := range map[string]string{"a_1": "1\n", "a_x_1": "1\n", "a_1_1": "one\n"} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := journal.Read(folder, func(commitorder.Row) {}); err == nil {
			t.Errorf("%s with %q is taken for a journal", name, text)
		}
	}
	if err := journal.Read(filepath.Join(t.TempDir(), "none"), func(commitorder.Row) {}); err == nil {
		t.Error("a missing folder has journals")
	}
}
