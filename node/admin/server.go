package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
)

const (
	maxRequestBytes  = 64 << 10 // the largest request is a few hundred bytes
	maxResponseBytes = 17 << 20 // a backup may have 16 MiB; all else stays below the 4 that a gRPC client accepts by default
	maxStreams       = 64       // calls in flight per connection
	handshakeTimeout = 5 * time.Second
	keepaliveIdle    = 10 * time.Second // a silent connection is probed after this time
	keepaliveTimeout = 5 * time.Second  // and closed when the probe is not answered within this
	keepaliveMinimum = 5 * time.Second  // clients that probe more often are disconnected
	drainTimeout     = 2 * time.Second  // calls in flight may take this long when Run is told to end
	idleTimeout      = 10 * time.Minute // a connection without calls is closed after this time
	maxHeaderBytes   = 16 << 10         // of a call
	maxConnections   = 512
	maxUnproven      = 64 // of them, without a permitted call yet; maxOfSource from one address
	maxOfSource      = 16
	maxOfCaller      = 64        // with calls of one certificate
	maxFirstBytes    = 256 << 10 // what an unproven one may send
)

// newDoor makes what stands before the operators' port.
func newDoor(log *slog.Logger) (*door.Door, error) {
	return door.New(door.Config{
		Port: "admin", Within: handshakeTimeout, Bytes: maxFirstBytes, Unproven: maxUnproven, PerSource: maxOfSource,
		Total: maxConnections, PerName: maxOfCaller, Unacked: keepaliveTimeout, Logger: log,
	})
}

// Node is what the service asks of the node it stands for. Every method must return soon after its
// context ends, because Run waits for calls in flight. An error that is, or wraps, a *Problem reaches
// the caller as it is; context errors become KIND_TIMEOUT and all others KIND_FAILED. Their text is
// shown to the caller, so it must hold no secret. Requests arrive validated: names are well formed,
// Job is set where it must be. A response belongs to the server once it is returned.
type Node interface {
	Status(context.Context, *duoflowv1.StatusRequest) (*duoflowv1.StatusResponse, error)
	// Switchover, Failover, Restart and Pause return when the request is accepted, or with Wait when it is completed.
	// The context already ends after TimeoutMs. CallerName of it says who asks.
	Switchover(context.Context, *duoflowv1.SwitchoverRequest) (*duoflowv1.TransferResponse, error)
	Failover(context.Context, *duoflowv1.FailoverRequest) (*duoflowv1.TransferResponse, error)
	Restart(context.Context, *duoflowv1.RestartRequest) (*duoflowv1.TransferResponse, error)
	Cancel(context.Context, *duoflowv1.CancelRequest) (*duoflowv1.CancelResponse, error)
	Pause(context.Context, *duoflowv1.PauseRequest) (*duoflowv1.PauseResponse, error)
	Resume(context.Context, *duoflowv1.ResumeRequest) (*duoflowv1.PauseResponse, error)
	// ChangeMember is as Switchover; all but the raft leader refuse it, unless they know that it was done already.
	ChangeMember(context.Context, *duoflowv1.ChangeMemberRequest) (*duoflowv1.ChangeMemberResponse, error)
	History(context.Context, *duoflowv1.HistoryRequest) (*duoflowv1.HistoryResponse, error)
	Explain(context.Context, *duoflowv1.ExplainRequest) (*duoflowv1.ExplainResponse, error)
	Logs(context.Context, *duoflowv1.LogsRequest) (*duoflowv1.LogsResponse, error)
	Config(context.Context, *duoflowv1.ConfigRequest) (*duoflowv1.ConfigResponse, error)
	Progress(context.Context, *duoflowv1.ProgressRequest) (*duoflowv1.ProgressResponse, error)
	Backup(context.Context, *duoflowv1.BackupRequest) (*duoflowv1.BackupResponse, error)
	Doctor(context.Context, *duoflowv1.DoctorRequest) (*duoflowv1.DoctorResponse, error)
	Spread(context.Context, *duoflowv1.SpreadRequest) (*duoflowv1.SpreadResponse, error)
}

// Config of a Server.
type Config struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// TLS must require and verify client certificates. nil means no TLS, which New accepts only
	// when Listen is a loopback address; every caller is then an admin.
	TLS *tls.Config
	// Node answers. Required.
	Node Node
	// Version of the program, as the Version verb tells it. Required.
	Version string
	// Listening is called once, when connections are taken; nil: nobody wants to know.
	Listening func()
	// Logger gets one line per request: reads at debug, changes at info, refusals at warn. nil discards.
	Logger *slog.Logger
}

// Server is the operators' service of one node.
type Server struct {
	config Config
	log    *slog.Logger
	addr   atomic.Value // string, set when Run listens
}

// New checks the configuration and starts nothing. All problems are reported at once.
func New(config Config) (*Server, error) {
	errs := []error{checkListen(config.Listen, config.TLS), checkTLS(config.TLS)}
	if config.Node == nil {
		errs = append(errs, errors.New("Node is missing"))
	}
	if config.Version == "" {
		errs = append(errs, errors.New("Version is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("admin configuration: %w", err)
	}
	if config.TLS != nil {
		config.TLS = config.TLS.Clone()
		config.TLS.MinVersion = tls.VersionTLS13
	}
	log := config.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{config: config, log: log}, nil
}

func checkListen(listen string, tlsConfig *tls.Config) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("Listen %q: %w", listen, err)
	}
	if tlsConfig != nil || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("Listen %q: only a loopback address may be served without TLS; configure tls", listen)
	}
	return nil
}

func checkTLS(config *tls.Config) error {
	if config == nil {
		return nil
	}
	if config.ClientAuth != tls.RequireAndVerifyClientCert {
		return fmt.Errorf("TLS: ClientAuth is %v, must be %v", config.ClientAuth, tls.RequireAndVerifyClientCert)
	}
	if config.ClientCAs == nil {
		return errors.New("TLS: ClientCAs is missing; the system's authorities must not name operators")
	}
	return nil
}

// Addr is the address the server listens on; "" until Run has begun to listen.
func (s *Server) Addr() string {
	addr, _ := s.addr.Load().(string)
	return addr
}

// Run serves until ctx ends, then lets calls in flight finish for a short time, cancels the rest and
// waits for them. It returns nil after ctx ended, else why it cannot serve.
func (s *Server) Run(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.Listen)
	if ctx.Err() != nil && err != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	// "localhost" is only a name: what it resolved to is what counts.
	if s.config.TLS == nil && !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		listener.Close()
		return fmt.Errorf("listen for operators: %s is not a loopback address and TLS is off", listener.Addr())
	}
	s.addr.Store(listener.Addr().String())
	if s.config.Listening != nil {
		s.config.Listening()
	}
	return s.serve(ctx, listener)
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	guarded, err := newDoor(s.log)
	if err != nil {
		return err
	}
	server := grpc.NewServer(s.options()...)
	duoflowv1.RegisterAdminServer(server, &service{node: s.config.Node, version: s.config.Version})
	served := make(chan error, 1)
	go func() { served <- server.Serve(guarded.Wrap(listener)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve operators: %w", err)
	case <-ctx.Done():
	}
	stop(server)
	// ErrServerStopped: told to end before Serve had begun.
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// stop returns when no handler runs any more: GracefulStop waits for them, also when Stop cuts them off.
func stop(server *grpc.Server) {
	drained := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(drained)
	}()
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		server.Stop()
		<-drained
	}
}

func (s *Server) options() []grpc.ServerOption {
	transport := insecure.NewCredentials()
	if s.config.TLS != nil {
		transport = credentials.NewTLS(s.config.TLS)
	}
	guard := &guard{log: s.log, open: s.config.TLS == nil, tls: s.config.TLS}
	return []grpc.ServerOption{
		grpc.Creds(door.Credentials(transport)),
		grpc.UnaryInterceptor(guard.unary),
		grpc.StatsHandler(oversized{}),
		grpc.UnknownServiceHandler(refuseUnknown),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(maxResponseBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(2 * handshakeTimeout), // the door is quicker, and knows why
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveIdle, Timeout: keepaliveTimeout, MaxConnectionIdle: idleTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: keepaliveMinimum, PermitWithoutStream: true,
		}),
	}
}
