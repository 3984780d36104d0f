package node

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/raftstore/door"
)

// hall is a listener with a node's certificates, and the folder they are in.
type hall struct {
	t    *testing.T
	dir  string
	ca   authority
	of   *Certificates
	said *strings.Builder
	addr string
	// met is what became of each handshake, as the listener saw it.
	met chan error
}

func newHall(t *testing.T) *hall {
	t.Helper()
	h := &hall{t: t, dir: t.TempDir(), ca: newAuthority(t), said: &strings.Builder{}, met: make(chan error)}
	h.give("a")
	write(t, h.dir, "ca.pem", 0o644, pemOf("CERTIFICATE", h.ca.cert.Raw))
	cfg := Config{TLS: TLS{
		CA: filepath.Join(h.dir, "ca.pem"), Cert: filepath.Join(h.dir, "a.pem"), Key: filepath.Join(h.dir, "a.key"),
		Revoked: filepath.Join(h.dir, "revoked.pem"),
	}}
	of, err := cfg.LoadTLS(slog.New(slog.NewTextHandler(h.said, nil)))
	must(t, err)
	h.of = of
	ln, err := tls.Listen("tcp", "127.0.0.1:0", of.TLS())
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() }) // what it waits for ends with it
	h.addr = ln.Addr().String()
	go h.serve(ln)
	return h
}

func (h *hall) serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		err = conn.(*tls.Conn).Handshake()
		_ = conn.Close() // the handshake is all
		h.met <- err
	}
}

// give writes a new certificate of a name over the present one.
func (h *hall) give(name string) {
	h.t.Helper()
	cert, key := h.ca.issue(h.t, name)
	write(h.t, h.dir, "a.key", 0o600, key)
	write(h.t, h.dir, "a.pem", 0o644, cert)
}

// meet is a visitor of an authority: whom he meets, and what the listener thinks of him.
func (h *hall) meet(of authority, serial int64) (name string, err error) {
	h.t.Helper()
	cert, key := of.issue(h.t, fmt.Sprintf("visitor-%d", serial))
	pair, err := tls.X509KeyPair(cert, key)
	must(h.t, err)
	conn, err := net.Dial("tcp", h.addr)
	must(h.t, err)
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}) // #nosec: he looks at the name himself
	_ = client.Handshake()                                                                                   // the listener tells
	if shown := client.ConnectionState().PeerCertificates; len(shown) > 0 {
		name = shown[0].Subject.CommonName
	}
	err = <-h.met
	_ = client.Close() // the handshake is all
	return name, err
}

// revoke takes serial numbers back, in the name of an authority.
func (h *hall) revoke(by authority, serials ...int64) {
	h.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(int64(len(serials))), ThisUpdate: time.Now(), NextUpdate: time.Now()}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(serial), RevocationTime: time.Now(),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.cert, by.key)
	must(h.t, err)
	write(h.t, h.dir, "revoked.pem", 0o644, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// TestCertificatesOfNow: what is written over the files is used at the next handshake, and what cannot be used changes nothing.
func TestCertificatesOfNow(t *testing.T) {
	h := newHall(t)
	if name, err := h.meet(h.ca, 2); name != "a" || err != nil {
		t.Fatalf("%s, %v", name, err)
	}
	before := h.of.Expires()
	time.Sleep(time.Second) // ends are whole seconds
	h.give("renewed")
	if name, err := h.meet(h.ca, 2); name != "renewed" || err != nil {
		t.Errorf("after a new certificate: %s, %v", name, err)
	}
	if !h.of.Expires().After(before) {
		t.Errorf("it still ends at %s", before)
	}
	write(t, h.dir, "a.pem", 0o644, []byte("half of a cert"))
	if name, err := h.meet(h.ca, 2); name != "renewed" || err != nil {
		t.Errorf("after half a file: %s, %v", name, err)
	}
	if n := strings.Count(h.said.String(), "changed certificates are not used"); n != 1 {
		t.Errorf("it was said %d times: %s", n, h.said)
	}
}

// TestAuthorityOfNow: one that was added is trusted at once, one that was taken out is not any more.
func TestAuthorityOfNow(t *testing.T) {
	h := newHall(t)
	next := newAuthority(t)
	if _, err := h.meet(next, 2); err == nil {
		t.Error("a stranger was let in")
	}
	both := append(pemOf("CERTIFICATE", h.ca.cert.Raw), pemOf("CERTIFICATE", next.cert.Raw)...)
	write(t, h.dir, "ca.pem", 0o644, both)
	for name, of := range map[string]authority{"old": h.ca, "new": next} {
		if _, err := h.meet(of, 2); err != nil {
			t.Errorf("the %s authority beside the other: %v", name, err)
		}
	}
	old := h.ca
	h.ca = next
	write(t, h.dir, "ca.pem", 0o644, pemOf("CERTIFICATE", next.cert.Raw))
	if _, err := h.meet(old, 2); err != nil {
		t.Errorf("an authority that has not signed our own certificate was taken: %v", err)
	}
	h.give("a")
	if _, err := h.meet(old, 2); err == nil {
		t.Error("the old authority is still trusted")
	}
	if _, err := h.meet(next, 2); err != nil {
		t.Error(err)
	}
}

// TestRevoked: who is on the list is refused, with that reason, and nobody else can put him there.
func TestRevoked(t *testing.T) {
	h := newHall(t)
	h.revoke(h.ca, 7)
	if _, err := h.meet(h.ca, 2); err != nil {
		t.Errorf("somebody else was revoked: %v", err)
	}
	h.revoke(h.ca, 7, 2) // an authority of these tests gives everybody the serial number 2
	if _, err := h.meet(h.ca, 2); !errors.Is(err, door.ErrRevoked) || !strings.Contains(err.Error(), "visitor-2") {
		t.Errorf("%v, want it to be revoked", err)
	}
	must(t, os.Remove(filepath.Join(h.dir, "revoked.pem")))
	if _, err := h.meet(h.ca, 2); err != nil {
		t.Errorf("without a list: %v", err)
	}
	stranger := newAuthority(t)
	stranger.cert.Subject, stranger.cert.RawSubject = pkix.Name{CommonName: "authority"}, h.ca.cert.RawSubject
	h.revoke(stranger, 2)
	if _, err := h.meet(h.ca, 2); errors.Is(err, door.ErrRevoked) {
		t.Error("a list that the authority has not signed counts")
	}
}
