package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/duoflow/duoflow/raftstore/door"
)

// Limits of one connection. A health check is one small packet each way, a scrape some ten kilobytes.
const (
	headerTimeout = 2 * time.Second
	readTimeout   = 5 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 60 * time.Second
	stopTimeout   = time.Second // for answers under way when Run is told to end
	maxHeader     = 8 << 10     // bytes
	maxScrapes    = 4           // at once; a scrape is the only answer that costs something

	maxConnections = 512
	maxUnproven    = 128 // of them, without a whole request yet; maxOfSource from one address
	maxOfSource    = 32
	maxFirstBytes  = 128 << 10 // what an unproven one may send: certificates and a request
)

// newDoor makes what stands before the port. A guest has shown who it is with its first whole request.
func newDoor(log *slog.Logger) (*door.Door, error) {
	return door.New(door.Config{
		Port: "http", Within: readTimeout, Bytes: maxFirstBytes, Unproven: maxUnproven, PerSource: maxOfSource,
		Total: maxConnections, Unacked: writeTimeout, Logger: log,
	})
}

// methods are those that every path understands.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}

// Config is what New needs.
type Config struct {
	Listen   string               // ip:port; port 0 = chosen by the kernel
	TLS      *tls.Config          // nil = plain HTTP, only on a loopback address; client certificates as it says
	View     func() View          // what the loop published last, with its age; must not block
	Registry *prometheus.Registry // what /metrics shows; web registers nothing itself
	Logger   *slog.Logger         // nil = discard
	// Listening is called once, when connections are taken; nil: nobody wants to know.
	Listening func()
}

// Server answers for one node. Create it with New.
type Server struct {
	cfg     Config
	log     *slog.Logger
	handler http.Handler
	door    *door.Door
	started atomic.Bool
	addr    atomic.Pointer[string]
	streams atomic.Int32
	over    chan struct{} // closed when Run ends, for streams that would not
}

// New checks the configuration, reporting every problem at once, and starts nothing. Plain HTTP is refused on any
// address but a loopback IP: what is behind a host name is not known when the daemon starts.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("web configuration: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, over: make(chan struct{})}
	var err error
	if s.door, err = newDoor(s.log); err != nil {
		return nil, fmt.Errorf("web configuration: %w", err)
	}
	s.handler = s.routes()
	s.addr.Store(&cfg.Listen)
	return s, nil
}

func (c Config) validate() error {
	var problems []error
	addr, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		problems = append(problems, fmt.Errorf("listen %q: want ip:port", c.Listen))
	} else if c.TLS == nil && !addr.Addr().Unmap().IsLoopback() {
		problems = append(problems, fmt.Errorf("listen %q: not a loopback address, so it needs tls", c.Listen))
	}
	if c.View == nil {
		problems = append(problems, errors.New("view: missing"))
	}
	if c.Registry == nil {
		problems = append(problems, errors.New("registry: missing"))
	}
	return errors.Join(problems...)
}

// Addr is the address listened on: the configured one until Run has begun to listen, then the real one.
func (s *Server) Addr() string { return *s.addr.Load() }

// ServeHTTP answers one request, for tests and for whoever brings a listener of his own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run listens and answers until ctx ends, then gives answers under way one second, and returns nil. It returns an
// error if it cannot listen, if the listener fails, or if it is called twice.
func (s *Server) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("web: Run called twice")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for http: %w", err)
	}
	addr := ln.Addr().String()
	s.addr.Store(&addr)
	if s.cfg.Listening != nil {
		s.cfg.Listening()
	}
	ln = s.door.Wrap(ln)
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), ConnContext: withGuest,
		ConnState: settle, Protocols: new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)   // with HTTP/2 a connection would be as many requests as it likes
	defer func() { _ = ln.Close() }() // closed by Serve, except when ServeTLS refuses its configuration
	if s.cfg.TLS != nil {
		server.TLSConfig = s.cfg.TLS.Clone()
	}
	served := make(chan error, 1)
	go func() { served <- serve(server, ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	close(s.over)
	stop(server)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

func serve(server *http.Server, ln net.Listener) error {
	if server.TLSConfig == nil {
		return server.Serve(ln)
	}
	return server.ServeTLS(ln, "", "")
}

// stop waits for answers under way, then cuts the connections that are left.
func stop(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close() // its only error is that of closing a listener that is closed already
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/active", s.check(active))
	mux.Handle("/standby", s.check(standby))
	mux.Handle("/witness", s.check(witness))
	mux.Handle("/health", s.check(health))
	mux.Handle("/ready", s.check(ready))
	mux.Handle("/metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout / 2,
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("/{$}", s.status)
	mux.HandleFunc("/events", s.events)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, verdict{status: http.StatusNotFound, body: problem{Reason: "no such page"}})
	})
	return s.common(mux)
}

// common sets what every answer has and refuses other methods.
func (s *Server) common(next http.Handler) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admit(r)
		if err := s.stillGood(r); err != nil {
			s.answer(w, r, verdict{status: http.StatusForbidden, body: problem{Reason: err.Error()}})
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodOptions {
			w.Header().Set("Allow", allow)
			w = bodyless{w}
		}
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", allow)
			s.answer(w, r, verdict{status: http.StatusMethodNotAllowed, body: problem{Reason: "method not allowed"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bodyless drops the body, as net/http does by itself for HEAD.
type bodyless struct{ http.ResponseWriter }

// Write implements io.Writer.
func (b bodyless) Write(p []byte) (int, error) { return len(p), nil }
