package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
)

// helperTask is what a helper process is told in the environment variable of this name.
const helperTask = "DUOFLOW_OBJECTS_TEST_TASK"

func TestMain(m *testing.M) {
	if task := os.Getenv(helperTask); task != "" {
		if err := help(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // it is a main of its own
		}
		return
	}
	goleak.VerifyTestMain(m, sandboxtest.Leftovers()...)
}

// helper is the work of a helper process.
type helper struct {
	S3   S3Config
	GCS  string
	Task Task
}

func help(task string) error {
	var h helper
	if err := json.Unmarshal([]byte(task), &h); err != nil {
		return err
	}
	ctx := context.Background()
	store, err := OpenStore(ctx, h.S3)
	if err != nil {
		return err
	}
	from, err := OpenGCS(ctx, GCSConfig{Endpoint: h.GCS})
	if err != nil {
		return err
	}
	_, err = store.Copy(ctx, from, h.Task)
	return err
}

// scene is a sandbox with a bucket at each side.
type scene struct {
	t      testing.TB
	box    *sandbox.Sandbox
	faults *sandbox.Faults
	from   *GCS
	store  *Store
}

func newScene(t testing.TB, change ...func(*S3Config)) *scene {
	t.Helper()
	s := &scene{t: t, faults: &sandbox.Faults{}}
	s.box = sandboxtest.Start(t, sandbox.Config{S3Buckets: []string{"tiles"}, GCSBuckets: []string{"staging"}, Faults: s.faults})
	var err error
	if s.from, err = OpenGCS(t.Context(), GCSConfig{Endpoint: s.box.Endpoints().GCS}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.from.Close() })
	s.store = s.open(change...)
	return s
}

func (s *scene) config() S3Config {
	e := s.box.Endpoints()
	return S3Config{Bucket: "tiles", Prefix: "/a/b/", Region: e.Region, Endpoint: e.S3, AccessKey: e.AccessKey, SecretKey: e.SecretKey, PartSize: minPart}
}

func (s *scene) open(change ...func(*S3Config)) *Store {
	s.t.Helper()
	c := s.config()
	for _, f := range change {
		f(&c)
	}
	store, err := OpenStore(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	return store
}

// put makes a source of so many bytes, which its name decides.
func (s *scene) put(name string, size int) Source {
	s.t.Helper()
	if err := s.box.Put(s.t.Context(), sandbox.Object{Bucket: "staging", Name: name, Content: noise(name, size), ContentEncoding: "gzip"}); err != nil {
		s.t.Fatal(err)
	}
	return s.stat(name)
}

func (s *scene) stat(name string) Source {
	s.t.Helper()
	list, err := s.from.List(s.t.Context(), "staging", name)
	if err != nil || len(list) != 1 {
		s.t.Fatalf("list: %v, %v", list, err)
	}
	return list[0]
}

// arrived checks the bytes that are in S3.
func (s *scene) arrived(c Copied, src Source) {
	s.t.Helper()
	want := noise(src.Name, int(src.Size))
	if c.Size != src.Size || c.CRC32C != crc32.Checksum(want, castagnoli) {
		s.t.Errorf("copied %+v of %+v", c, src)
	}
	head, err := s.store.Head(s.t.Context(), c.Key)
	if err != nil || head != c.Object || head.Source != src.URL() {
		s.t.Errorf("head %+v, %v, copied %+v", head, err, c)
	}
	file := filepath.Join(s.t.TempDir(), "got")
	if err := s.store.Get(s.t.Context(), c.Object, file); err != nil {
		s.t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("%d bytes that differ, %v", len(got), err)
	}
}

// count counts calls that no fault planned before hits.
func (s *scene) count(call string) func() int {
	return s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: call})
}

// left is how many uploads are open.
func (s *scene) left() int {
	s.t.Helper()
	all, err := s.store.uploads(s.t.Context(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	return len(all)
}

func noise(seed string, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", seed))))
	_, _ = r.Read(b)
	return b
}

func TestJoinCRC(t *testing.T) {
	data := noise("crc", 100_000)
	want := crc32.Checksum(data, castagnoli)
	for _, cut := range []int{0, 1, 7, 4096, 65_536, 99_999, 100_000} {
		if got := joinCRC(crc32.Checksum(data[:cut], castagnoli), crc32.Checksum(data[cut:], castagnoli), int64(len(data)-cut)); got != want {
			t.Errorf("cut at %d: %08x, want %08x", cut, got, want)
		}
	}
}

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		size, part int64
		parts      int
	}{{minPart + 1, minPart, 2}, {3 * minPart, minPart, 3}, {maxParts*minPart + 1, minPart, maxParts}, {5 << 40, defaultPart, maxParts}} {
		parts := layout(c.size, c.part)
		var sum int64
		for i, p := range parts {
			if p.offset != sum || p.number != int32(i+1) {
				t.Fatalf("%d: part %+v does not follow", c.size, p)
			}
			sum += p.size
		}
		if len(parts) != c.parts || sum != c.size {
			t.Errorf("%d bytes: %d parts of %d bytes, want %d", c.size, len(parts), sum, c.parts)
		}
	}
}
