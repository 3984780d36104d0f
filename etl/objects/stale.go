package objects

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// AbortStale drops multipart uploads below the store's prefix that were begun so long ago, with the parts that they hold (and
// that cost money), and returns how many. Copies that are under way are younger, if the age is chosen well.
func (s *Store) AbortStale(ctx context.Context, age time.Duration) (int, error) {
	before := time.Now().Add(-age)
	dropped := 0
	uploads, err := s.uploads(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, u := range uploads {
		if u.Initiated == nil || u.Initiated.After(before) {
			continue
		}
		if err := s.abort(ctx, s.short(aws.ToString(u.Key)), aws.ToString(u.UploadId)); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// abort ends an upload. That it is over is no error.
func (s *Store) abort(ctx context.Context, key, id string) error {
	err := s.patience.again(ctx, "abort an upload to "+s.URL(key), func(ctx context.Context) error {
		ctx, cancel := s.limited(ctx, 0)
		defer cancel()
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(key)), UploadId: &id})
		return err
	})
	if errors.Is(err, errNoUpload) {
		return nil
	}
	return err
}

// uploadsOf are the ids of the uploads to a key, the youngest first.
func (s *Store) uploadsOf(ctx context.Context, key string) ([]string, error) {
	all, err := s.uploads(ctx, key)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b types.MultipartUpload) int { return aws.ToTime(b.Initiated).Compare(aws.ToTime(a.Initiated)) })
	var ids []string
	for _, u := range all {
		if aws.ToString(u.Key) == s.full(key) {
			ids = append(ids, aws.ToString(u.UploadId))
		}
	}
	return ids, nil
}

func (s *Store) uploads(ctx context.Context, prefix string) ([]types.MultipartUpload, error) {
	var out []types.MultipartUpload
	in := &s3.ListMultipartUploadsInput{Bucket: &s.config.Bucket, Prefix: aws.String(s.full(prefix))}
	for {
		var page *s3.ListMultipartUploadsOutput
		err := s.patience.again(ctx, "list uploads to "+s.URL(prefix), func(ctx context.Context) (err error) {
			ctx, cancel := s.limited(ctx, 0)
			defer cancel()
			page, err = s.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page.Uploads...)
		if !aws.ToBool(page.IsTruncated) {
			return out, nil
		}
		if stays(in.KeyMarker, page.NextKeyMarker) && stays(in.UploadIdMarker, page.NextUploadIdMarker) {
			return nil, s.untrue(prefix, "after %d uploads it goes on where it began", len(page.Uploads))
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}
