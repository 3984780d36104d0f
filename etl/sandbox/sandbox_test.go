package sandbox_test

import (
	"bytes"
	"context"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, sandboxtest.Leftovers()...)
}

func s3Client(t *testing.T, s *sandbox.Sandbox) *s3.Client {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	e := s.Endpoints()
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(e.S3), Region: e.Region, UsePathStyle: true, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(e.AccessKey, e.SecretKey, ""),
	})
}

func gcsClient(t *testing.T, s *sandbox.Sandbox) *storage.Client {
	t.Helper()
	t.Setenv("STORAGE_EMULATOR_HOST", s.Endpoints().GCS)
	c, err := storage.NewClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestS3KeepsWhatItIsGiven(t *testing.T) {
	dir, keys := t.TempDir(), sandbox.Config{AccessKey: "key", SecretKey: "secret"}
	keys.Dir, keys.S3Buckets = dir, []string{"tiles"}
	content := noise(9 << 20) // more than the client sends without asking first
	t.Run("put", func(t *testing.T) {
		client := s3Client(t, sandboxtest.Start(t, keys))
		in := &s3.PutObjectInput{Bucket: aws.String("tiles"), Key: aws.String("a/b.bin"), Body: bytes.NewReader(content), IfNoneMatch: aws.String("*")}
		if _, err := client.PutObject(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		in.Body = bytes.NewReader(content)
		if _, err := client.PutObject(t.Context(), in); !hasCode(err, "PreconditionFailed") {
			t.Errorf("a second put with If-None-Match: %v", err)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		out, err := s3Client(t, sandboxtest.Start(t, keys)).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("tiles"), Key: aws.String("a/b.bin")})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(out.Body)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestGCSReadsPackedObjectsByTheXMLWay(t *testing.T) {
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}})
	content := noise(3 << 20)
	o := sandbox.Object{Bucket: "staging", Name: "x/y-000000000000.csv.gz", Content: content, ContentEncoding: "gzip"}
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	object := gcsClient(t, s).Bucket("staging").Object(o.Name)
	attrs, err := object.Attrs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)); attrs.CRC32C != want || attrs.Size != int64(len(content)) || attrs.Generation == 0 {
		t.Errorf("attributes: %+v, want checksum %d", attrs, want)
	}
	pinned := object.Generation(attrs.Generation).ReadCompressed(true)
	r, err := pinned.NewRangeReader(t.Context(), 1000, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, content[1000:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	o.Content = content[:100]
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := pinned.NewReader(t.Context()); err == nil {
		t.Error("an object that was replaced is read by its old generation")
	}
}

func TestTheWorkingDirectoryComesBack(t *testing.T) {
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("", func(t *testing.T) { sandboxtest.Start(t, sandbox.Config{}) })
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("%s, %v; before %s", after, err, before)
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := sandbox.New(sandbox.Config{S3: "0.0.0.0:9000", GCS: "example.org:1", AccessKey: "a"})
	for _, want := range []string{"dir", "s3: 0.0.0.0 is not", "gcs: example.org", "secret key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
	s := sandboxtest.Start(t, sandbox.Config{})
	taken := strings.TrimPrefix(s.Endpoints().S3, "http://")
	other, err := sandbox.New(sandbox.Config{Dir: t.TempDir(), S3: taken})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := other.Run(ctx); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a taken address: %v", err)
	}
}
