package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/raftstore/door"
)

// Certificates are what a node shows and whom it trusts, read anew when the files have changed. Its methods are safe for
// concurrent use.
type Certificates struct {
	files  TLS
	logger *slog.Logger

	mu sync.Mutex
	// versions are of the files as they were looked at last; what is wrong with them is said once.
	versions []version
	now      *tls.Config
	// expires is when the node's own certificate ends.
	expires time.Time
}

// version tells two versions of a file apart.
type version struct {
	modified time.Time
	size     int64
	inode    uint64 // two that are moved here within a tick of the clock have one time
}

// LoadTLS returns the certificates for every listener and every connection between nodes: both sides show one of the cluster's
// authority. nil with insecure_loopback.
func (c *Config) LoadTLS(logger *slog.Logger) (*Certificates, error) {
	if c.InsecureLoopback {
		return nil, nil
	}
	certificates := &Certificates{files: c.TLS, logger: logger, versions: versionsOf(c.TLS)}
	if err := certificates.read(); err != nil {
		return nil, err
	}
	return certificates, nil
}

// TLS is the configuration for both directions; nil for nil. A handshake uses the files as they are then.
func (c *Certificates) TLS() *tls.Config {
	if c == nil {
		return nil
	}
	base := c.current().Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }
	return base
}

// Expires is when the node's own certificate ends; zero for nil.
func (c *Certificates) Expires() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expires
}

// current reads the files again when they have changed. What cannot be used leaves everything as it was: an administrator who
// replaces one file after the other must not cut a node off in between.
func (c *Certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if versions := versionsOf(c.files); !slices.Equal(versions, c.versions) {
		c.versions = versions
		if err := c.read(); err != nil {
			c.logger.Warn("changed certificates are not used", "err", err)
		} else {
			c.logger.Info("changed certificates are used from now on", "expires", c.expires)
		}
	}
	return c.now
}

func versionsOf(files TLS) []version {
	var all []version
	for _, path := range []string{files.CA, files.Cert, files.Key, files.Revoked} {
		var s version
		if info, err := os.Stat(path); err == nil {
			s = version{modified: info.ModTime(), size: info.Size()}
			if stat, known := info.Sys().(*syscall.Stat_t); known {
				s.inode = stat.Ino
			}
		}
		all = append(all, s)
	}
	return all
}

func (c *Certificates) read() error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("load tls.cert and tls.key: %w", err)
	}
	text, err := os.ReadFile(c.files.CA)
	if err != nil {
		return fmt.Errorf("load tls.ca: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(text) {
		return fmt.Errorf("load tls.ca: %s holds no certificate", c.files.CA)
	}
	if err := signedBy(pair, authority); err != nil {
		return fmt.Errorf("load tls.cert: %s is not of an authority in tls.ca: %w", c.files.Cert, err)
	}
	revoked, err := readRevoked(c.files.Revoked, text)
	if err != nil {
		return fmt.Errorf("load tls.revoked: %w", err)
	}
	c.expires = pair.Leaf.NotAfter
	c.now = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{pair},
		RootCAs:                authority,
		ClientCAs:              authority,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true, // every check is to be of now
		VerifyConnection:       revoked.verify,
	}
	return nil
}

// revocations are the serial numbers of certificates that are not valid any more, with the raw name of who issued them.
type revocations map[string]bool

// readRevoked reads revocation lists, PEM one after the other; a path that is empty or leads to no file is none. Each has to be
// signed by an authority of the pool. That a list is old is no reason to trust whom it names.
func readRevoked(path string, authorities []byte) (revocations, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := revocations{}
	for block := range blocks(text, "X509 CRL") {
		list, err := x509.ParseRevocationList(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if !issued(list, authorities) {
			return nil, fmt.Errorf("%s: a list of %q is not signed by an authority in tls.ca", path, list.Issuer)
		}
		for _, entry := range list.RevokedCertificateEntries {
			all[string(list.RawIssuer)+entry.SerialNumber.String()] = true
		}
	}
	if len(bytes.TrimSpace(text)) > 0 && len(all) == 0 && !bytes.Contains(text, []byte("X509 CRL")) {
		return nil, fmt.Errorf("%s holds no revocation list in PEM", path)
	}
	return all, nil
}

// issued reports whether one of the authorities has signed the list.
func issued(list *x509.RevocationList, authorities []byte) bool {
	for block := range blocks(authorities, "CERTIFICATE") {
		if ca, err := x509.ParseCertificate(block); err == nil && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// blocks are the PEM blocks of a kind.
func blocks(text []byte, kind string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			block, rest := pem.Decode(text)
			if block == nil {
				return
			}
			if text = rest; block.Type == kind && !yield(block.Bytes) {
				return
			}
		}
	}
}

func (r revocations) verify(state tls.ConnectionState) error {
	for _, cert := range state.PeerCertificates {
		if r[string(cert.RawIssuer)+cert.SerialNumber.String()] {
			return fmt.Errorf("%w: %q, serial %s", door.ErrRevoked, cert.Subject.CommonName, cert.SerialNumber)
		}
	}
	return nil
}
