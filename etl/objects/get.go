package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Get writes an object to a file, and only if its size and CRC32C are what the manifest says: the file comes into being once
// all of it is right. A file that is there is replaced. Where a connection is lost it reads on. ErrChecksum if the object is
// not the one that is meant.
func (s *Store) Get(ctx context.Context, o Object, file string) error {
	part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part*")
	if err != nil {
		return fmt.Errorf("get %s: %w", s.URL(o.Key), err)
	}
	defer os.Remove(part.Name())
	err = s.download(ctx, o, part)
	if closed := part.Close(); err == nil && closed != nil {
		err = fmt.Errorf("get %s: %w", s.URL(o.Key), closed)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(part.Name(), file); err != nil {
		return fmt.Errorf("get %s: %w", s.URL(o.Key), err)
	}
	return nil
}

// errFile marks what goes wrong at our end.
var errFile = errors.New("write file")

func (s *Store) download(ctx context.Context, o Object, to io.Writer) error {
	sum := crc32.New(castagnoli)
	d := download{store: s, object: o, to: io.MultiWriter(to, sum)}
	for try := 1; d.done < o.Size; try++ {
		before := d.done
		err := Judge(ctx, "get "+s.URL(o.Key), d.some(ctx))
		if err == nil {
			continue
		}
		if d.done > before {
			try = 1
		}
		if try >= s.patience.tries || Permanent(err) {
			return err
		}
		if paused := s.patience.pause(ctx, try, err); paused != nil {
			return paused
		}
	}
	if sum.Sum32() != o.CRC32C {
		return &Fault{Op: "get " + s.URL(o.Key), Permanent: true, Hint: "the object was damaged or exchanged", Err: fmt.Errorf("%w: CRC32C is %08x, not %08x", ErrChecksum, sum.Sum32(), o.CRC32C)}
	}
	return nil
}

// download is an object on its way here.
type download struct {
	store  *Store
	object Object
	to     io.Writer
	done   int64
	etag   *string // of the first answer; the later ones must be of the same object
}

// some reads from where it is as far as one connection gets.
func (d *download) some(ctx context.Context) error {
	ctx, cancel := d.store.limited(ctx, d.object.Size-d.done)
	defer cancel()
	in := &s3.GetObjectInput{Bucket: &d.store.config.Bucket, Key: aws.String(d.store.full(d.object.Key)), IfMatch: d.etag}
	if d.done > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", d.done))
	}
	out, err := d.store.client.GetObject(ctx, in)
	if err != nil {
		return err
	}
	defer out.Body.Close()
	if left := aws.ToInt64(out.ContentLength); left != d.object.Size-d.done {
		return &Fault{Op: "get " + d.store.URL(d.object.Key), Permanent: true, Err: fmt.Errorf("%w: %d bytes are left of it, not %d", ErrChecksum, left, d.object.Size-d.done)}
	}
	d.etag = out.ETag
	n, err := io.Copy(fileWriter{d.to}, out.Body)
	d.done += n
	if errors.Is(err, errFile) {
		return &Fault{Op: "get " + d.store.URL(d.object.Key), Permanent: true, Err: err}
	}
	return err
}

type fileWriter struct{ io.Writer }

func (w fileWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errFile, err)
	}
	return n, err
}
