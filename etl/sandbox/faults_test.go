package sandbox_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
)

func hasCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// once is an S3 client's option: no second try.
func once(o *s3.Options) { o.RetryMaxAttempts = 1 }

// upload begins a multipart upload in bucket tiles.
func upload(t *testing.T, client *s3.Client) *string {
	t.Helper()
	made, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String("tiles"), Key: aws.String("big"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.UploadId
}

func TestS3RefusesAWrongChecksum(t *testing.T) {
	client := s3Client(t, sandboxtest.Start(t, sandbox.Config{S3Buckets: []string{"tiles"}}))
	part := &s3.UploadPartInput{
		Bucket: aws.String("tiles"), Key: aws.String("big"), UploadId: upload(t, client), PartNumber: aws.Int32(1),
		Body: bytes.NewReader(noise(1 << 20)), ChecksumCRC32C: aws.String("AAAAAA=="),
	}
	if _, err := client.UploadPart(t.Context(), part, once); !hasCode(err, "BadDigest") {
		t.Errorf("a wrong checksum: %v", err)
	}
}

func TestAPartIsLostAndSentAgain(t *testing.T) {
	faults := &sandbox.Faults{}
	client := s3Client(t, sandboxtest.Start(t, sandbox.Config{S3Buckets: []string{"tiles"}, Faults: faults}))
	hits := faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Name: "/tiles/big", Skip: 1, Times: 2, After: 3 << 20, Lose: true})
	content := noise(12 << 20)
	id := upload(t, client)
	var parts []types.CompletedPart
	send := func(n int32, options ...func(*s3.Options)) error {
		body := content[(n-1)*6<<20 : n*6<<20]
		out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String("tiles"), Key: aws.String("big"), UploadId: id, PartNumber: aws.Int32(n), Body: bytes.NewReader(body), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
		}, options...)
		if err == nil {
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(n), ChecksumCRC32C: out.ChecksumCRC32C})
		}
		return err
	}
	if err := send(1); err != nil {
		t.Fatal(err)
	}
	if err := send(2, once); err == nil || hits() != 1 {
		t.Fatalf("a part that should be lost: %v, %d hits", err, hits())
	}
	listed, err := client.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String("tiles"), Key: aws.String("big"), UploadId: id})
	if err != nil || len(listed.Parts) != 1 {
		t.Fatalf("%d parts are listed, %v; the lost one is none", len(listed.Parts), err)
	}
	if err := send(2); err != nil || hits() != 2 { // lost again, then the client's own second try
		t.Fatalf("%v, %d hits", err, hits())
	}
	whole := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	done, err := client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: aws.String("tiles"), Key: aws.String("big"), UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		IfNoneMatch: aws.String("*"), ChecksumType: types.ChecksumTypeFullObject, ChecksumCRC32C: aws.String(base64Of(whole)),
	})
	if err != nil || aws.ToString(done.ChecksumCRC32C) != base64Of(whole) {
		t.Fatalf("%v, %v", done, err)
	}
}

func TestSlowDown(t *testing.T) {
	faults := &sandbox.Faults{}
	client := s3Client(t, sandboxtest.Start(t, sandbox.Config{S3Buckets: []string{"tiles"}, Faults: faults}))
	hits := faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "PutObject", Times: 1, Status: http.StatusServiceUnavailable, Reason: "SlowDown", RetryAfter: 1500 * time.Millisecond})
	put := func() error {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("tiles"), Key: aws.String("k"), Body: bytes.NewReader(noise(5 << 20))}, once)
		return err
	}
	err := put()
	var response *smithyhttp.ResponseError
	if !hasCode(err, "SlowDown") || !errors.As(err, &response) || response.Response.Header.Get("Retry-After") != "2" {
		t.Errorf("%v", err)
	}
	if err := put(); err != nil || hits() != 1 {
		t.Errorf("after it: %v, %d hits", err, hits())
	}
	faults.Add(sandbox.Fault{Server: sandbox.S3, Status: http.StatusServiceUnavailable, Reason: "SlowDown"})
	if err := put(); !hasCode(err, "SlowDown") {
		t.Errorf("%v", err)
	}
	faults.Clear()
	if err := put(); err != nil {
		t.Errorf("after Clear: %v", err)
	}
}

func TestAnObjectIsReplacedWhileItIsRead(t *testing.T) {
	faults := &sandbox.Faults{}
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, Faults: faults})
	o := sandbox.Object{Bucket: "staging", Name: "shard", Content: noise(8 << 20)}
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	object := gcsClient(t, s).Bucket("staging").Object("shard")
	before, err := object.Attrs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hits := faults.Add(sandbox.Fault{Server: sandbox.GCS, Call: "read", Name: "shard", Times: 1, After: 1 << 20, Lose: true, Do: func() {
		if err := s.Put(t.Context(), sandbox.Object{Bucket: "staging", Name: "shard", Content: []byte("other")}); err != nil {
			t.Error(err)
		}
	}})
	r, err := object.Generation(before.Generation).ReadCompressed(true).NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r) // the client reads on where it was cut off, and finds its generation gone
	if err == nil || len(got) < 1<<20 || len(got) == len(o.Content) || hits() != 1 {
		t.Errorf("%d bytes, %v, %d hits", len(got), err, hits())
	}
	after, err := object.Attrs(t.Context())
	if err != nil || after.Generation == before.Generation || after.Size != 5 {
		t.Errorf("%+v, %v", after, err)
	}
}
