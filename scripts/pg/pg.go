package pg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const superuser = "postgres"

// portTries bounds the race with other programs for a free port.
const portTries = 5

// Options say what server to start; the zero value is a server on a free port of 127.0.0.1.
type Options struct {
	Dir      string            // holds data, log and nothing else; "" = a temporary one, removed by Stop
	Listen   []string          // IP addresses; empty = 127.0.0.1
	Port     int               // 0 = a free one
	Settings map[string]string // postgresql.conf; wins over the defaults of this package
	Bin      string            // folder of initdb and postgres; "" = BinEnv, else Debian's newest
}

// Server is one throwaway server. Its methods are safe for concurrent use, but Stop, Kill and
// Restart exclude each other.
type Server struct {
	bin, dir, data, password string
	listen                   []string
	settings                 map[string]string
	port, version            int
	account                  *account
	syncNames                []string // synchronous standbys
	lock                     *os.File // of a temporary dir; nil otherwise

	mu  sync.Mutex
	run *postmaster
}

// Start makes a data directory, starts a server in it and returns when it takes connections. The
// server ends when this process does, however that ends.
func Start(ctx context.Context, options Options) (*Server, error) {
	s, err := prepare(options)
	if err != nil {
		return nil, err
	}
	if err := s.initData(ctx); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	if err := s.startAnywhere(ctx); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func prepare(options Options) (*Server, error) {
	s := &Server{dir: options.Dir, listen: options.Listen, settings: options.Settings, port: options.Port, password: rand.Text()}
	if len(s.listen) == 0 {
		s.listen = []string{"127.0.0.1"}
	}
	var err error
	if s.bin, err = findBin(options.Bin); err != nil {
		return nil, err
	}
	if s.version, err = majorVersion(s.bin); err != nil {
		return nil, err
	}
	if s.account, err = serverAccount(); err != nil {
		return nil, err
	}
	if !s.account.canEnter(s.bin) {
		return nil, fmt.Errorf("run postgres from %s: the server's user cannot enter that folder", s.bin)
	}
	if s.dir == "" {
		if s.dir, s.lock, err = makeTemp(s.account); err != nil {
			return nil, err
		}
	}
	s.data = filepath.Join(s.dir, "data")
	return s, nil
}

// startAnywhere starts on the asked port, or on free ones until one is really free.
func (s *Server) startAnywhere(ctx context.Context) error {
	if s.port != 0 {
		return s.start(ctx)
	}
	var err error
	for range portTries {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// start runs the postmaster and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	run, err := s.spawn(s.port)
	if err != nil {
		return err
	}
	for {
		if err = s.answers(ctx); err == nil {
			s.run = run
			return nil
		}
		select {
		case <-run.done:
			return fmt.Errorf("start postgres: %w: %s", run.err, s.logTail())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for postgres: %w", ctx.Err()), run.killAll())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// answers logs in, which also proves that it is our server and not another on that port.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.Superuser())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// DSN returns the URL of a database of this server. Host is the first listen address.
func (s *Server) DSN(user, password, database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: s.Address(),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}).String()
}

// Address is host:port of the first listen address, as a DSN of several hosts wants it.
func (s *Server) Address() string { return net.JoinHostPort(s.host(), strconv.Itoa(s.port)) }

func (s *Server) host() string {
	if host := s.listen[0]; host != "0.0.0.0" && host != "*" {
		return host
	}
	return "127.0.0.1"
}

// Superuser returns the URL of database postgres for the superuser postgres.
func (s *Server) Superuser() string { return s.DSN(superuser, s.password, "postgres") }

// Port is the TCP port, the same after Restart.
func (s *Server) Port() int { return s.port }

// Version is the major version, such as 15.
func (s *Server) Version() int { return s.version }

// PID is the postmaster's, 0 while the server does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.ended() {
		return 0
	}
	return s.run.pid
}

// Dir is the folder with the data directory ("data") and the server's log ("log").
func (s *Server) Dir() string { return s.dir }

// Stop shuts the server down fast (open transactions roll back), kills it when ctx ends first, and
// removes a temporary directory. The server cannot be restarted afterwards then.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.shutdown(ctx), s.remove())
}

// Kill ends every process of the server with SIGKILL and returns when they are gone. Restart
// brings it back with the same data, as after a crash.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	return s.run.killAll()
}

// Restart shuts the server down fast if it runs and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

// RestartElsewhere is Restart on a free port, where no client looks for the server.
func (s *Server) RestartElsewhere(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	s.port = 0
	return s.startAnywhere(ctx)
}

func (s *Server) shutdown(ctx context.Context) error {
	if s.run == nil || s.run.ended() {
		return nil
	}
	if err := syscall.Kill(s.run.pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	select {
	case <-s.run.done:
		return nil
	case <-ctx.Done():
		return s.run.killAll()
	}
}

// remove deletes a temporary directory; one that the caller named stays.
func (s *Server) remove() error {
	if s.lock == nil {
		return nil
	}
	err := os.RemoveAll(s.dir)
	return errors.Join(err, s.lock.Close())
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

// logTail is what the server said last, for error texts.
func (s *Server) logTail() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
