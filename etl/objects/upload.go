package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// part is one of a multipart upload; once etag is set it is in S3.
type part struct {
	number       int32 // from 1
	offset, size int64
	crc          uint32
	etag         string
}

// layout cuts an object into parts: of the size that is configured, or larger if there would be too many.
func layout(size, partSize int64) []part {
	partSize = max(partSize, (size+maxParts-1)/maxParts)
	var out []part
	for offset := int64(0); offset < size; offset += partSize {
		out = append(out, part{number: int32(len(out) + 1), offset: offset, size: min(partSize, size-offset)})
	}
	return out
}

// upload is a multipart upload of S3 in the making.
type upload struct {
	store  *Store
	object Object
	id     string
	parts  []part
}

// deliverParts makes the object out of parts. It leaves the upload to be resumed, unless that could not lead anywhere.
func (s *Store) deliverParts(ctx context.Context, c content, t Task, done *Copied) error {
	u := &upload{store: s, object: c.object, parts: layout(c.object.Size, s.config.PartSize)}
	kept, err := u.begin(ctx, t.UploadID)
	if err != nil {
		return err
	}
	done.Parts, done.Kept = len(u.parts), kept
	if t.Begun != nil {
		if begun := t.Begun(u.id); begun != nil {
			return fmt.Errorf("note the upload of %s: %w", s.URL(t.Key), begun)
		}
	}
	for _, p := range u.parts {
		if p.etag != "" {
			tell(t, p.size)
		}
	}
	err = u.stream(ctx, c, func(p part) {
		done.Sent += p.size
		tell(t, p.size)
	})
	if err == nil {
		err = u.complete(ctx)
	}
	if errors.Is(err, ErrReplaced) || errors.Is(err, ErrChecksum) || errors.Is(err, ErrExists) || errors.Is(err, errNoChecksums) {
		u.abort(ctx)
	}
	return err
}

// begin takes up the upload that was left, or makes one. It returns how many parts S3 has.
func (u *upload) begin(ctx context.Context, known string) (kept int, err error) {
	ids := []string{known}
	if known == "" {
		if ids, err = u.store.uploadsOf(ctx, u.object.Key); err != nil {
			return 0, err
		}
	}
	for _, u.id = range ids {
		kept, err = u.take(ctx)
		if err == nil {
			return kept, nil
		}
		if !errors.Is(err, errNoUpload) {
			return 0, err
		}
	}
	if known != "" {
		return u.begin(ctx, "") // the ledger's is over; there may be another one's
	}
	return 0, u.create(ctx)
}

func (u *upload) create(ctx context.Context) error {
	in := &s3.CreateMultipartUploadInput{Bucket: &u.store.config.Bucket, Key: u.key(), Metadata: u.object.metadata()}
	if u.store.keepsChecksums() {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	return u.call(ctx, "begin an upload to", 0, func(ctx context.Context) error {
		out, err := u.store.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.id = aws.ToString(out.UploadId)
		}
		return err
	})
}

// take reads which parts an upload has. Only those count whose size and checksum S3 names; the others are sent again, over
// them. errNoUpload if it is over, or not of our making.
func (u *upload) take(ctx context.Context) (kept int, err error) {
	found := make(map[int32]types.Part)
	in := &s3.ListPartsInput{Bucket: &u.store.config.Bucket, Key: u.key(), UploadId: &u.id}
	for {
		var page *s3.ListPartsOutput
		err := u.call(ctx, "list the parts of", 0, func(ctx context.Context) (err error) {
			page, err = u.store.client.ListParts(ctx, in)
			return err
		})
		if err != nil {
			return 0, err
		}
		if u.store.keepsChecksums() && (page.ChecksumAlgorithm != types.ChecksumAlgorithmCrc32c || page.ChecksumType != types.ChecksumTypeFullObject) {
			return 0, errNoUpload
		}
		for _, p := range page.Parts {
			found[aws.ToInt32(p.PartNumber)] = p
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		if stays(in.PartNumberMarker, page.NextPartNumberMarker) {
			return 0, u.store.untrue(u.object.Key, "after %d parts it goes on where it began", len(page.Parts))
		}
		in.PartNumberMarker = page.NextPartNumberMarker
	}
	for i := range u.parts {
		p := &u.parts[i]
		there := found[p.number]
		crc, ok := parseCRC(aws.ToString(there.ChecksumCRC32C))
		if p.etag, p.crc = "", 0; ok && aws.ToInt64(there.Size) == p.size && aws.ToString(there.ETag) != "" {
			p.etag, p.crc = aws.ToString(there.ETag), crc
			kept++
		}
	}
	return kept, nil
}

// send uploads one part. S3 compares its checksum; a wrong one is refused.
func (u *upload) send(ctx context.Context, p *part, data []byte) error {
	in := &s3.UploadPartInput{Bucket: &u.store.config.Bucket, Key: u.key(), UploadId: &u.id, PartNumber: &p.number, ContentLength: &p.size}
	if u.store.keepsChecksums() {
		in.ChecksumCRC32C = aws.String(spellCRC(p.crc))
	} else {
		in.ContentMD5 = aws.String(md5Of(data))
	}
	return u.call(ctx, "upload part "+strconv.Itoa(int(p.number))+" of", p.size, func(ctx context.Context) error {
		in.Body = bytes.NewReader(data)
		out, err := u.store.client.UploadPart(ctx, in, u.store.unsigned)
		if err != nil {
			return err
		}
		if err := u.store.confirm(out.ChecksumCRC32C, p.crc); err != nil {
			return err
		}
		p.etag = aws.ToString(out.ETag)
		return nil
	})
}

// complete makes the object of its parts, if their checksums join to the one that the source publishes, and if nothing is at
// the key yet.
func (u *upload) complete(ctx context.Context) error {
	var whole uint32
	parts := make([]types.CompletedPart, len(u.parts))
	for i, p := range u.parts {
		whole = joinCRC(whole, p.crc, p.size)
		parts[i] = types.CompletedPart{PartNumber: &u.parts[i].number, ETag: aws.String(p.etag)}
		if u.store.keepsChecksums() {
			parts[i].ChecksumCRC32C = aws.String(spellCRC(p.crc))
		}
	}
	if whole != u.object.CRC32C {
		return damaged(u.object, whole)
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &u.store.config.Bucket, Key: u.key(), UploadId: &u.id, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if u.store.keepsChecksums() {
		in.ChecksumType, in.ChecksumCRC32C, in.MpuObjectSize = types.ChecksumTypeFullObject, aws.String(spellCRC(whole)), &u.object.Size
	}
	return u.call(ctx, "complete the upload of", u.object.Size, func(ctx context.Context) error {
		_, err := u.store.client.CompleteMultipartUpload(ctx, in)
		return err
	})
}

// abort drops the upload with its parts. It is tried once, even if the context has ended: AbortStale would get it later.
func (u *upload) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := u.store.abort(ctx, u.object.Key, u.id); err != nil {
		u.store.config.Logger.Debug("upload is left behind", "err", err)
	}
}

func (u *upload) key() *string { return aws.String(u.store.full(u.object.Key)) }

func (u *upload) call(ctx context.Context, what string, size int64, call func(context.Context) error) error {
	return u.store.patience.again(ctx, what+" "+u.store.URL(u.object.Key), func(ctx context.Context) error {
		ctx, cancel := u.store.limited(ctx, size)
		defer cancel()
		return call(ctx)
	})
}
