package objects

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"google.golang.org/api/option"

	"github.com/duoflow/duoflow/etl/tile"
)

// spoken is a server that gives every call the same answer, and counts them.
type spoken struct {
	status int
	header http.Header
	text   string
	calls  int
	most   int // calls; then the caller's context is ended
	end    context.CancelFunc
}

func (s *spoken) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.calls++; s.calls >= s.most {
		s.end()
	}
	header := s.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: s.status, Status: http.StatusText(s.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(strings.NewReader(s.text)), ContentLength: int64(len(s.text)), Request: r}, nil
}

// mostCalls is far more than any of the calls below has a reason for, with one answer to all.
const mostCalls = 50

// storeOf is a store whose every call is tried once and answered so.
func storeOf(t *testing.T, answer *spoken) (*Store, context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	answer.most, answer.end = mostCalls, cancel
	c, err := S3Config{Bucket: "b", Prefix: "p", Tries: 1, Endpoint: "http://s3"}.complete()
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{config: c, custom: true, patience: patience{tries: 1}}
	s.client = s3.New(s3.Options{
		Region: "r", BaseEndpoint: aws.String("http://s3"), UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("k", "s", ""),
		HTTPClient: &http.Client{Transport: answer}, Retryer: aws.NopRetryer{}, DisableLogOutputChecksumValidationSkipped: true,
	})
	return s, ctx
}

// judged wants of an error that it names what was asked for, and that the caller learns what to think of it.
func judged(t *testing.T, err error, about string) {
	t.Helper()
	var f *Fault
	if err != nil && (!errors.As(err, &f) || !strings.Contains(err.Error(), about)) {
		t.Fatalf("%v does not name %s", err, about)
	}
}

// FuzzList: whatever S3 answers to a listing: of objects, of parts, of uploads. A list that does not come to an end is no list.
func FuzzList(f *testing.F) {
	f.Add(200, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key><Size>3</Size></Contents></ListBucketResult>`)
	f.Add(200, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><Contents><Key>q</Key></Contents></ListBucketResult>`)
	f.Add(200, `<ListPartsResult><ChecksumAlgorithm>CRC32C</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Part><PartNumber>1</PartNumber><ETag>e</ETag>`+
		`<Size>5242880</Size><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></Part></ListPartsResult>`)
	f.Add(200, `<ListMultipartUploadsResult><Upload><Key>p/k</Key><UploadId>u</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated></Upload></ListMultipartUploadsResult>`)
	f.Add(404, `<Error><Code>NoSuchBucket</Code></Error>`)
	f.Add(503, `<Error><Code>SlowDown</Code></Error>`)
	f.Fuzz(func(t *testing.T, status int, text string) {
		if status < 200 || status > 599 {
			return
		}
		answer := &spoken{status: status, text: text}
		s, ctx := storeOf(t, answer)
		list, err := s.List(ctx, "k")
		judged(t, err, "s3://b/p/k")
		for _, o := range list {
			if err == nil && o.Size < 0 {
				t.Fatalf("an object of %d bytes", o.Size)
			}
		}
		ids, err := s.uploadsOf(ctx, "k")
		judged(t, err, "s3://b/p/k")
		u := &upload{store: s, object: Object{Key: "k"}, id: "u", parts: layout(2*minPart+1, minPart)}
		kept, err := u.take(ctx)
		if err != nil && !errors.Is(err, errNoUpload) {
			judged(t, err, "s3://b/p/k")
		}
		have := 0
		for i, p := range u.parts {
			if int(p.number) != i+1 || p.size > minPart {
				t.Fatalf("part %+v", p)
			}
			if p.etag != "" {
				have++
			}
		}
		if err == nil && have != kept || kept > len(u.parts) {
			t.Fatalf("%d parts are kept, and %d have an etag", kept, have)
		}
		if answer.calls >= mostCalls {
			t.Fatalf("%d calls, %d objects, %d uploads: the list has no end", answer.calls, len(list), len(ids))
		}
	})
}

// FuzzHead: what an object is said to be is a size and a checksum, or it is none of ours; what is read has them, and is no longer than
// was asked for.
func FuzzHead(f *testing.F) {
	f.Add(200, "yZRlqg==", "", "gs://b/o#7", "hello")
	f.Add(200, "", "yZRlqg==", "", "hello")
	f.Add(404, "", "", "", "")
	f.Fuzz(func(t *testing.T, status int, mine, servers, source, text string) {
		if status < 200 || status > 599 || strings.ContainsAny(mine+servers+source, "\r\n\x00") {
			return
		}
		header := http.Header{}
		header.Set("X-Amz-Meta-Crc32c", mine)
		header.Set("X-Amz-Checksum-Crc32c", servers)
		header.Set("X-Amz-Meta-Source", source)
		s, ctx := storeOf(t, &spoken{status: status, header: header, text: text})
		o, err := s.Head(ctx, "k")
		judged(t, err, "s3://b/p/k")
		if _, ok := parseCRC(mine); err == nil && !ok {
			if crc, ok := parseCRC(servers); !ok || crc != o.CRC32C {
				t.Fatalf("checksum %08x of %q and %q", o.CRC32C, mine, servers)
			}
		}
		data, err := s.Read(ctx, "k", 16)
		judged(t, err, "s3://b/p/k")
		if want, ok := parseCRC(mine); err == nil && (len(data) > 16 || string(data) != text || ok && crc32.Checksum(data, castagnoli) != want) {
			t.Fatalf("%q was read of %q", data, text)
		}
	})
}

// FuzzManifest: a manifest that is found is the one that was asked for, and committing it writes the same again.
func FuzzManifest(f *testing.F) {
	m := Manifest{Step: "copy", Chunk: "2018", Hash: "0123456789abcdef0123456789abcdef", Epoch: 7, Rows: 2, Strikes: 9,
		Inputs: []Input{{Name: "gs://b/o", Generation: 3, Size: 5, CRC32C: 6}}, Objects: []Object{{Key: "copy/2018/00000006-5.csv.gz", Size: 5, CRC32C: 6}}}
	text, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(`{"step":"copy","chunk":"2018","hash":"0123456789abcdef0123456789abcdef","objects":[{"size":-1}]}`)
	f.Add(`{"step":"copy","chunk":"2019","hash":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, ctx := storeOf(t, &spoken{status: 200, text: text})
		got, found, err := s.Find(ctx, "copy", "2018", m.Hash)
		if err != nil {
			if found || !reflect.DeepEqual(got, Manifest{}) || !strings.Contains(err.Error(), manifestKey("copy", "2018", m.Hash)) {
				t.Fatalf("%+v, %v beside %v", got, found, err)
			}
			return
		}
		if !found || got.Step != "copy" || got.Chunk != tile.Chunk("2018") || got.Hash != m.Hash || got.check() != nil {
			t.Fatalf("%+v, %v", got, found)
		}
		for _, o := range got.Objects {
			if o.Size < 0 || o.Key == "" {
				t.Fatalf("object %+v was taken", o)
			}
		}
		again, err := json.Marshal(got)
		var back Manifest
		if err != nil || json.Unmarshal(again, &back) != nil || !reflect.DeepEqual(back, got) {
			t.Fatalf("%+v became %+v, %v", got, back, err)
		}
		if Hash("x", got.Inputs) != Hash("x", back.Inputs) {
			t.Fatal("another hash of the same inputs")
		}
	})
}

// FuzzGCS: what Google Cloud Storage lists are pinned objects, all of a size, or an error says of which bucket.
func FuzzGCS(f *testing.F) {
	f.Add(`{"kind":"storage#objects","items":[{"bucket":"b","name":"o","generation":"7","size":"5","crc32c":"yZRlqg==","metadata":{"synthetic":"true"}}]}`)
	f.Add(`{"items":[{"name":"o","size":"-5"}],"nextPageToken":"x"}`)
	f.Add(`{"items":[{"name":"o","generation":7}]}`)
	answer := &spoken{status: 200, header: http.Header{"Content-Type": {"application/json"}}, most: mostCalls}
	client, err := storage.NewClient(f.Context(), option.WithEndpoint("http://gcs/storage/v1/"), option.WithoutAuthentication(), option.WithHTTPClient(&http.Client{Transport: answer}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = client.Close() })
	client.SetRetry(storage.WithPolicy(storage.RetryNever))
	f.Fuzz(func(t *testing.T, text string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answer.text, answer.calls, answer.end = text, 0, cancel
		list, err := (&GCS{client: client}).list(ctx, "b", "o")
		for _, o := range list {
			if err == nil && (o.Bucket != "b" || o.Size < 0 || o.Generation <= 0) {
				t.Fatalf("%+v was taken", o)
			}
		}
		if answer.calls >= mostCalls && len(list) > 0 { // pages without objects Google's client goes through by itself, until the context ends
			t.Fatalf("%d calls, %d objects: the list has no end", answer.calls, len(list))
		}
	})
}

// FuzzCRC: a checksum is spelled in one way, and those of two pieces join to that of the whole.
func FuzzCRC(f *testing.F) {
	f.Add("yZRlqg==", []byte("hello, "), []byte("world"))
	f.Add("", []byte{}, []byte{0})
	f.Add("yZRlqr==", []byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, spelled string, one, two []byte) {
		if crc, ok := parseCRC(spelled); ok {
			if back, ok := parseCRC(spellCRC(crc)); !ok || back != crc {
				t.Fatalf("%q is %08x, spelled %s", spelled, crc, spellCRC(crc))
			}
		} else if crc != 0 {
			t.Fatalf("%08x of what is none", crc)
		}
		whole := crc32.Checksum(append(append([]byte{}, one...), two...), castagnoli)
		if got := joinCRC(crc32.Checksum(one, castagnoli), crc32.Checksum(two, castagnoli), int64(len(two))); got != whole {
			t.Fatalf("joined %08x, whole %08x", got, whole)
		}
		if crc, ok := parseCRC(spellCRC(whole)); !ok || crc != whole {
			t.Fatalf("%08x is spelled %s", whole, spellCRC(whole))
		}
	})
}
