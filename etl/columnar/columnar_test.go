package columnar_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/tile"
)

// tiles is a sorted table of n rows, as thick as a year: about one tile in 40 of the box each day.
func tiles(n int) *tile.Table {
	random := rand.New(rand.NewPCG(3, 4))
	var t tile.Table
	t.Grow(n)
	r := tile.Row{Day: 17532, Lat10: 166, Lon10: -1418}
	for range n {
		if r.Lon10 += int16(1 + random.IntN(20)*random.IntN(3)); r.Lon10 > -432 {
			r.Lon10, r.Lat10 = -1418+int16(random.IntN(100)), r.Lat10+int16(1+random.IntN(3))
		}
		if r.Lat10 > 517 {
			r.Lat10, r.Day = 166, r.Day+1
		}
		r.Strikes = int32(1 + random.IntN(9)*random.IntN(1+random.IntN(30)))
		t.Append(r)
	}
	return &t
}

func write(t testing.TB, table *tile.Table) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := columnar.Write(&b, table); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t testing.TB, file []byte) (*tile.Table, int, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	var all tile.Table
	groups := 0
	err := columnar.Read(context.Background(), path, func(part *tile.Table) error {
		groups++
		for i := range part.Len() {
			all.Append(part.Row(i))
		}
		return nil
	})
	return &all, groups, err
}

func TestReadsBackWhatWasWritten(t *testing.T) {
	for _, n := range []int{0, 1, 1023, 1024, 1025, 32 << 10, 128<<10 - 1, 128 << 10, 128<<10 + 1, 300_000} {
		table := tiles(n)
		back, groups, err := read(t, write(t, table))
		if err != nil || back.Totals() != table.Totals() || n > 0 && !reflect.DeepEqual(back, table) {
			t.Errorf("%d rows: %v, %+v, want %+v", n, err, back.Totals(), table.Totals())
		}
		if want := (n + 128<<10 - 1) / (128 << 10); groups != want {
			t.Errorf("%d rows: %d row groups, want %d", n, groups, want)
		}
	}
}

func TestExtremesReadBack(t *testing.T) {
	table := &tile.Table{
		Day:     []tile.Day{math.MinInt32, 0, math.MaxInt32, math.MaxInt32},
		Lat10:   []int16{math.MinInt16, 0, math.MinInt16, math.MaxInt16},
		Lon10:   []int16{math.MaxInt16, math.MinInt16, 0, math.MinInt16},
		Strikes: []int32{math.MaxInt32, math.MinInt32, 0, math.MaxInt32},
	}
	if back, _, err := read(t, write(t, table)); err != nil || !reflect.DeepEqual(back, table) {
		t.Errorf("%v, %+v", err, back)
	}
}

func TestEqualTablesGiveEqualBytes(t *testing.T) {
	first := sha256.Sum256(write(t, tiles(300_000)))
	for _, n := range []int{1, 2, 8} {
		before := runtime.GOMAXPROCS(n)
		again := sha256.Sum256(write(t, tiles(300_000)))
		runtime.GOMAXPROCS(before)
		if again != first {
			t.Errorf("with %d threads: other bytes", n)
		}
	}
	shuffled := tiles(300_000)
	rand.New(rand.NewPCG(1, 1)).Shuffle(shuffled.Len(), func(i, j int) {
		shuffled.Day[i], shuffled.Day[j] = shuffled.Day[j], shuffled.Day[i]
		shuffled.Lat10[i], shuffled.Lat10[j] = shuffled.Lat10[j], shuffled.Lat10[i]
		shuffled.Lon10[i], shuffled.Lon10[j] = shuffled.Lon10[j], shuffled.Lon10[i]
		shuffled.Strikes[i], shuffled.Strikes[j] = shuffled.Strikes[j], shuffled.Strikes[i]
	})
	shuffled.Sort()
	if sha256.Sum256(write(t, shuffled)) != first {
		t.Error("shuffled and sorted: other bytes")
	}
	shuffled.Strikes[7]++
	if sha256.Sum256(write(t, shuffled)) == first {
		t.Error("another table: the same bytes")
	}
}

// If this fails, the files of all chunks get other bytes, and so other names, with this version: say so in the changelog.
func TestTheBytesAreThoseOfTheLastVersion(t *testing.T) {
	const want = "4bddfda865f44f3a517800eb5229c7b61bb6336a071f0469f3ddd39fe894d5a6"
	if got := fmt.Sprintf("%x", sha256.Sum256(write(t, tiles(200_000)))); got != want {
		t.Errorf("sha256 %s, was %s", got, want)
	}
}

func TestUnsortedIsRefused(t *testing.T) {
	swap := func(table *tile.Table, i, j int) { table.Lon10[i], table.Lon10[j] = table.Lon10[j], table.Lon10[i] }
	for name, spoil := range map[string]func(*tile.Table){
		"two swapped":             func(table *tile.Table) { swap(table, 10, 11) },
		"last":                    func(table *tile.Table) { table.Day[table.Len()-1] = 0 },
		"a tile twice":            func(table *tile.Table) { table.Append(table.Row(table.Len() - 1)) },
		"a tile twice, unequally": func(table *tile.Table) { r := table.Row(table.Len() - 1); r.Strikes++; table.Append(r) },
	} {
		table := tiles(2000)
		spoil(table)
		var b bytes.Buffer
		if err := columnar.Write(&b, table); !errors.Is(err, columnar.ErrUnsorted) || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
		if err := columnar.WriteUnordered(&b, table); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := read(t, b.Bytes()); !errors.Is(err, columnar.ErrUnsorted) {
			t.Errorf("%s: read back with %v", name, err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestErrorsOfTheWriter(t *testing.T) {
	if err := columnar.Write(full{}, tiles(10)); err == nil {
		t.Error("written to a full disk")
	}
	if err := columnar.Write(full{}, tiles(300_000)); err == nil {
		t.Error("written to a full disk")
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	type foreign struct {
		Day   int32 `parquet:"day,date"`
		Lat10 int32 `parquet:"lat10"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []foreign{{1, 2}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t, b.Bytes()); !errors.Is(err, columnar.ErrSchema) {
		t.Error(err)
	}
	for name, file := range map[string][]byte{"empty": nil, "text": []byte("day,lat10\n"), "truncated": write(t, tiles(5000))[:5000]} {
		if _, _, err := read(t, file); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if err := columnar.Read(t.Context(), filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestReadStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := os.WriteFile(path, write(t, tiles(300_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := columnar.Read(t.Context(), path, func(*tile.Table) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := columnar.Read(ctx, path, func(*tile.Table) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%v after %d row groups", err, calls)
	}
}

// A bit that is wrong in a page is found: every page has a checksum.
func TestChangedBytesOfPagesAreFound(t *testing.T) {
	table := tiles(20_000)
	file := write(t, table)
	random := rand.New(rand.NewPCG(9, 9))
	for range 100 {
		at := 200 + random.IntN(len(file)-2000)
		changed := bytes.Clone(file)
		changed[at] ^= 1 << random.IntN(8)
		if back, _, err := read(t, changed); err == nil && !reflect.DeepEqual(back, table) {
			t.Errorf("byte %d: other rows without an error", at)
		}
	}
}

const benchRows = 1 << 20

func BenchmarkWrite(b *testing.B) {
	table := tiles(benchRows)
	size := len(write(b, table))
	for b.Loop() {
		if err := columnar.Write(io.Discard, table); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
	b.ReportMetric(float64(size)/benchRows, "B/row")
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "t.parquet")
	if err := os.WriteFile(path, write(b, tiles(benchRows)), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := columnar.Read(b.Context(), path, func(*tile.Table) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
