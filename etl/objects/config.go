package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// What S3Config.Checksums may say.
const (
	ChecksumsAuto     = "auto"     // CRC32C where the server keeps it; at an Endpoint that does not, MD5 of each part
	ChecksumsRequired = "required" // a server that does not keep CRC32C is an error
)

// Part sizes in bytes. S3 takes no smaller part but the last, and at most 10,000 of them: parts of a larger object grow.
const (
	minPart     = 5 << 20
	defaultPart = 8 << 20
	maxPart     = 512 << 20
	maxParts    = 10_000
)

// S3Config says where objects are kept.
type S3Config struct {
	Bucket string // must exist
	Prefix string // of all keys, without slashes around it; "" = the bucket's root
	Region string // "" = as the AWS tools find it, else us-east-1 at an Endpoint

	// Endpoint is another server than Amazon's, such as http://127.0.0.1:9000; "" = AWS_ENDPOINT_URL, else Amazon's.
	Endpoint string

	// AccessKey and SecretKey: both, or none, which finds credentials as the AWS tools do (environment, profile, role).
	AccessKey, SecretKey string

	PartSize  int64        // bytes, 5 MiB..512 MiB; 0 = 8 MiB. A stream holds two parts in memory
	Checksums string       // ChecksumsAuto or ChecksumsRequired; "" = auto, which at Amazon's is required
	Parallel  int          // objects that CopyAll moves at a time, 1..64; 0 = 4
	Tries     int          // of a call that fails in passing, 1..100; 0 = 8, which is a minute and a half
	Logger    *slog.Logger // debug lines of what is tried again, a warning where checksums are missing; nil = nothing
}

// Store is a place in S3. Safe for use by several goroutines.
type Store struct {
	config    S3Config
	client    *s3.Client
	transport *http.Transport
	patience  patience
	custom    bool        // not Amazon's
	plain     atomic.Bool // the server has been found to keep no checksums
	buffers   chan []byte // of PartSize, to be used again
}

func (c S3Config) complete() (S3Config, error) {
	c.Prefix = strings.Trim(c.Prefix, "/")
	if c.PartSize == 0 {
		c.PartSize = defaultPart
	}
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	if c.Tries == 0 {
		c.Tries = 8
	}
	if c.Checksums == "" {
		c.Checksums = ChecksumsAuto
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var all []error
	refuse := func(wrong bool, format string, a ...any) {
		if wrong {
			all = append(all, fmt.Errorf(format, a...))
		}
	}
	refuse(c.Bucket == "", "bucket: empty")
	refuse((c.AccessKey == "") != (c.SecretKey == ""), "access_key and secret_key: give both or none")
	refuse(c.PartSize < minPart || c.PartSize > maxPart, "part_size: %d bytes, not within %d..%d", c.PartSize, minPart, maxPart)
	refuse(c.Checksums != ChecksumsAuto && c.Checksums != ChecksumsRequired, "checksums: %q is neither auto nor required", c.Checksums)
	refuse(c.Parallel < 1 || c.Parallel > 64, "parallel: %d is not within 1..64", c.Parallel)
	refuse(c.Tries < 1 || c.Tries > 100, "tries: %d is not within 1..100", c.Tries)
	if err := errors.Join(all...); err != nil {
		return c, fmt.Errorf("s3: %w", err)
	}
	return c, nil
}

// OpenStore finds credentials and region; it does not talk to the server yet. Close it.
func OpenStore(ctx context.Context, c S3Config) (*Store, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	options := []func(*config.LoadOptions) error{
		// Own tries know Retry-After and what a part is. Own checksums are computed while reading, and need no trailer,
		// which many servers refuse.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.AccessKey != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, "")))
	}
	found, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	s := &Store{config: c, transport: transportOf(found), buffers: make(chan []byte, streamBuffers*c.Parallel)}
	s.patience = patience{tries: c.Tries, first: 250 * time.Millisecond, most: 30 * time.Second, log: c.Logger}
	s.client = s3.NewFromConfig(found, s.options)
	o := s.client.Options()
	s.custom = o.BaseEndpoint != nil
	if o.Region == "" {
		return nil, errors.New("s3: region: empty, and neither AWS_REGION nor a profile names one")
	}
	return s, nil
}

// transportOf is the SDK's own, with the certificates of AWS_CA_BUNDLE, for many connections and large bodies.
func transportOf(c aws.Config) *http.Transport {
	buildable, ok := c.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	t := buildable.GetTransport()
	t.MaxIdleConnsPerHost = 64
	t.WriteBufferSize, t.ReadBufferSize = 256<<10, 256<<10
	return t
}

func (s *Store) options(o *s3.Options) {
	// S3 answers with redirects to other regions, which cannot be followed: a request is signed for one.
	o.HTTPClient = &http.Client{Transport: s.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	o.DisableLogOutputChecksumValidationSkipped = true
	if s.config.Endpoint != "" {
		o.BaseEndpoint = aws.String(s.config.Endpoint)
	}
	if o.BaseEndpoint == nil {
		return
	}
	o.UsePathStyle = true // other servers seldom have a host name for each bucket
	if o.Region == "" {
		o.Region = "us-east-1"
	}
}

// unsigned leaves the SHA-256 of the body out where TLS guards it; the CRC32C, which is signed, stays.
func (s *Store) unsigned(o *s3.Options) {
	if o.BaseEndpoint == nil || strings.HasPrefix(*o.BaseEndpoint, "https:") {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

// Close lets idle connections go.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// URL is what others call the object: s3://bucket/prefix/key.
func (s *Store) URL(key string) string { return "s3://" + s.config.Bucket + "/" + s.full(key) }

func (s *Store) full(key string) string {
	if s.config.Prefix == "" {
		return key
	}
	return s.config.Prefix + "/" + key
}

// keepsChecksums tells whether CRC32C is asked of the server.
func (s *Store) keepsChecksums() bool { return !s.plain.Load() }

// mayDoWithout tells whether a server without checksums is put up with.
func (s *Store) mayDoWithout() bool { return s.custom && s.config.Checksums == ChecksumsAuto }
