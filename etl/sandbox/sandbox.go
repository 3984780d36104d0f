package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"golang.org/x/sync/errgroup"
)

// Sandbox is the three servers. New makes one, Run serves.
type Sandbox struct {
	config Config
	log    *slog.Logger
	ready  chan struct{}

	// Set by Run before ready is closed.
	endpoints Endpoints
	gcs       *fakestorage.Server
	bigQuery  *bigQuery
}

// New checks the configuration and starts nothing.
func New(c Config) (*Sandbox, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	return &Sandbox{config: c, log: c.Logger, ready: make(chan struct{})}, nil
}

// Ready is closed once all servers answer. It never is if Run fails before.
func (s *Sandbox) Ready() <-chan struct{} { return s.ready }

// Endpoints is where the servers are; only after Ready.
func (s *Sandbox) Endpoints() Endpoints {
	<-s.ready
	return s.endpoints
}

// Run serves until the context ends, or a server fails; a sandbox runs once. It returns nil when the context ended it.
func (s *Sandbox) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.config.Dir, 0o755); err != nil {
		return fmt.Errorf("sandbox: make dir: %w", err)
	}
	front, err := s.listen(ctx)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	err = s.start(ctx, group, front)
	if err != nil {
		group.Go(func() error { return err })
	} else {
		s.log.Info("sandbox serves", "s3", s.endpoints.S3, "gcs", s.endpoints.GCS, "bigquery", s.endpoints.BigQuery, "dir", s.config.Dir)
		close(s.ready)
	}
	err = group.Wait()
	front.close()
	if errors.Is(err, errEnded) {
		err = nil
	}
	s.log.Info("sandbox ended", "err", err)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

// errEnded says that the context ended a server, so that the group's other members end too.
var errEnded = errors.New("ended")

// listeners are the sockets that clients connect to.
type listeners struct{ s3, gcs, bigquery net.Listener }

func (l listeners) close() {
	for _, one := range []net.Listener{l.s3, l.gcs, l.bigquery} {
		if one != nil {
			_ = one.Close() // a server that ran has closed it already
		}
	}
}

// listen binds all addresses first, so that the endpoints are known, or found taken, before anything runs.
func (s *Sandbox) listen(ctx context.Context) (l listeners, err error) {
	var config net.ListenConfig
	for _, one := range []struct {
		at string
		to *net.Listener
	}{{s.config.S3, &l.s3}, {s.config.GCS, &l.gcs}, {s.config.BigQuery, &l.bigquery}} {
		if *one.to, err = config.Listen(ctx, "tcp", one.at); err != nil {
			l.close()
			return listeners{}, fmt.Errorf("listen: %w", err)
		}
	}
	return l, nil
}

// start brings the servers up in the group and returns when they answer.
func (s *Sandbox) start(ctx context.Context, group *errgroup.Group, front listeners) error {
	s.endpoints = Endpoints{
		S3: "http://" + front.s3.Addr().String(), GCS: front.gcs.Addr().String(), BigQuery: "http://" + front.bigquery.Addr().String(),
		Region: Region, AccessKey: s.config.AccessKey, SecretKey: s.config.SecretKey,
	}
	var err error
	if s.gcs, err = newGCS(filepath.Join(s.config.Dir, "gcs"), s.endpoints.GCS, s.config.GCSBuckets); err != nil {
		return err
	}
	s.serve(ctx, group, front.gcs, s.config.Faults.before(GCS, gcsCall, s.log, s.gcs.HTTPHandler()))

	if err := s.startBigQuery(ctx, group, front.bigquery); err != nil {
		return err
	}
	back, err := newS3(ctx, filepath.Join(s.config.Dir, "s3"), s.config)
	if err != nil {
		return err
	}
	up := make(chan struct{})
	group.Go(func() error { return back.run(ctx, up) })
	select {
	case <-up:
	case <-ctx.Done():
		return errEnded // the group knows why
	}
	s.serve(ctx, group, front.s3, s.config.Faults.before(S3, s3Call, s.log, back.proxy()))
	return nil
}

func (s *Sandbox) startBigQuery(ctx context.Context, group *errgroup.Group, l net.Listener) error {
	s.bigQuery = &bigQuery{
		gcs: s.gcs, faults: s.config.Faults, log: s.log, shardRows: s.config.ShardRows, ctx: ctx, jobs: map[string]*job{},
	}
	if err := s.bigQuery.setTables(ctx, s.config.Tables); err != nil {
		return fmt.Errorf("bigquery: %w", err)
	}
	handler := s.config.Faults.before(BigQuery, bigQueryCall, s.log, s.bigQuery.handler())
	if s.config.Control {
		handler = s.config.Faults.control(handler)
	}
	s.serve(ctx, group, l, handler)
	group.Go(func() error {
		<-ctx.Done()
		s.bigQuery.end()
		return errEnded
	})
	return nil
}

// SetTables replaces all tables of BigQuery while it runs, as if the publisher had loaded others; only after Ready.
func (s *Sandbox) SetTables(ctx context.Context, tables []Table) error {
	<-s.ready
	if err := s.bigQuery.setTables(ctx, tables); err != nil {
		return fmt.Errorf("bigquery: %w", err)
	}
	return nil
}

// serve answers on the listener until the context ends.
func (s *Sandbox) serve(ctx context.Context, group *errgroup.Group, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		_ = server.Close() // at once: who ends a sandbox has no use for its answers
		return errEnded
	})
}
