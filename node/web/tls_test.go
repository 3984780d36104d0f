package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// authority signs certificates for one test.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	until time.Time // end of what it signs; zero: an hour from now
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if !a.until.IsZero() {
		template.NotAfter = a.until
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (a authority) client(certs ...tls.Certificate) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool(), Certificates: certs}}}
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s, err := New(Config{
		Listen: "127.0.0.1:0", View: twoJobs, Registry: prometheus.NewRegistry(),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours.issue(t, "a")},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	url := "https://" + s.Addr() + "/active"
	if status, _, err := fetch(t, ours.client(ours.issue(t, "balancer")), http.MethodGet, url); err != nil || status != 200 {
		t.Errorf("with a certificate: %d %v", status, err)
	}
	if _, _, err := fetch(t, ours.client(), http.MethodGet, url); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	if _, _, err := fetch(t, ours.client(theirs.issue(t, "stranger")), http.MethodGet, url); err == nil {
		t.Error("a stranger's certificate was accepted")
	}
	if status, body, err := fetch(t, http.DefaultClient, http.MethodGet, "http://"+s.Addr()+"/active"); err == nil && status == 200 {
		t.Errorf("plain HTTP was answered: %s", body)
	}
}

func TestRunReportsATLSConfigurationWithoutCertificate(t *testing.T) {
	s, err := New(Config{Listen: "127.0.0.1:0", View: twoJobs, Registry: prometheus.NewRegistry(), TLS: &tls.Config{MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "serve http") {
		t.Errorf("Run: %v", err)
	}
	if ln, err := net.Listen("tcp", s.Addr()); err != nil {
		t.Errorf("the port is still taken: %v", err)
	} else if err := ln.Close(); err != nil {
		t.Error(err)
	}
}
