package door

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"syscall"
)

// ErrStranger marks, wrapped in the error of a tls.Config's VerifyConnection, a sound certificate of somebody who has
// no business here.
var ErrStranger = errors.New("not one of those who have business here")

// ErrRevoked marks in the same way a sound certificate that its authority has taken back.
var ErrRevoked = errors.New("the certificate is revoked")

// Shaking says that somebody else will tell, by Shaken, how it went with the guest: crypto/tls and net/http close a connection before
// they say why.
func (g *Guest) Shaking() { g.shake(true, false) }

// Shaken says how the handshake ended; an error refuses the guest, under the reason that fits.
func (g *Guest) Shaken(err error) {
	g.shake(false, err == nil)
	if err != nil {
		g.Refuse(reasonOf(err), err)
	}
}

func (g *Guest) shake(under, done bool) {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	g.shaking, g.shaken = under, done
}

// reasonOf sorts the error of a handshake.
func reasonOf(err error) Reason {
	var plain tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &plain):
		return Plain
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Silent
	case errors.Is(err, ErrRevoked):
		return Revoked
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Expired
	case errors.Is(err, ErrStranger):
		return Stranger
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Closed
	}
	return Handshake
}
