package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// Object is one in S3.
type Object struct {
	Key    string `json:"key"` // below the store's prefix
	Size   int64  `json:"size"`
	CRC32C uint32 `json:"crc32c"`
	Source string `json:"source,omitempty"` // what it was made of: gs://bucket/name#generation; "" = unknown
}

// Names in an object's metadata. The checksum stands there too because not every server keeps one.
const (
	metaCRC    = "crc32c"
	metaSource = "source"
)

func (o Object) metadata() map[string]string {
	m := map[string]string{metaCRC: spellCRC(o.CRC32C)}
	if o.Source != "" {
		m[metaSource] = o.Source
	}
	return m
}

// Head asks for an object: one call. ErrNotFound if there is none; ErrChecksum if nobody knows its CRC32C.
func (s *Store) Head(ctx context.Context, key string) (Object, error) {
	out := Object{Key: key}
	err := s.patience.again(ctx, "head "+s.URL(key), func(ctx context.Context) error {
		ctx, cancel := s.limited(ctx, 0)
		defer cancel()
		head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(key)), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			return err
		}
		out.Size, out.Source = aws.ToInt64(head.ContentLength), head.Metadata[metaSource]
		spelled := head.Metadata[metaCRC]
		if kept := aws.ToString(head.ChecksumCRC32C); kept != "" && head.ChecksumType != types.ChecksumTypeComposite {
			spelled = kept
		}
		var ok bool
		if out.CRC32C, ok = parseCRC(spelled); !ok {
			return &Fault{Op: "head " + s.URL(key), Permanent: true, Err: fmt.Errorf("%w: it has no CRC32C; it was not written by this program", ErrChecksum)}
		}
		return nil
	})
	return out, err
}

// Put writes a small object, all at once. That the same bytes are there already is no error; ErrExists if other ones are.
func (s *Store) Put(ctx context.Context, key string, data []byte) (Object, error) {
	o := Object{Key: key, Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
	_, err := s.put(ctx, o, data)
	return o, err
}

// put tells whether the object was there already.
func (s *Store) put(ctx context.Context, o Object, data []byte) (existed bool, err error) {
	try := func() error {
		return s.patience.again(ctx, "put "+s.URL(o.Key), func(ctx context.Context) error {
			ctx, cancel := s.limited(ctx, o.Size)
			defer cancel()
			in := &s3.PutObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(o.Key)), Body: bytes.NewReader(data), ContentLength: &o.Size, IfNoneMatch: aws.String("*"), Metadata: o.metadata()}
			if s.keepsChecksums() {
				in.ChecksumCRC32C = aws.String(spellCRC(o.CRC32C))
			} else {
				in.ContentMD5 = aws.String(md5Of(data))
			}
			out, putErr := s.client.PutObject(ctx, in, s.unsigned)
			if putErr != nil {
				return putErr
			}
			return s.confirm(out.ChecksumCRC32C, o.CRC32C)
		})
	}
	err = try()
	if s.withoutChecksums(err) {
		err = try()
	}
	if !errors.Is(err, ErrExists) {
		return false, err
	}
	return true, s.same(ctx, o, err)
}

// same looks whether what is at the key is the object, and returns the error that led here if it is not.
func (s *Store) same(ctx context.Context, o Object, because error) error {
	there, err := s.Head(ctx, o.Key)
	switch {
	case errors.Is(err, ErrNotFound):
		return because
	case err != nil:
		return err
	case there.Size != o.Size || there.CRC32C != o.CRC32C:
		return &Fault{Op: "write " + s.URL(o.Key), Permanent: true, Err: fmt.Errorf("%w: %d bytes with CRC32C %08x, not %d with %08x", ErrExists, there.Size, there.CRC32C, o.Size, o.CRC32C)}
	}
	return nil
}

// confirm compares the checksum that the server says it has kept.
func (s *Store) confirm(kept *string, want uint32) error {
	if !s.keepsChecksums() {
		return nil
	}
	if kept == nil {
		return errNoChecksums
	}
	if got, ok := parseCRC(*kept); !ok || got != want {
		return fmt.Errorf("%w: the server got %s, sent was %s", ErrChecksum, *kept, spellCRC(want))
	}
	return nil
}

// withoutChecksums tells whether the error is that the server keeps no checksums and may be used nevertheless. From now on
// none are asked of it.
func (s *Store) withoutChecksums(err error) bool {
	if err == nil || !s.keepsChecksums() || !s.mayDoWithout() {
		return false
	}
	var api smithy.APIError
	refused := errors.As(err, &api) && slices.Contains([]string{"NotImplemented", "InvalidArgument", "InvalidRequest"}, api.ErrorCode())
	if !refused && !errors.Is(err, errNoChecksums) {
		return false
	}
	if s.plain.CompareAndSwap(false, true) {
		s.config.Logger.Warn("the S3 server keeps no CRC32C; parts are sent with MD5, and a copy that was cut off begins anew", "err", err)
	}
	return true
}

// limited ends a call that moves so many bytes when it is hopelessly slow: a minute, and one second for each 64 KiB.
func (s *Store) limited(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Minute+time.Duration(size>>16)*time.Second)
}

// Read returns a small object, at most so many bytes. ErrNotFound if there is none.
func (s *Store) Read(ctx context.Context, key string, most int64) ([]byte, error) {
	var data []byte
	err := s.patience.again(ctx, "read "+s.URL(key), func(ctx context.Context) error {
		ctx, cancel := s.limited(ctx, most)
		defer cancel()
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(key)), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		data, err = io.ReadAll(io.LimitReader(out.Body, most+1))
		if err != nil {
			return err
		}
		if int64(len(data)) > most {
			return &Fault{Op: "read " + s.URL(key), Permanent: true, Err: fmt.Errorf("more than %d bytes", most)}
		}
		if want, ok := parseCRC(out.Metadata[metaCRC]); ok && crc32.Checksum(data, castagnoli) != want {
			return ErrChecksum
		}
		return nil
	})
	return data, err
}

// List returns the objects whose keys begin so, in the order of their keys. Their checksums are not known to a list.
func (s *Store) List(ctx context.Context, prefix string) ([]Object, error) {
	var out []Object
	err := s.eachObject(ctx, prefix, func(o types.Object) {
		out = append(out, Object{Key: s.short(aws.ToString(o.Key)), Size: aws.ToInt64(o.Size)})
	})
	return out, err
}

func (s *Store) short(full string) string {
	if s.config.Prefix == "" {
		return full
	}
	return strings.TrimPrefix(full, s.config.Prefix+"/")
}

func (s *Store) eachObject(ctx context.Context, prefix string, each func(types.Object)) error {
	in := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: aws.String(s.full(prefix))}
	for {
		var page *s3.ListObjectsV2Output
		err := s.patience.again(ctx, "list "+s.URL(prefix), func(ctx context.Context) (err error) {
			ctx, cancel := s.limited(ctx, 0)
			defer cancel()
			page, err = s.client.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			if aws.ToInt64(o.Size) < 0 {
				return s.untrue(prefix, "%s has %d bytes", aws.ToString(o.Key), aws.ToInt64(o.Size))
			}
			each(o)
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if stays(in.ContinuationToken, page.NextContinuationToken) {
			return s.untrue(prefix, "after %d objects it goes on where it began", len(page.Contents))
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// stays tells whether a list that is to go on would do so from where the page began: then it would never end.
func stays(from, next *string) bool {
	return aws.ToString(next) == "" || aws.ToString(next) == aws.ToString(from)
}

// untrue is the fault of a list that cannot be.
func (s *Store) untrue(key, format string, a ...any) error {
	return &Fault{Op: "list " + s.URL(key), Permanent: true, Hint: "is that the server that you mean?", Err: fmt.Errorf("%w: "+format, append([]any{errList}, a...)...)}
}

// Delete removes an object. That there is none is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.patience.again(ctx, "delete "+s.URL(key), func(ctx context.Context) error {
		ctx, cancel := s.limited(ctx, 0)
		defer cancel()
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(key))})
		return err
	})
}

func md5Of(data []byte) string {
	sum := md5.Sum(data) // of S3's own choice; against accidents, not against people
	return base64.StdEncoding.EncodeToString(sum[:])
}
