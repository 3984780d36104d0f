package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/duoflow/duoflow/raftstore/door"
)

// headerSlop is what net/http takes on top of MaxHeaderBytes before it answers 431.
const headerSlop = 4 << 10

// guestKey finds a request's *door.Guest in its context.
type guestKey struct{}

// guestOf is whose connection net/http speaks of.
func guestOf(conn net.Conn) (guest *door.Guest, secured *tls.Conn) {
	secured, _ = conn.(*tls.Conn)
	if secured != nil {
		conn = secured.NetConn()
	}
	guest, _ = conn.(*door.Guest) // nil in a test without a door
	return guest, secured
}

func withGuest(ctx context.Context, conn net.Conn) context.Context {
	guest, _ := guestOf(conn)
	return context.WithValue(ctx, guestKey{}, guest)
}

func admit(r *http.Request) {
	if guest, _ := r.Context().Value(guestKey{}).(*door.Guest); guest != nil { // not in a test without a listener
		guest.Admit("")
	}
}

// lookAgain is how often the certificate behind an answer without end is looked at again.
const lookAgain = 10 * time.Second

// stillGood says whether the certificate behind a request was taken back since its connection was made, and ends the connection then.
func (s *Server) stillGood(r *http.Request) error {
	config := s.cfg.TLS
	if config == nil || r.TLS == nil {
		return nil
	}
	if config.GetConfigForClient != nil {
		fresh, err := config.GetConfigForClient(&tls.ClientHelloInfo{})
		if err != nil {
			return fmt.Errorf("look at certificate: %w", err)
		}
		if fresh != nil {
			config = fresh
		}
	}
	if config.VerifyConnection == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	err := config.VerifyConnection(*r.TLS)
	if guest, _ := r.Context().Value(guestKey{}).(*door.Guest); guest != nil && err != nil {
		guest.Shaken(err)
	}
	return err
}

// settle tells the door why a connection has ended that was never admitted: net/http closes it first, and says why to nobody but its
// error log.
func settle(conn net.Conn, state http.ConnState) {
	guest, secured := guestOf(conn)
	if guest == nil {
		return
	}
	if state == http.StateNew {
		guest.Shaking()
	}
	if state != http.StateClosed {
		return
	}
	if secured != nil {
		if err := secured.Handshake(); err != nil { // over long ago: this is how it ended
			guest.Shaken(err)
			return
		}
	}
	if guest.Received() > maxHeader+headerSlop {
		guest.Refuse(door.Protocol, fmt.Errorf("its request has a header of more than %d bytes", maxHeader))
	}
	guest.Shaken(io.EOF) // it went away by itself; whoever was admitted is not to blame
}
