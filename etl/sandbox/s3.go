package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

// gateway is versitygw behind a socket of its own; clients talk to the proxy, which can lose their connections.
type gateway struct {
	config  Config
	dir     string
	back    *posix.Posix
	socket  string // abstract: no file, no limit on the length of Dir
	workDir string // where the process was: posix changes to its folder and names files from there

	transport *http.Transport // the proxy's
}

// newS3 opens the folder and makes the buckets.
func newS3(ctx context.Context, dir string, c Config) (*gateway, error) {
	objects, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "meta")
	for _, d := range []string{objects, sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
	}
	// Beside the objects and not in extended attributes: those are missing on some file systems (tmpfs before Linux 6.6).
	side, err := meta.NewSideCar(sidecar)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	workDir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	back, err := posix.New(objects, side, posix.PosixOpts{})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	g := &gateway{config: c, dir: objects, back: back, workDir: workDir, socket: "@duoflow-sandbox-" + rand.Text()}
	g.transport = transportTo(g.socket)
	if err := g.makeBuckets(ctx); err != nil {
		back.Shutdown()
		return nil, errors.Join(err, os.Chdir(workDir))
	}
	return g, nil
}

func (g *gateway) makeBuckets(ctx context.Context) error {
	owner := auth.Account{Access: g.config.AccessKey, Secret: g.config.SecretKey, Role: auth.RoleAdmin}
	acl, err := json.Marshal(auth.ACL{Owner: owner.Access})
	if err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	ctx = context.WithValue(ctx, "bucket-owner", owner) //nolint:revive,staticcheck // the key is versitygw's
	for _, b := range g.config.S3Buckets {
		if _, err := os.Stat(filepath.Join(g.dir, b)); err == nil {
			continue
		}
		in := &s3.CreateBucketInput{Bucket: aws.String(b), CreateBucketConfiguration: &types.CreateBucketConfiguration{}, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}
		if err := g.back.CreateBucket(ctx, in, acl); err != nil {
			return fmt.Errorf("s3: make bucket %s: %w", b, err)
		}
	}
	return nil
}

// run serves on the socket until the context ends; up is closed once it answers.
func (g *gateway) run(ctx context.Context, up chan<- struct{}) error {
	root := auth.Account{Access: g.config.AccessKey, Secret: g.config.SecretKey, Role: auth.RoleAdmin}
	// A connection that was dialed for a request which another one then served has never said anything, and versitygw would wait for it.
	defer g.transport.CloseIdleConnections()
	defer context.AfterFunc(ctx, g.transport.CloseIdleConnections)()
	err := embedgw.RunVersityGW(ctx, g.back, &embedgw.Config{
		RootUserAccess: g.config.AccessKey, RootUserSecret: g.config.SecretKey, Region: Region, Ports: []string{g.socket},
		// Without a limit of each of these three versitygw does not start.
		MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000,
		KeepAlive: true, Quiet: true,
		IAMService: auth.NewIAMServiceSingle(root), // left to itself it says on stdout that it has none
		S3Options:  []s3api.Option{s3api.WithOnListen(func() { close(up) }), s3api.WithMiddleware("/", readOut)},
	})
	if back := os.Chdir(g.workDir); back != nil {
		g.config.Logger.Warn("working directory is gone", "err", back)
	}
	if err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	return errEnded
}

// readOut reads a request to its end before it is answered. versitygw reads 256 KiB of what a refused one still has and then
// closes, which reaches the client as a reset connection instead of the refusal.
func readOut(c fiber.Ctx) error {
	err := c.Next()
	if body := c.Request().BodyStream(); body != nil && c.Request().Header.ContentLength() > 0 {
		_, _ = io.Copy(io.Discard, body) // the client may have gone
	}
	return err
}

// transportTo is the proxy's, to a socket.
func transportTo(socket string) *http.Transport {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableCompression:  true, // or the transport would unpack what the client wants packed
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		WriteBufferSize:     256 << 10,
		ReadBufferSize:      256 << 10,
	}
}

// proxy hands requests on as they came: the Host header is part of what the client signed.
func (g *gateway) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "s3"})
			r.Out.Host = r.In.Host
		},
		Transport:  g.transport,
		BufferPool: newBuffers(),
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			g.config.Logger.Debug("s3 request lost", "call", s3Call(r), "err", err)
			panic(http.ErrAbortHandler) // what a client sees of a server that went away
		},
	}
}

// s3Call is the name of the call in S3's API.
func s3Call(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q, object := r.URL.Query(), key != ""
	switch {
	case !object:
		return s3BucketCall(r.Method, q)
	case q.Has("partNumber") && r.Method == http.MethodPut:
		return "UploadPart"
	case q.Has("uploads") && r.Method == http.MethodPost:
		return "CreateMultipartUpload"
	case q.Has("uploadId"):
		return map[string]string{http.MethodPost: "CompleteMultipartUpload", http.MethodGet: "ListParts", http.MethodDelete: "AbortMultipartUpload"}[r.Method]
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	}
	return map[string]string{http.MethodPut: "PutObject", http.MethodGet: "GetObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject"}[r.Method]
}

func s3BucketCall(method string, q url.Values) string {
	switch {
	case method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	}
	return map[string]string{http.MethodPut: "CreateBucket", http.MethodGet: "ListObjectsV2", http.MethodHead: "HeadBucket", http.MethodDelete: "DeleteBucket"}[method]
}
