package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// streamBuffers is how many parts of one object are in memory: one is read while the other is sent.
const streamBuffers = 2

// stalled is how long a source may send nothing before the connection counts as lost.
const stalled = time.Minute

// stream sends the parts that S3 does not have, in their order: the next one is read meanwhile. sent is told of each, by one
// goroutine.
func (u *upload) stream(ctx context.Context, c content, sent func(part)) error {
	type filled struct {
		part *part
		data []byte
	}
	free, full := make(chan []byte, streamBuffers), make(chan filled)
	var missing []*part
	for i := range u.parts {
		if u.parts[i].etag == "" {
			missing = append(missing, &u.parts[i])
		}
	}
	size := max(u.store.config.PartSize, u.parts[0].size)
	for range min(streamBuffers, len(missing)) {
		b := u.store.borrow()
		if int64(len(b)) < size {
			b = make([]byte, size)
		}
		free <- b
	}
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(full)
		feed := &feed{store: u.store, content: c, missing: missing}
		defer feed.close()
		for _, p := range missing {
			var data []byte
			select {
			case data = <-free:
			case <-reading.Done():
				return context.Cause(reading)
			}
			if err := feed.fill(reading, p.offset, data[:p.size]); err != nil {
				return err
			}
			p.crc = crc32.Checksum(data[:p.size], castagnoli)
			select {
			case full <- filled{p, data}:
			case <-reading.Done():
				return context.Cause(reading)
			}
		}
		return nil
	})
	group.Go(func() error {
		for f := range full {
			// In the caller's context: a part that is under way when reading fails is sent to its end. It counts if the copy goes
			// on later, and an upload that is aborted beneath a part may come to life again.
			if err := u.send(ctx, f.part, f.data[:f.part.size]); err != nil {
				return err
			}
			sent(*f.part)
			free <- f.data // it has room for all there are
		}
		return nil
	})
	err := group.Wait()
	for {
		select {
		case b := <-free:
			u.store.giveBack(b)
		default:
			return err
		}
	}
}

// feed reads a source, in one piece as long as what is wanted is in one piece, and again where a connection was lost.
type feed struct {
	store   *Store
	content content
	missing []*part // what will be wanted; nil = all of it

	body   io.ReadCloser // nil: nothing is open
	cancel context.CancelCauseFunc
	cause  func() error // why the connection was given up, nil if it was not
	at     int64        // offset of the next byte of body
	end    int64        // offset behind its last one
}

var errStalled = errors.New("source sends nothing any more")

// fill reads the bytes at offset. Tries are counted anew whenever some bytes came.
func (f *feed) fill(ctx context.Context, offset int64, into []byte) error {
	op := fmt.Sprintf("read %s at %d", f.content.name(), offset)
	for try := 1; ; try++ {
		n, err := f.read(ctx, offset, into)
		if offset, into = offset+int64(n), into[n:]; err == nil {
			return nil
		}
		f.close()
		if n > 0 {
			try = 1
		}
		err = Judge(ctx, op, err)
		if try >= f.store.patience.tries || Permanent(err) {
			return err
		}
		if paused := f.store.patience.pause(ctx, try, err); paused != nil {
			return paused
		}
	}
}

// read reads as many of the bytes as one connection gives.
func (f *feed) read(ctx context.Context, offset int64, into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	if f.body == nil || f.at != offset {
		f.close()
		if err := f.open(ctx, offset); err != nil {
			return 0, err
		}
	}
	cancel := f.cancel
	watch := time.AfterFunc(stalled, func() { cancel(errStalled) })
	defer watch.Stop()
	done := 0
	for done < len(into) {
		n, err := f.body.Read(into[done:])
		done, f.at = done+n, f.at+int64(n)
		if n > 0 {
			watch.Reset(stalled)
		}
		if done == len(into) {
			return done, nil
		}
		if err == io.EOF { //nolint:errorlint // io.Reader's io.EOF is never wrapped
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return done, errors.Join(f.cause(), err)
		}
	}
	return done, nil
}

// open begins to read at offset, up to where something is that is not wanted.
func (f *feed) open(ctx context.Context, offset int64) error {
	f.end = f.content.object.Size
	for i, p := range f.missing {
		if p.offset+p.size > offset && (i+1 == len(f.missing) || f.missing[i+1].offset != p.offset+p.size) {
			f.end = p.offset + p.size
			break
		}
	}
	ctx, f.cancel = context.WithCancelCause(ctx)
	f.cause = func() error { return context.Cause(ctx) }
	watch := time.AfterFunc(stalled, func() { f.cancel(errStalled) })
	defer watch.Stop()
	body, err := f.content.open(ctx, offset, f.end-offset)
	if err != nil {
		err = errors.Join(f.cause(), err)
		f.cancel(nil)
		return err
	}
	f.body, f.at = body, offset
	return nil
}

func (f *feed) close() {
	if f.body != nil {
		_ = f.body.Close() // only read
		f.cancel(nil)
		f.body = nil
	}
}

func (c content) name() string {
	if c.object.Source != "" {
		return c.object.Source
	}
	return c.object.Key
}
