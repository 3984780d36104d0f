package objects

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/duoflow/duoflow/etl/sandbox"
)

func TestCopy(t *testing.T) {
	s := newScene(t)
	for name, size := range map[string]int{"empty.csv.gz": 0, "small.csv.gz": 1000, "one-part.csv.gz": minPart, "parts.csv.gz": 3*minPart + 12345} {
		src := s.put("x/"+name, size)
		var moved int64
		task := Task{Source: src, Key: RawKey("2018", src), Moved: func(n int64) { moved += n }}
		done, err := s.store.Copy(t.Context(), s.from, task)
		if err != nil || done.Existed || done.Sent != src.Size || moved != src.Size {
			t.Fatalf("%s: %+v, %v, %d moved", name, done, err, moved)
		}
		s.arrived(done, src)
		again, err := s.store.Copy(t.Context(), s.from, task)
		if err != nil || !again.Existed || again.Sent != 0 || again.Object != done.Object {
			t.Errorf("%s again: %+v, %v", name, again, err)
		}
	}
	if n := s.left(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func TestCopyAll(t *testing.T) {
	s := newScene(t, func(c *S3Config) { c.Parallel = 3 })
	var tasks []Task
	var moved atomic.Int64
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		src := s.put(name, 2*minPart+len(tasks)*1000)
		tasks = append(tasks, Task{Source: src, Key: RawKey("2018", src), Moved: func(n int64) { moved.Add(n) }})
	}
	done, err := s.store.CopyAll(t.Context(), s.from, tasks)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for i, d := range done {
		s.arrived(d, tasks[i].Source)
		sum += d.Size
	}
	if moved.Load() != sum {
		t.Errorf("%d bytes moved, %d copied", moved.Load(), sum)
	}
}

func TestPutFile(t *testing.T) {
	s := newScene(t)
	file := filepath.Join(t.TempDir(), "f")
	data := noise("file", 2*minPart+1)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := s.store.PutFile(t.Context(), "k", file)
	if err != nil || done.Parts != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if again, err := s.store.PutFile(t.Context(), "k", file); err != nil || !again.Existed {
		t.Errorf("again: %+v, %v", again, err)
	}
	if err := os.WriteFile(file, data[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.PutFile(t.Context(), "k", file); !errors.Is(err, ErrExists) || !Permanent(err) {
		t.Errorf("other bytes at the same key: %v", err)
	}
}

// The source says that it is something else than what is read.
func TestCopyOfOtherBytesMakesNoObject(t *testing.T) {
	s := newScene(t)
	for _, size := range []int{1000, 2*minPart + 1} {
		src := s.put("x", size)
		src.CRC32C++
		if _, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"}); !errors.Is(err, ErrChecksum) || !Permanent(err) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := s.store.Head(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d bytes: an object came into being: %v", size, err)
		}
	}
	if n := s.left(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func TestS3RefusesAWrongPart(t *testing.T) {
	s := newScene(t, func(c *S3Config) { c.Tries = 2 })
	data := noise("x", minPart)
	u := &upload{store: s.store, object: Object{Key: "k", Size: 2 * minPart}}
	if err := u.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := s.count("UploadPart")
	if err := u.send(t.Context(), &part{number: 1, size: minPart, crc: 1}, data); !errors.Is(err, ErrChecksum) || sent() != 2 {
		t.Errorf("%v after %d tries", err, sent())
	}
	if _, err := s.store.put(t.Context(), Object{Key: "k", Size: minPart, CRC32C: 1}, data); !errors.Is(err, ErrChecksum) {
		t.Errorf("put: %v", err)
	}
}

func TestSourceIsReplacedMeanwhile(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 4*minPart)
	s.faults.Add(sandbox.Fault{Server: sandbox.GCS, Call: "read", Times: 1, After: 2*minPart + 7, Lose: true, Do: func() { s.put("x", 10) }})
	_, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if !errors.Is(err, ErrReplaced) || !Permanent(err) {
		t.Errorf("%v", err)
	}
	if n := s.left(); n != 0 {
		t.Errorf("%d uploads are left of an object that never will be", n)
	}
	if _, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"}); !errors.Is(err, ErrReplaced) {
		t.Errorf("before the first byte: %v", err)
	}
	now := s.stat("x")
	done, err := s.store.Copy(t.Context(), s.from, Task{Source: now, Key: "k"})
	if err != nil || done.Size != 10 {
		t.Errorf("planned again: %+v, %v", done, err)
	}
}

func TestSecondWriterLosesCleanly(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 3*minPart)
	other := s.open()
	t.Run("just before the end", func(t *testing.T) {
		s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "CompleteMultipartUpload", Times: 1, Do: func() {
			u := &upload{store: other, object: Object{Key: "k", Size: src.Size, CRC32C: src.CRC32C, Source: src.URL()}, parts: layout(src.Size, minPart)}
			if err := u.create(t.Context()); err != nil {
				t.Error(err)
			}
			c := content{object: u.object, open: s.opener(src)}
			if err := errors.Join(u.stream(t.Context(), c, func(part) {}), u.complete(t.Context())); err != nil {
				t.Error(err)
			}
		}})
		done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
		if err != nil || !done.Existed {
			t.Errorf("%+v, %v", done, err)
		}
		s.arrived(done, src)
	})
	t.Run("in the same upload", func(t *testing.T) {
		first := make(chan error, 1)
		s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Skip: 2, Times: 1, Do: func() {
			_, err := other.Copy(t.Context(), s.from, Task{Source: src, Key: "m"})
			first <- err
		}})
		done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "m"})
		if err != nil || !done.Existed {
			t.Errorf("%+v, %v", done, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		s.arrived(done, src)
	})
	t.Run("with other bytes", func(t *testing.T) {
		s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "CompleteMultipartUpload", Times: 1, Do: func() {
			if _, err := other.Put(t.Context(), "n", []byte("mine")); err != nil {
				t.Error(err)
			}
		}})
		if _, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "n"}); !errors.Is(err, ErrExists) || !Permanent(err) {
			t.Errorf("%v", err)
		}
	})
	if n := s.left(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func (s *scene) opener(src Source) func(context.Context, int64, int64) (io.ReadCloser, error) {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return s.from.open(ctx, src, offset, length)
	}
}
