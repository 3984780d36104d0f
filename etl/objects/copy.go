package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/etl/tile"
)

// Task is one object to copy.
type Task struct {
	Source Source
	Key    string // where to; RawKey makes one

	// UploadID is of a multipart upload that was begun for this key, from the caller's ledger; "" = S3 is asked for it. One that
	// is over is no error.
	UploadID string

	// Begun is told the id of the upload before its first part is sent, so that the ledger can hold it; an error ends the copy.
	// nil = nobody wants to know. Small objects have no upload.
	Begun func(uploadID string) error

	// Moved is told of bytes that are in S3 now, those of an interrupted copy included; nil = nobody wants to know. It is told
	// again of those that have to be sent again. CopyAll calls those of its tasks at the same time.
	Moved func(bytes int64)
}

// Copied is what became of a Task.
type Copied struct {
	Object
	Existed bool  // it was there already, or somebody else was quicker
	Parts   int   // of the object; 0: it was put in one piece
	Kept    int   // of them, that an interrupted copy had left
	Sent    int64 // bytes that were uploaded by this call
}

// RawKey is the content-addressed key of a source: raw/<chunk>/<generation>-<crc32c>-<last part of the name>.
func RawKey(chunk tile.Chunk, s Source) string {
	return fmt.Sprintf("raw/%s/%d-%08x-%s", chunk, s.Generation, s.CRC32C, path.Base(s.Name))
}

// Copy brings an object from Google Cloud Storage. It goes on where an interrupted copy to the same key stopped. A copy that
// ends by its context, or by a transient fault, leaves its parts for the next; AbortStale clears up behind those that nobody
// takes up. Errors: ErrReplaced, ErrExists, ErrChecksum, Fault.
func (s *Store) Copy(ctx context.Context, from *GCS, t Task) (Copied, error) {
	src := t.Source
	return s.deliver(ctx, content{
		object: Object{Key: t.Key, Size: src.Size, CRC32C: src.CRC32C, Source: src.URL()},
		open: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return from.open(ctx, src, offset, length)
		},
	}, t)
}

// CopyAll copies tasks, S3Config.Parallel at a time, and ends at the first that fails. Results are in the order of the tasks;
// those of tasks that were not finished are zero.
func (s *Store) CopyAll(ctx context.Context, from *GCS, tasks []Task) ([]Copied, error) {
	out := make([]Copied, len(tasks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.config.Parallel)
	for i, t := range tasks {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			done, err := s.Copy(ctx, from, t)
			if err == nil {
				out[i] = done
			}
			return err
		})
	}
	err := group.Wait()
	return out, err
}

// PutFile uploads a file, which must not change meanwhile. As Copy it is resumed, and finds what is there already.
func (s *Store) PutFile(ctx context.Context, key, file string) (Copied, error) {
	f, err := os.Open(file)
	if err != nil {
		return Copied{}, fmt.Errorf("upload: %w", err)
	}
	defer f.Close()
	sum := crc32.New(castagnoli)
	size, err := io.Copy(sum, f)
	if err != nil {
		return Copied{}, fmt.Errorf("upload %s: %w", file, err)
	}
	return s.deliver(ctx, content{
		object: Object{Key: key, Size: size, CRC32C: sum.Sum32()},
		open: func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(f, offset, length)), nil
		},
	}, Task{Key: key})
}

// content is something to upload whose size and checksum are known.
type content struct {
	object Object
	open   func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
}

// deliver uploads content, unless it is there. An upload that turns out to be over is begun once more.
func (s *Store) deliver(ctx context.Context, c content, t Task) (Copied, error) {
	done := Copied{Object: c.object}
	op := "write " + s.URL(t.Key)
	err := s.same(ctx, c.object, errAbsent)
	if err == nil {
		done.Existed = true
		tell(t, c.object.Size)
		return done, nil
	}
	if !errors.Is(err, errAbsent) {
		return Copied{}, err
	}
	way := s.deliverParts
	if c.object.Size <= s.config.PartSize {
		way = s.deliverWhole
	}
	for restarts := 0; ; restarts++ {
		err = way(ctx, c, t, &done)
		again := s.withoutChecksums(err) || errors.Is(err, ErrChecksum) && restarts == 0
		switch {
		case err == nil:
			return done, nil
		case errors.Is(err, errNoUpload), errors.Is(err, ErrExists):
			// Somebody was quicker, or our own Complete went through and its answer was lost.
			if s.same(ctx, c.object, err) == nil {
				done.Existed = true
				return done, nil
			}
			again = errors.Is(err, errNoUpload)
		}
		if !again || restarts > 2 {
			return Copied{}, Judge(ctx, op, err)
		}
		t.UploadID, done = "", Copied{Object: c.object}
	}
}

// errAbsent: nothing is at the key yet.
var errAbsent = errors.New("nothing there")

// deliverWhole puts what is no larger than a part.
func (s *Store) deliverWhole(ctx context.Context, c content, t Task, done *Copied) error {
	buffer := s.borrow()
	defer s.giveBack(buffer)
	data := buffer[:c.object.Size]
	feed := &feed{store: s, content: c}
	defer feed.close()
	if err := feed.fill(ctx, 0, data); err != nil {
		return err
	}
	if got := crc32.Checksum(data, castagnoli); got != c.object.CRC32C {
		return damaged(c.object, got)
	}
	existed, err := s.put(ctx, c.object, data)
	if err != nil {
		return err
	}
	if done.Existed = existed; !existed {
		done.Sent = c.object.Size
	}
	tell(t, c.object.Size)
	return nil
}

func damaged(o Object, got uint32) error {
	return &Fault{Op: "copy " + o.Source + " to " + o.Key, Permanent: true, Hint: "read twice, wrong twice: the source, or the way to it, is damaged", Err: fmt.Errorf("%w: CRC32C is %08x, the source says %08x", ErrChecksum, got, o.CRC32C)}
}

func tell(t Task, bytes int64) {
	if t.Moved != nil && bytes > 0 {
		t.Moved(bytes)
	}
}

// borrow takes a buffer of PartSize that is not in use.
func (s *Store) borrow() []byte {
	select {
	case b := <-s.buffers:
		return b
	default:
		return make([]byte, s.config.PartSize)
	}
}

// giveBack keeps a buffer for the next, unless there are enough, or it is one of the larger ones that huge objects need.
func (s *Store) giveBack(b []byte) {
	if int64(cap(b)) != s.config.PartSize {
		return
	}
	select {
	case s.buffers <- b[:cap(b)]:
	default:
	}
}
