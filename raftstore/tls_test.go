package raftstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duoflow/duoflow/raftstore/door"
)

// issuer is a certificate authority of a test.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// until is the end of what it signs; zero: an hour from now.
	until time.Time
}

// newIssuer makes an authority.
func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, cert: cert, key: key}
}

// config makes a node's TLS configuration with a certificate for a name, as CN and as DNS names. Its certificate has no unit.
func (i *issuer) config(cn string, dns ...string) *tls.Config {
	i.t.Helper()
	return i.sign(pkix.Name{CommonName: cn}, dns, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

// node makes that of a node as `duoctl tls` signs it.
func (i *issuer) node(cn string) *tls.Config {
	i.t.Helper()
	return i.sign(pkix.Name{CommonName: cn, OrganizationalUnit: []string{nodeUnit}}, []string{cn}, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

func (i *issuer) sign(subject pkix.Name, dns []string, usage ...x509.ExtKeyUsage) *tls.Config {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: subject, DNSNames: dns,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: usage,
	}
	if !i.until.IsZero() {
		template.NotAfter = i.until
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool,
	}
}

func TestTLS(t *testing.T) {
	ca := newIssuer(t)
	c := newCluster(t, nil)
	c.members[0].cfg.TLS = ca.config("a")
	c.members[1].cfg.TLS = ca.config("", "b")
	c.members[2].cfg.TLS = ca.config("something else", "x", "t")
	c.startAll()
	c.connected()
	c.propose(c.leader(), "encrypted")
	c.agree("encrypted")
}

func TestTLSIdentity(t *testing.T) {
	ca := newIssuer(t)
	for name, bad := range map[string]*tls.Config{
		"certificate of another node": ca.config("b", "b"),
		"unknown authority":           newIssuer(t).config("t", "t"),
		"plain":                       nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil)
			c.members[0].cfg.TLS, c.members[1].cfg.TLS = ca.config("a"), ca.config("b")
			c.members[2].cfg.TLS = bad
			c.startAll()
			c.propose(c.members[0], "two of us")
			for _, m := range c.members[:2] {
				if m.store.Status().PeerStates[2].Connected {
					t.Errorf("node %s is connected to the impostor", m.cfg.name(m.cfg.Self))
				}
			}
			status := c.members[2].store.Status()
			if status.Leader != 0 || status.PeerStates[0].Connected || status.PeerStates[1].Connected {
				t.Errorf("the impostor has %+v", status)
			}
		})
	}
}

// TestTLSOfNow: what a configuration makes anew for each handshake is used in both directions, and lets in no more than peers.
func TestTLSOfNow(t *testing.T) {
	ca := newIssuer(t)
	stale := newIssuer(t) // whom nobody trusts any more
	c := newCluster(t, nil)
	for i, name := range []string{"a", "b", "t"} {
		fresh := ca.config(name)
		if name == "t" {
			fresh = ca.config("mallory", "mallory") // of the authority, and no peer
		}
		fresh.ClientCAs = fresh.RootCAs
		old := stale.config(name)
		old.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return fresh, nil }
		c.members[i].cfg.TLS = old
	}
	c.startAll()
	c.propose(c.members[0], "two of us")
	for _, m := range c.members[:2] {
		if m.store.Status().PeerStates[2].Connected {
			t.Errorf("node %s is connected to the impostor", m.cfg.name(m.cfg.Self))
		}
	}
}

func TestTLSConfigIsChecked(t *testing.T) {
	c := newCluster(t, nil)
	sound := newIssuer(t).config("a")
	for want, change := range map[string]func(*tls.Config){
		"authority":     func(c *tls.Config) { c.RootCAs = nil },
		"a certificate": func(c *tls.Config) { c.Certificates = nil },
	} {
		cfg := c.members[0].cfg
		cfg.TLS = sound.Clone()
		change(cfg.TLS)
		if _, err := New(cfg, &list{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestTakenBack: a peer whose certificate is taken back loses the connection that it has, and gets no other; the others stay.
func TestTakenBack(t *testing.T) {
	ca := newIssuer(t)
	var taken atomic.Bool
	c := newCluster(t, nil)
	for _, m := range c.members {
		m.cfg.TLS = ca.config(m.cfg.name(m.cfg.Self))
		m.cfg.TLS.VerifyConnection = func(state tls.ConnectionState) error {
			if name := state.PeerCertificates[0].Subject.CommonName; taken.Load() && name == "b" {
				return fmt.Errorf("%w: %s", door.ErrRevoked, name)
			}
			return nil
		}
	}
	c.startAll()
	leader := c.leader()
	c.connected()
	taken.Store(true)
	for _, m := range c.members { // a stream on which nothing comes is not looked at: followers say nothing to each other here, without beats
		if m.cfg.Self != id("b") && (m == leader || leader.cfg.Self == id("b")) {
			c.until("refusal of b by "+m.cfg.name(m.cfg.Self), func() bool { return refusals(m, door.Revoked) > 1 }) // also when it comes back
		}
	}
}
