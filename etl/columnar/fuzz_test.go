package columnar

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/duoflow/duoflow/etl/tile"
)

// FuzzRead: a file that is taken holds sorted rows that are written as a file with the same rows; one that is refused hands out nothing
// beyond the row groups that were sound. Files are Parquet's own format, and its library reads the lengths in them.
func FuzzRead(f *testing.F) {
	for _, rows := range [][]tile.Row{nil, {{Day: 17000, Lat10: 281, Lon10: -955, Strikes: 12}}, {
		{Day: 17000, Lat10: 281, Lon10: -955, Strikes: 12}, {Day: 17000, Lat10: 281, Lon10: -954, Strikes: 1}, {Day: 17001, Lat10: -1, Lon10: 3, Strikes: 1 << 30},
	}} {
		f.Add(fileOf(f, rows))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file []byte) {
		path := filepath.Join(dir, "fuzzed.parquet")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		var all tile.Table
		err := Read(t.Context(), path, func(group *tile.Table) error {
			for i := range group.Len() {
				all.Append(group.Row(i))
			}
			return nil
		})
		if err != nil {
			if err.Error() == "" || !bytes.Contains([]byte(err.Error()), []byte(path)) {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		var again bytes.Buffer
		if err := Write(&again, &all); err != nil {
			t.Fatalf("%d rows were taken that cannot be written: %v", all.Len(), err)
		}
		if err := os.WriteFile(path, again.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		at := 0
		err = Read(t.Context(), path, func(group *tile.Table) error {
			for i := range group.Len() {
				if at >= all.Len() || group.Row(i) != all.Row(at) {
					t.Fatalf("row %d changed", at)
				}
				at++
			}
			return nil
		})
		if err != nil || at != all.Len() {
			t.Fatalf("%d of %d rows came back: %v", at, all.Len(), err)
		}
	})
}

func fileOf(f *testing.F, rows []tile.Row) []byte {
	f.Helper()
	var table tile.Table
	for _, r := range rows {
		table.Append(r)
	}
	table.Sort()
	var out bytes.Buffer
	if err := Write(&out, &table); err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}
