package raftstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
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
	case c.GetConfigForClient != nil:
		return errors.New("TLS must not set GetConfigForClient: it would bypass the client check")
	}
	return nil
}

// authority returns the pool that peers' certificates must chain to.
func authority(first, second *x509.CertPool) *x509.CertPool {
	if first != nil {
		return first
	}
	return second
}

// serverCredentials demand a client certificate of the peers' authority.
func serverCredentials(c *tls.Config) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	c = c.Clone()
	c.ClientCAs = authority(c.ClientCAs, c.RootCAs)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return credentials.NewTLS(c)
}

// clientCredentials demand that the server is the named peer. The standard check wants the dialled
// address in the certificate and knows no CN; here the name of the node counts, so the chain is
// verified by hand.
func clientCredentials(c *tls.Config, name string) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	c = c.Clone()
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

// verifySender checks that the other end of a server stream is the named node. Without TLS anyone is.
func verifySender(ctx context.Context, name string) error {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return fmt.Errorf("%w: no connection", errIdentity)
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return fmt.Errorf("%w: connection without TLS", errIdentity)
	}
	return verifyName(info.State, name)
}
