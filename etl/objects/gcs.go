package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// Source is one object of Google Cloud Storage, pinned: its bytes cannot change without it being another one.
type Source struct {
	Bucket     string `json:"bucket"`
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Size       int64  `json:"size"` // bytes as stored, packed ones packed
	CRC32C     uint32 `json:"crc32c"`

	// Synthetic: whoever put it there says in its metadata (synthetic=true) that it is made up. No part of its identity.
	Synthetic bool `json:"synthetic,omitempty"`
}

// metaSynthetic is in the metadata of objects in Google Cloud Storage; its value is "true", or says nothing.
const metaSynthetic = "synthetic"

// URL names the object with its generation, as gsutil does.
func (s Source) URL() string { return fmt.Sprintf("gs://%s/%s#%d", s.Bucket, s.Name, s.Generation) }

// GCSConfig says how Google Cloud Storage is reached.
type GCSConfig struct {
	// Endpoint is a test server's host:port, which is asked without credentials; "" = STORAGE_EMULATOR_HOST, else Google's,
	// with the application's default credentials.
	Endpoint string

	// Credentials is a service account's file; "" = GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the machine's.
	Credentials string
}

// GCS reads Google Cloud Storage. Safe for use by several goroutines.
type GCS struct {
	client    *storage.Client
	transport *http.Transport // of a test server; nil = the client's own
}

// OpenGCS finds the credentials; it does not talk to the server yet. Close it.
//
// Reads go by XML: ReadCompressed, which is needed to get packed objects as they are, is refused by storage v1.70.0 together
// with WithJSONReads.
func OpenGCS(ctx context.Context, c GCSConfig) (*GCS, error) {
	g := &GCS{}
	var options []option.ClientOption
	if c.Endpoint != "" {
		host := strings.TrimSuffix(c.Endpoint, "/")
		if !strings.Contains(host, "://") {
			host = "http://" + host
		}
		g.transport = http.DefaultTransport.(*http.Transport).Clone()
		g.transport.MaxIdleConnsPerHost, g.transport.ReadBufferSize = 64, 256<<10
		g.transport.DisableCompression = true
		options = append(options, option.WithEndpoint(host+"/storage/v1/"), option.WithHTTPClient(&http.Client{Transport: g.transport}))
	} else if c.Credentials != "" {
		options = append(options, option.WithAuthCredentialsFile(option.ServiceAccount, c.Credentials))
	}
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return nil, Judge(ctx, "open Google Cloud Storage", err)
	}
	client.SetRetry(storage.WithPolicy(storage.RetryNever)) // own tries know Retry-After, and end
	g.client = client
	return g, nil
}

// Close lets the connections go.
func (g *GCS) Close() error {
	if g.transport != nil {
		g.transport.CloseIdleConnections()
	}
	return g.client.Close()
}

// List returns the objects whose names begin so, in the order of their names, each as it is now.
func (g *GCS) List(ctx context.Context, bucket, prefix string) (out []Source, err error) {
	err = quickly.again(ctx, "list gs://"+bucket+"/"+prefix, func(ctx context.Context) (err error) {
		out, err = g.list(ctx, bucket, prefix)
		return err
	})
	return out, err
}

// list is one try.
func (g *GCS) list(ctx context.Context, bucket, prefix string) (out []Source, err error) {
	query := &storage.Query{Prefix: prefix}
	if err := query.SetAttrSelection([]string{"Bucket", "Name", "Generation", "Size", "CRC32C", "Metadata"}); err != nil {
		return nil, err
	}
	all := g.client.Bucket(bucket).Objects(ctx, query)
	for {
		o, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return out, nil
		}
		if err != nil {
			return nil, missingBucket(bucket, err)
		}
		if o.Generation <= 0 || o.Size < 0 || len(out) > 0 && o.Name == out[0].Name {
			return nil, fmt.Errorf("%w: object %d is %q in generation %d, %d bytes", errList, len(out), o.Name, o.Generation, o.Size)
		}
		out = append(out, Source{Bucket: bucket, Name: o.Name, Generation: o.Generation, Size: o.Size, CRC32C: o.CRC32C,
			Synthetic: strings.EqualFold(o.Metadata[metaSynthetic], "true")})
	}
}

// missingBucket says what can be done when it is the bucket that is missing.
func missingBucket(bucket string, err error) error {
	if errors.Is(err, storage.ErrBucketNotExist) {
		return &Fault{Op: "list gs://" + bucket, Permanent: true, Hint: "make the bucket, where BigQuery's data is: public data lie in US", Err: fmt.Errorf("%w: %w", ErrNotFound, err)}
	}
	return err
}

// Delete removes the object in this generation; one that is newer stays. That it is gone is no error.
func (g *GCS) Delete(ctx context.Context, s Source) error {
	return quickly.again(ctx, "delete "+s.URL(), func(ctx context.Context) error {
		o := g.client.Bucket(s.Bucket).Object(s.Name).If(storage.Conditions{GenerationMatch: s.Generation})
		if err := replaced(o.Delete(ctx)); !errors.Is(err, ErrReplaced) {
			return err
		}
		return nil
	})
}

// open reads the object's bytes from offset on, as they are stored, so many of them.
func (g *GCS) open(ctx context.Context, s Source, offset, length int64) (io.ReadCloser, error) {
	r, err := g.client.Bucket(s.Bucket).Object(s.Name).Generation(s.Generation).ReadCompressed(true).NewRangeReader(ctx, offset, length)
	if err != nil {
		return nil, replaced(err)
	}
	return &pinned{r}, nil
}

// pinned says of a generation that went away while it is read what it is.
type pinned struct{ *storage.Reader }

func (p *pinned) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's io.EOF is never wrapped
		err = replaced(err)
	}
	return n, err
}

// replaced turns the answers that mean it into ErrReplaced.
func replaced(err error) error {
	var api *googleapi.Error
	if errors.Is(err, storage.ErrObjectNotExist) || errors.As(err, &api) && (api.Code == http.StatusPreconditionFailed || api.Code == http.StatusNotFound) {
		return &Fault{Op: "read Google Cloud Storage", Permanent: true, Hint: "plan the chunk again", Err: fmt.Errorf("%w: %w", ErrReplaced, err)}
	}
	return err
}

// quickly is for calls that move little.
var quickly = patience{tries: 8, first: 250 * time.Millisecond, most: 30 * time.Second}
