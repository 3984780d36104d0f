package objects

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/sandbox"
)

func TestPutIsConditional(t *testing.T) {
	s := newScene(t)
	first, err := s.store.Put(t.Context(), "k", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.store.Put(t.Context(), "k", []byte("one")); err != nil || again != first {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if _, err := s.store.Put(t.Context(), "k", []byte("two")); !errors.Is(err, ErrExists) || !Permanent(err) {
		t.Errorf("other bytes: %v", err)
	}
	if got, err := s.store.Read(t.Context(), "k", 100); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.store.Read(t.Context(), "k", 2); err == nil {
		t.Error("more than what was asked for is read")
	}
	if list, err := s.store.List(t.Context(), ""); err != nil || len(list) != 1 || list[0].Key != "k" || list[0].Size != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	for range 2 {
		if err := s.store.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.store.Head(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestGetTakesNothingElse(t *testing.T) {
	s := newScene(t)
	data := noise("x", 4<<20)
	o, err := s.store.Put(t.Context(), "k", data)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for name, wrong := range map[string]Object{"sum": {Key: "k", Size: o.Size, CRC32C: o.CRC32C + 1}, "size": {Key: "k", Size: o.Size + 1, CRC32C: o.CRC32C}} {
		if err := s.store.Get(t.Context(), wrong, file); !errors.Is(err, ErrChecksum) || !Permanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.store.Get(t.Context(), Object{Key: "m"}, file); err != nil {
		t.Errorf("an empty object needs no call: %v", err)
	}
	if err := s.store.Get(t.Context(), Object{Key: "m", Size: 1}, file); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	hits := s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "GetObject", Times: 2, After: 1 << 20, Lose: true})
	if err := s.store.Get(t.Context(), o, file); err != nil || hits() != 2 {
		t.Errorf("a connection that is lost: %v, %d hits", err, hits())
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestManifests(t *testing.T) {
	s := newScene(t)
	in := []Input{{Name: "gs://b/y", Generation: 2, Size: 3, CRC32C: 4}, {Name: "gs://b/x", Generation: 1}}
	hash := Hash("v1", in)
	if hash != Hash("v1", []Input{in[1], in[0]}) || hash == Hash("v2", in) || hash == Hash("v1", in[:1]) || len(hash) != 32 {
		t.Errorf("hash %s", hash)
	}
	m := Manifest{Step: "copy", Chunk: "2018", Hash: hash, Epoch: 7, Inputs: in, Objects: []Object{{Key: "raw/x", Size: 3, CRC32C: 4, Source: "gs://b/y#2"}}, Rows: 5}
	if has, err := s.store.Has(t.Context(), m.Step, m.Chunk, hash); err != nil || has {
		t.Fatalf("%v, %v", has, err)
	}
	if _, found, err := s.store.Find(t.Context(), m.Step, m.Chunk, hash); err != nil || found {
		t.Fatalf("%v, %v", found, err)
	}
	if got, err := s.store.Commit(t.Context(), m); err != nil || got.Epoch != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	later := m
	later.Epoch, later.Objects = 8, nil
	for _, again := range []Manifest{m, later} {
		if got, err := s.store.Commit(t.Context(), again); err != nil || got.Epoch != 7 || len(got.Objects) != 1 {
			t.Errorf("the second writer gets %+v, %v", got, err)
		}
	}
	calls := s.count("")
	if has, err := s.store.Has(t.Context(), m.Step, m.Chunk, hash); err != nil || !has || calls() != 1 {
		t.Errorf("%v, %v, %d calls", has, err, calls())
	}
	if got, found, err := s.store.Find(t.Context(), m.Step, m.Chunk, hash); err != nil || !found || got.Rows != 5 || got.Objects[0] != m.Objects[0] || calls() != 2 {
		t.Errorf("%+v, %v, %v", got, found, err)
	}
	for _, wrong := range []Manifest{{}, {Step: "a/b", Chunk: "2018", Hash: hash}, {Step: "a", Chunk: "..", Hash: hash}} {
		if _, err := s.store.Commit(t.Context(), wrong); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

func TestAbortStale(t *testing.T) {
	s := newScene(t)
	for _, key := range []string{"k", "m"} {
		u := &upload{store: s.store, object: Object{Key: key}}
		if err := u.create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.store.AbortStale(t.Context(), time.Hour); err != nil || n != 0 || s.left() != 2 {
		t.Errorf("young ones: %d, %v", n, err)
	}
	if n, err := s.open(func(c *S3Config) { c.Prefix = "elsewhere" }).AbortStale(t.Context(), -time.Hour); err != nil || n != 0 {
		t.Errorf("of others: %d, %v", n, err)
	}
	if n, err := s.store.AbortStale(t.Context(), -time.Hour); err != nil || n != 2 || s.left() != 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestFaultsHaveHints(t *testing.T) {
	s := newScene(t)
	put := func(change func(*S3Config)) error {
		_, err := s.open(change).Put(t.Context(), "k", []byte("x"))
		return err
	}
	_, missing := s.from.List(t.Context(), "no-such-bucket", "")
	for name, c := range map[string]struct {
		err  error
		hint string
	}{
		"bucket":     {put(func(c *S3Config) { c.Bucket = "missing" }), "make the bucket"},
		"access key": {put(func(c *S3Config) { c.AccessKey = "other" }), "access_key"},
		"secret key": {put(func(c *S3Config) { c.SecretKey = "other" }), "secret_key"},
		"gcs bucket": {missing, "make the bucket"},
	} {
		var f *Fault
		if !errors.As(c.err, &f) || !f.Permanent || !strings.Contains(f.Hint, c.hint) || strings.Contains(c.err.Error(), s.config().SecretKey) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	gone := s.open(func(c *S3Config) { c.Endpoint, c.Tries = "http://127.0.0.1:1", 2 })
	if _, err := gone.Head(t.Context(), "k"); err == nil || Permanent(err) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := OpenStore(t.Context(), S3Config{AccessKey: "a", PartSize: 1, Checksums: "none", Parallel: -1, Tries: 1000})
	for _, want := range []string{"bucket", "secret_key", "part_size", "checksums", "parallel", "tries"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
