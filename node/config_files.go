package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/gossip"
)

// validateFiles looks at everything on this host that the configuration names.
func (c *Config) validateFiles(p *Problems) {
	if c.DataDir == "" {
		p.add("data_dir", "empty; e.g. /var/lib/duoflow")
	} else if err := writable(c.DataDir); err != nil {
		p.add("data_dir", "%v; duoflowd must be able to make files there", err)
	}
	if text, ok := contents(p, "gossip.keyring", c.Gossip.Keyring, secret); ok {
		if _, err := gossip.ParseKeyring(string(text)); err != nil {
			p.add("gossip.keyring", "%s: %v", c.Gossip.Keyring, err)
		}
	}
	if !c.InsecureLoopback {
		c.validateTLS(p)
	} else if c.TLS != (TLS{}) {
		p.add("tls", "given, but insecure_loopback runs without; remove one of them")
	}
}

func (c *Config) validateTLS(p *Problems) {
	authorityText, haveCA := contents(p, "tls.ca", c.TLS.CA, public)
	certText, haveCert := contents(p, "tls.cert", c.TLS.Cert, public)
	keyText, haveKey := contents(p, "tls.key", c.TLS.Key, secret)
	authority := x509.NewCertPool()
	if haveCA && !authority.AppendCertsFromPEM(authorityText) {
		p.add("tls.ca", "%s holds no certificate in PEM", c.TLS.CA)
		haveCA = false
	}
	if !haveCert || !haveKey {
		return
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		p.add("tls.key", "%s does not go with %s: %v; want the key of that certificate", c.TLS.Key, c.TLS.Cert, err)
		return
	}
	if _, known := c.Nodes[c.Node]; known && pair.Leaf.Subject.CommonName != c.Node && !slices.Contains(pair.Leaf.DNSNames, c.Node) {
		p.add("tls.cert", "%s is for %q, not for node %q", c.TLS.Cert, pair.Leaf.Subject.CommonName, c.Node)
	}
	if _, err := readRevoked(c.TLS.Revoked, authorityText); haveCA && err != nil {
		p.add("tls.revoked", "%v; want a revocation list in PEM, as `duoctl tls revoke` makes it", err)
	}
	if haveCA {
		if err := signedBy(pair, authority); err != nil {
			p.add("tls.cert", "%s: %v; want a certificate of the authority in tls.ca", c.TLS.Cert, err)
		}
	}
}

// signedBy looks at signatures, not at dates: a host may come up before its clock is set.
func signedBy(pair tls.Certificate, authority *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, raw := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(raw); err == nil {
			between.AddCert(cert)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: authority, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime: pair.Leaf.NotBefore.Add(time.Second),
	})
	return err
}

// forbidden are the rights on a file that nobody but its owner may have.
type forbidden fs.FileMode

const (
	public forbidden = 0o022
	secret forbidden = 0o077
)

// contents reads a file, and says what is wrong when that is not possible or too many may do it.
func contents(p *Problems, key, path string, no forbidden) (text []byte, ok bool) {
	if path == "" {
		p.add(key, "empty; `duoctl tls init` makes one")
		return nil, false
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", path)
	}
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		p.add(key, "%v", err)
		return nil, false
	}
	mode := info.Mode().Perm()
	if owner, known := info.Sys().(*syscall.Stat_t); known && owner.Uid == 0 {
		no &^= 0o040 // root's own group is the administrator's choice, as Postgres has it
	}
	if mode&fs.FileMode(no) != 0 {
		p.add(key, "%s has mode %04o: others may read or change it; chmod %04o", path, mode, mode&^fs.FileMode(no))
	}
	return text, true
}

// writable reports why a directory cannot be written to, or made.
func writable(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		return writable(filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	return nil
}

// validateUser wants a user that exists and that this daemon may become.
func validateUser(p *Problems, key, name string) {
	if name == "" {
		return
	}
	u, err := user.Lookup(name)
	if err != nil {
		p.add(key, "%v; make the user, or name another", err)
		return
	}
	if self := os.Geteuid(); self != 0 && strconv.Itoa(self) != u.Uid {
		p.add(key, "%q: only root may start a job as somebody else", name)
	}
}
