//go:build airflow

package broker

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	job      = "scheduler"
	queue    = "tasks"
	patience = time.Minute // a test that waits longer has failed
)

// server is a real RabbitMQ that the tests share; each has a virtual host of its own.
var server *lab.Rabbit

func TestMain(m *testing.M) { os.Exit(aroundServer(m)) }

func aroundServer(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Hosts: []string{"a"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 1
	if server, err = l.StartRabbit(ctx, lab.RabbitOptions{Management: true}); err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, l.Down(context.Background()), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var benches atomic.Int64

// bench is a virtual host, and how a job of it is configured.
type bench struct {
	t      *testing.T
	config Config
	root   management // the server's administrator
}

func newBench(t *testing.T) *bench {
	t.Helper()
	user, password := server.Account()
	file := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	b := &bench{t: t, config: Config{
		Job: job, Management: server.ManagementURL(), User: user, PasswordFile: file,
		VHost: fmt.Sprintf("/Air flow_%d%%", benches.Add(1)), AMQP: addressOf(server.URL()),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	b.root = b.fence().api
	b.await("the management API answers", func() bool {
		return b.root.call(t.Context(), "GET", []string{"whoami"}, nil, nil) == nil
	})
	must(t, b.root.call(t.Context(), "PUT", []string{"vhosts", b.config.VHost}, struct{}{}, nil))
	must(t, b.root.call(t.Context(), "PUT", []string{"permissions", b.config.VHost, user},
		map[string]string{"configure": ".*", "write": ".*", "read": ".*"}, nil))
	made := b.config.VHost
	t.Cleanup(func() { // a test may have changed the configuration
		b.config.VHost = made
		for _, name := range b.users() {
			must(t, b.root.call(context.Background(), "DELETE", []string{"users", name}, nil, nil))
		}
		must(t, b.root.call(context.Background(), "DELETE", []string{"vhosts", made}, nil, nil))
		b.root.client.CloseIdleConnections()
	})
	return b
}

// addressOf is the host and port of a URL.
func addressOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u.Host
}

func (b *bench) fence() *Fence {
	b.t.Helper()
	f, err := New(b.config)
	must(b.t, err)
	b.t.Cleanup(f.api.client.CloseIdleConnections)
	return f
}

// take is a takeover by a node of its own, whose claim the fence row agrees with.
func (b *bench) take(epoch uint64) Credentials {
	b.t.Helper()
	c, err := b.fence().Take(b.context(), newClaim(epoch), held)
	must(b.t, err)
	return c
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	b.t.Cleanup(cancel)
	return ctx
}

func newClaim(epoch uint64) Claim {
	token := make([]byte, 16)
	rand.Read(token)
	return Claim{Epoch: epoch, Token: fmt.Sprintf("%x", token)}
}

func held(context.Context) error { return nil }

// users are all users of the server that the job has made.
func (b *bench) users() (names []string) {
	b.t.Helper()
	var all []struct{ Name string }
	must(b.t, b.root.call(context.Background(), "GET", []string{"users"}, nil, &all))
	for _, u := range all {
		if ours(b.config, u.Name) {
			names = append(names, u.Name)
		}
	}
	return names
}

// connections counts those of a user that the server has not forgotten.
func (b *bench) connections(user string) int {
	b.t.Helper()
	var open []json.RawMessage
	must(b.t, b.root.call(b.t.Context(), "GET", []string{"connections", "username", user}, nil, &open))
	return len(open)
}

// root's own URL, in this virtual host.
func (b *bench) rootURL() string {
	user, password := server.Account()
	return Credentials{AMQP: b.config.AMQP, VHost: b.config.VHost, User: user, password: password}.URL()
}

// messages counts what is in the queue.
func (b *bench) messages() int {
	b.t.Helper()
	out, err := client(b.t, "count", b.rootURL()).Output()
	if err != nil {
		b.t.Fatalf("count: %v: %s", err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	must(b.t, err)
	return n
}

// refusal is why a user may not even connect; "" = it may.
func (b *bench) refusal(where string) string {
	b.t.Helper()
	out, err := client(b.t, "count", where).Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == 3 {
		return string(out)
	}
	must(b.t, err)
	return ""
}

func client(t *testing.T, what, where string) *exec.Cmd {
	t.Helper()
	python := os.Getenv("DUOFLOW_AIRFLOW_PYTHON")
	if python == "" {
		root, err := lab.Root()
		must(t, err)
		python = filepath.Join(root, ".cache", "venv", "bin", "python")
	}
	command := exec.Command(python, "testdata/amqp_client.py", what, where, queue)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.Stderr = t.Output()
	return command
}

// publisher is a process that sends a message every few milliseconds over one connection.
type publisher struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	last  string
}

// publish starts a publisher and returns when it has sent some messages.
func (b *bench) publish(where string) *publisher {
	b.t.Helper()
	p := &publisher{t: b.t, cmd: client(b.t, "publish", where)}
	out, err := p.cmd.StdoutPipe()
	must(b.t, err)
	must(b.t, p.cmd.Start())
	b.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.lines = bufio.NewScanner(out)
	for range 20 {
		if !p.lines.Scan() {
			b.t.Fatalf("the publisher ended after %q", p.last)
		}
		p.last = p.lines.Text()
	}
	return p
}

// freeze stops the process and returns when the kernel says that it is.
func (p *publisher) freeze() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	stat := fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)
	await(p.t, "the publisher stands still", func() bool {
		text, err := os.ReadFile(stat)
		must(p.t, err)
		_, rest, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

// end thaws the process and returns its last line once it has ended by itself.
func (p *publisher) end() string {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGCONT))
	alarm := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer alarm.Stop()
	for p.lines.Scan() {
		p.last = p.lines.Text()
	}
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != 3 {
		p.t.Fatalf("the publisher ended with %v after %q", err, p.last)
	}
	return p.last
}

func (b *bench) await(what string, ok func() bool) {
	b.t.Helper()
	await(b.t, what, ok)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
