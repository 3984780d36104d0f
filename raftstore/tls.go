package raftstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/duoflow/duoflow/raftstore/door"
)

// errIdentity is the root of all complaints about a peer's certificate.
var errIdentity = errors.New("peer certificate")

// validateTLS checks what both directions need.
func validateTLS(c *tls.Config) error {
	switch {
	case c == nil:
		return nil
	case c.RootCAs == nil && c.ClientCAs == nil:
		return errors.New("TLS needs the peers' authority in RootCAs or ClientCAs")
	case len(c.Certificates) == 0 && (c.GetCertificate == nil || c.GetClientCertificate == nil):
		return errors.New("TLS needs a certificate for both directions")
	}
	return nil
}

// current is the configuration as it is for a handshake that begins now.
func current(c *tls.Config) (*tls.Config, error) {
	if c.GetConfigForClient == nil {
		return c, nil
	}
	fresh, err := c.GetConfigForClient(&tls.ClientHelloInfo{})
	if fresh == nil {
		fresh = c
	}
	return fresh, err
}

// authority returns the pool that peers' certificates must chain to.
func authority(first, second *x509.CertPool) *x509.CertPool {
	if first != nil {
		return first
	}
	return second
}

// serverCredentials demand a client certificate of the peers' authority that names one of the peers, or is that of some node: see
// entertain. The authority signs for operators too: they are sent away before they can say anything.
// This node's own name is let through, for the envelope that says what is mistaken.
func (c *Config) serverCredentials() credentials.TransportCredentials {
	if c.TLS == nil {
		return insecure.NewCredentials()
	}
	secure := c.demanding(c.TLS)
	if c.TLS.GetConfigForClient != nil {
		secure.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			fresh, err := current(c.TLS)
			if err != nil {
				return nil, err
			}
			return c.demanding(fresh), nil
		}
	}
	return credentials.NewTLS(secure)
}

// demanding is a copy of a configuration that lets in peers only.
func (c *Config) demanding(base *tls.Config) *tls.Config {
	secure := base.Clone()
	secure.GetConfigForClient = nil
	secure.ClientCAs = authority(secure.ClientCAs, secure.RootCAs)
	secure.ClientAuth = tls.RequireAndVerifyClientCert
	secure.SessionTicketsDisabled = true // a peer connects seldom; the check is to be of now
	then := secure.VerifyConnection
	secure.VerifyConnection = func(state tls.ConnectionState) error {
		if then != nil { // first: that a certificate is revoked is to be said of a stranger's too
			if err := then(state); err != nil {
				return err
			}
		}
		return c.verifyMember(state)
	}
	return secure
}

// verifyMember checks that a verified certificate is a peer's.
func (c *Config) verifyMember(state tls.ConnectionState) error {
	list := c.members()
	for _, p := range list.Members {
		if verifyName(state, p.Name) == nil {
			return nil
		}
	}
	for _, gone := range list.Removed { // let in to be told so: an alert of TLS has no words for it
		if verifyName(state, gone.Name) == nil {
			return nil
		}
	}
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: none", errIdentity)
	}
	cert := state.PeerCertificates[0]
	if isNode(cert) { // it may be a guest, and what it says first shows whether it is
		return nil
	}
	return fmt.Errorf("%w: it names %q %q: %w", errIdentity, cert.Subject.CommonName, cert.DNSNames, door.ErrStranger)
}

// nodeUnit is the OU of a node's certificate, as `duoctl tls` writes it; an operator's has the name of a role instead.
const nodeUnit = "node"

// isNode reports whether a verified certificate is a node's and nobody else's: it has no other unit, and it may serve, which an operator's
// may not.
func isNode(cert *x509.Certificate) bool {
	return slices.Equal(cert.Subject.OrganizationalUnit, []string{nodeUnit}) && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

// verifyGuest checks that the certificate of a caller that is not known here is that of a node of a name. That it is not revoked was
// seen in the handshake. Without TLS anybody is who he says he is.
func (c *Config) verifyGuest(secured *tls.ConnectionState, name string) error {
	switch {
	case c.TLS == nil:
		return nil
	case secured == nil || len(secured.PeerCertificates) == 0:
		return fmt.Errorf("%w: none", errIdentity)
	case !isNode(secured.PeerCertificates[0]):
		return fmt.Errorf("%w: it is not that of a node, which has the OU %q", errIdentity, nodeUnit)
	}
	return verifyName(*secured, name)
}

// lookAgain is how often the certificate of an open connection is looked at again.
const lookAgain = 10 * time.Second

// stillGood says whether a certificate was taken back since its connection was made; state is nil without TLS. That it has ended
// meanwhile is left to the next connection: a cluster must not fall silent by the clock.
func (c *Config) stillGood(state *tls.ConnectionState) error {
	if c.TLS == nil || state == nil {
		return nil
	}
	fresh, err := current(c.TLS)
	if err != nil || fresh.VerifyConnection == nil {
		return err
	}
	return fresh.VerifyConnection(*state)
}

// clientCredentials demand that the server is the named peer. The standard check wants the dialled
// address in the certificate and knows no CN; here the name of the node counts, so the chain is
// verified by hand.
func clientCredentials(c *tls.Config, name string) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	if fresh, err := current(c); err == nil {
		c = fresh
	}
	c = c.Clone()
	c.GetConfigForClient = nil
	c.ServerName = name
	c.InsecureSkipVerify = true
	roots, then := authority(c.RootCAs, c.ClientCAs), c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if err := verifyServer(state, roots); err != nil {
			return err
		}
		if err := verifyName(state, name); err != nil {
			return err
		}
		if then != nil {
			return then(state)
		}
		return nil
	}
	return credentials.NewTLS(c)
}

// verifyServer checks the chain of a server's certificate.
func verifyServer(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: none", errIdentity)
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errIdentity, err)
	}
	return nil
}

// verifyName checks that a verified certificate is the named node's, by CN or DNS name.
func verifyName(state tls.ConnectionState, name string) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: none", errIdentity)
	}
	cert := state.PeerCertificates[0]
	if cert.Subject.CommonName == name || slices.Contains(cert.DNSNames, name) {
		return nil
	}
	return fmt.Errorf("%w: it names %q %q, not node %q", errIdentity, cert.Subject.CommonName, cert.DNSNames, name)
}
