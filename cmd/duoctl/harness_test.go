package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/node/admin"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is one run of duoctl.
type result struct {
	code     int
	out, err string
}

// console is the surroundings of one run.
type console struct {
	env      map[string]string
	input    string
	terminal bool
	screen   func() (width, height int)
}

func (c console) run(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	code := run(ctx, args, &app{
		in: strings.NewReader(c.input), out: &out, err: &errs, terminal: c.terminal, screen: c.screen,
		env: func(name string) string { return c.env[name] },
	})
	return result{code: code, out: out.String(), err: errs.String()}
}

// want checks the exit code and that the error output holds each part.
func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.err, part) {
			t.Errorf("error output lacks %q:\n%s", part, r.err)
		}
	}
}

// makeCertificates runs tls init for node a on this host and the operator alice.
func makeCertificates(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	console{}.run(t, "tls", "init", "--out", dir, "--node", "a=127.0.0.1", "--operator", "alice").want(t, exitOK)
	return dir
}

// serve answers for the fake with the certificates in dir, and returns the address.
func serve(t *testing.T, node admin.Node, dir string) string {
	t.Helper()
	config := admin.Config{Listen: "127.0.0.1:0", Node: node, Version: "v1.2.3"}
	if dir != "" {
		config.TLS = serverTLS(t, dir)
	}
	server, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for server.Addr() == "" {
		if time.Now().After(deadline) {
			t.Fatal("the server does not listen")
		}
		time.Sleep(time.Millisecond)
	}
	return server.Addr()
}

func serverTLS(t *testing.T, dir string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(readCertificate(t, dir, "ca"))
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

func readCertificate(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		t.Fatalf("%s.pem is not one certificate", name)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// operator is a console whose environment names endpoints and alice's certificate.
func operator(dir string, endpoints ...string) console {
	return console{env: map[string]string{
		"DUOCTL_ENDPOINT": strings.Join(endpoints, ","),
		"DUOCTL_CA":       filepath.Join(dir, "ca.pem"),
		"DUOCTL_CERT":     filepath.Join(dir, "alice.pem"),
		"DUOCTL_KEY":      filepath.Join(dir, "alice.key"),
	}}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// golden compares with testdata/name. Addresses of this run are replaced first.
func golden(t *testing.T, name, got string, endpoints ...string) {
	t.Helper()
	for _, endpoint := range endpoints {
		got = strings.ReplaceAll(got, endpoint, "ENDPOINT")
	}
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (-rewrite accepts it):\n%s", path, got)
	}
}
