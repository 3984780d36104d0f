package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// newGCS is the GCS server as a handler; host is where it will be reached. Reads of objects come under that host (the XML
// way, which ReadCompressed needs) only if the server knows its name with the port.
func newGCS(dir, host string, buckets []string) (*fakestorage.Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("gcs: %w", err)
	}
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		StorageRoot: dir, NoListener: true, Scheme: "http", ExternalURL: "http://" + host, PublicHost: host, BucketsLocation: "US",
	})
	if err != nil {
		return nil, fmt.Errorf("gcs: %w", err)
	}
	for _, b := range buckets {
		server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: b})
	}
	return server, nil
}

// Object is what the sandbox itself puts into GCS.
type Object struct {
	Bucket, Name    string
	Content         []byte
	ContentType     string // "" is application/octet-stream
	ContentEncoding string // "gzip": GCS unpacks it for a reader that does not say that it takes gzip
	Metadata        map[string]string
}

// Put stores an object in GCS, as another client would: one that exists is replaced and gets a new generation. Only
// after Ready.
func (s *Sandbox) Put(ctx context.Context, o Object) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put gs://%s/%s: %w", o.Bucket, o.Name, err)
	}
	<-s.ready
	return putGCS(s.gcs, o)
}

func putGCS(server *fakestorage.Server, o Object) error {
	if o.ContentType == "" {
		o.ContentType = "application/octet-stream"
	}
	object := fakestorage.Object{
		ObjectAttrs: fakestorage.ObjectAttrs{BucketName: o.Bucket, Name: o.Name, ContentType: o.ContentType, ContentEncoding: o.ContentEncoding, Metadata: o.Metadata},
		Content:     o.Content,
	}
	if err := server.CreateObjectStreaming(object.StreamingObject()); err != nil {
		return fmt.Errorf("put gs://%s/%s: %w", o.Bucket, o.Name, err)
	}
	return nil
}

// gcsCall names what a request wants: list, get (what is known of an object), read (its bytes), insert, delete; else the
// method.
func gcsCall(r *http.Request) string {
	path := r.URL.Path
	rest, api := strings.CutPrefix(path, "/storage/v1/b/")
	_, object, objects := strings.Cut(rest, "/o")
	switch {
	case strings.HasPrefix(path, "/upload/"):
		return "insert"
	case r.Method == http.MethodDelete:
		return "delete"
	case r.Method != http.MethodGet:
		return r.Method
	case api && objects && strings.Trim(object, "/") == "":
		return "list"
	case api && objects && r.URL.Query().Get("alt") != "media":
		return "get"
	case api && !objects:
		return "bucket"
	}
	return "read"
}
