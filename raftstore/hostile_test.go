package raftstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
)

// closedWithin is how long a connection of somebody else may last: the time to show who he is, and some for a machine
// that does other things as well.
const closedWithin = helloTimeout + 3*time.Second

// stranger speaks to a member's port as no peer does.
type stranger struct {
	t      *testing.T
	victim *member
	ca     *issuer
}

// dial opens a plain connection.
func (s stranger) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.victim.store.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// shake opens a TLS connection. A handshake that fails is what some are after.
func (s stranger) shake(secure *tls.Config) net.Conn {
	secure = secure.Clone()
	secure.InsecureSkipVerify, secure.NextProtos = true, []string{"h2"}
	conn := tls.Client(s.dial(), secure)
	_ = conn.Handshake()
	return conn
}

// speak opens a gRPC connection as a node.
func (s stranger) speak(name string, options ...grpc.DialOption) (*grpc.ClientConn, func()) {
	s.t.Helper()
	secure := s.ca.config(name)
	secure.InsecureSkipVerify = true
	client, err := grpc.NewClient("passthrough:///"+s.victim.store.Addr(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(secure)), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return client, func() { _ = client.Close() }
}

// name is whom it pretends to be: a peer of the victim.
func (s stranger) name() string {
	if s.victim.cfg.Self == id("b") {
		return "a"
	}
	return "b"
}

// say opens a stream as that peer, says these envelopes and waits until the stream has ended.
func (s stranger) say(options []grpc.CallOption, envelopes ...*duoflowv1.PeerEnvelope) {
	s.t.Helper()
	client, end := s.speak(s.name())
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := duoflowv1.NewPeerClient(client).Deliver(ctx, options...)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range envelopes {
		_ = stream.Send(e) // refused by now, or soon
	}
	said := time.Now()
	if _, err := stream.Recv(); err == nil || time.Since(said) > closedWithin {
		s.t.Errorf("the stream ended after %s with %v", time.Since(said), err)
	}
}

// hello is what that peer says first.
func (s stranger) hello() *duoflowv1.PeerEnvelope {
	return &duoflowv1.PeerEnvelope{Cluster: "test", From: id(s.name()), To: s.victim.cfg.Self}
}

// payload is an envelope of that peer with something that is no raft message.
func (s stranger) payload(raft []byte) *duoflowv1.PeerEnvelope {
	e := s.hello()
	e.Payload = &duoflowv1.PeerEnvelope_Raft{Raft: raft}
	return e
}

// gone waits until the other side has ended a connection.
func (s stranger) gone(conn net.Conn) {
	s.t.Helper()
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(closedWithin)); err != nil {
		return // closed on our side too: a handshake that failed
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Error("the connection is still open")
	}
}

// write sends what the other side may refuse at any byte.
func write(conn net.Conn, pieces ...[]byte) net.Conn {
	for _, piece := range pieces {
		_, _ = conn.Write(piece)
	}
	return conn
}

// dribble begins a TLS handshake of which a byte comes now and then, until the connection is gone.
func (s stranger) dribble(conn net.Conn) {
	s.t.Helper()
	defer conn.Close()
	write(conn, []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3})
	for began := time.Now(); time.Since(began) < closedWithin; time.Sleep(50 * time.Millisecond) {
		if _, err := conn.Write([]byte{0}); err != nil {
			return
		}
	}
	s.t.Error("the connection is still open")
}

// preface opens HTTP/2, with its settings.
var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")

// frame is one of HTTP/2.
func frame(kind, flags, stream byte, payload []byte) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}, payload...)
}

// hugeHeaders begin a stream whose header never ends.
func hugeHeaders() [][]byte {
	out := [][]byte{preface, frame(1, 0, 1, make([]byte, 16<<10))}
	for range 64 {
		out = append(out, frame(9, 0, 1, make([]byte, 16<<10)))
	}
	return out
}

// strangers are those who may knock at a peer's port, with the reason they are turned away for.
var strangers = []struct {
	name string
	why  door.Reason
	do   func(s stranger)
}{
	{"says nothing", door.Silent, func(s stranger) { s.gone(s.dial()) }},
	{"a byte now and then", door.Silent, func(s stranger) { s.dribble(s.dial()) }},
	{"goes at once", door.Closed, func(s stranger) { s.dial().Close() }},
	{"garbage", door.Plain, func(s stranger) {
		noise := make([]byte, 1<<20)
		_, _ = rand.Read(noise)
		noise[0] = 0xff
		s.gone(write(s.dial(), noise))
	}},
	{"HTTP", door.Plain, func(s stranger) { s.gone(write(s.dial(), []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))) }},
	{"no certificate", door.Handshake, func(s stranger) { s.gone(s.shake(&tls.Config{})) }},
	{"certificate of another authority", door.Handshake, func(s stranger) { s.gone(s.shake(newIssuer(s.t).config(s.name()))) }},
	{"certificate that has ended", door.Expired, func(s stranger) {
		old := *s.ca
		old.until = time.Now().Add(-time.Minute)
		s.gone(s.shake(old.config(s.name())))
	}},
	{"certificate that was taken back", door.Revoked, func(s stranger) { s.gone(s.shake(s.ca.config(takenBack))) }},
	{"certificate of an operator", door.Stranger, func(s stranger) { s.gone(s.shake(s.ca.config("lab"))) }},
	{"a peer that says nothing", door.Silent, func(s stranger) { s.gone(s.shake(s.ca.config(s.name()))) }},
	{"a peer without HTTP/2", door.Protocol, func(s stranger) {
		s.gone(write(s.shake(s.ca.config(s.name())), []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
	}},
	{"huge frame", door.Protocol, func(s stranger) {
		s.gone(write(s.shake(s.ca.config(s.name())), preface, frame(0, 0, 1, make([]byte, 1<<20))))
	}},
	{"huge metadata", door.Protocol, func(s stranger) { s.gone(write(s.shake(s.ca.config(s.name())), hugeHeaders()...)) }},
	{"flood of pings", door.Protocol, func(s stranger) {
		conn := write(s.shake(s.ca.config(s.name())), preface)
		for range 20 {
			write(conn, frame(6, 0, 0, make([]byte, 8)))
		}
		s.gone(conn)
	}},
	{"another service", door.Protocol, func(s stranger) {
		client, end := s.speak(s.name())
		defer end()
		if _, err := duoflowv1.NewAdminClient(client).Version(context.Background(), &duoflowv1.VersionRequest{}); err == nil {
			s.t.Error("answered")
		}
	}},
	{"another cluster", door.Message, func(s stranger) {
		e := s.hello()
		e.Cluster = strings.Repeat("x", 10<<10)
		s.say(nil, e)
	}},
	{"impersonated sender", door.Message, func(s stranger) {
		e := s.hello()
		e.From = id("t")
		s.say(nil, e)
	}},
	{"first message is not empty", door.Message, func(s stranger) { s.say(nil, s.payload([]byte("x"))) }},
	{"first message is huge", door.Protocol, func(s stranger) { s.say(nil, s.payload(make([]byte, 1<<20))) }},
	{"message is huge", door.Protocol, func(s stranger) { s.say(nil, s.hello(), s.payload(make([]byte, maxEnvelopeBytes+1))) }},
	{"compressed bomb", door.Protocol, func(s stranger) {
		s.say([]grpc.CallOption{grpc.UseCompressor(gzip.Name)}, s.hello(), s.payload(make([]byte, maxEnvelopeBytes+1)))
	}},
	{"raft message is nonsense", door.Message, func(s stranger) { s.say(nil, s.hello(), s.payload([]byte("\xff\xff"))) }},
	{"sender changes", door.Message, func(s stranger) {
		e := s.hello()
		e.From = id("t")
		s.say(nil, s.hello(), e)
	}},
}

// takenBack is the name in a certificate that is revoked.
const takenBack = "olga"

// verifyRevoked is the check of a list of revoked certificates.
func verifyRevoked(state tls.ConnectionState) error {
	if name := state.PeerCertificates[0].Subject.CommonName; name == takenBack {
		return fmt.Errorf("%w: %s", door.ErrRevoked, name)
	}
	return nil
}

// knocks is how often a stranger tries: it goes by the name of a real peer, and on a slow machine that one's next connection may have it
// sent away before it has come to what it is to be refused for.
const knocks = 6

// TestStrangersAreTurnedAway: whatever knocks at a peer's port is sent away within seconds, under its reason, and the
// cluster does not notice.
func TestStrangersAreTurnedAway(t *testing.T) {
	ca := newIssuer(t)
	c := newCluster(t, func(cfg *Config) { cfg.TLS = ca.config("") })
	for _, m := range c.members {
		m.cfg.TLS = ca.config(m.cfg.name(m.cfg.Self))
		m.cfg.TLS.VerifyConnection = verifyRevoked
	}
	c.startAll()
	leader := c.leader()
	c.connected()
	before := leader.store.Status()
	count := before.Refused
	for _, one := range strangers {
		t.Run(one.name, func(t *testing.T) {
			counted := func() bool { return refusals(leader, one.why) > of(count, one.why) }
			for try := 0; try < knocks && !counted(); try++ {
				one.do(stranger{t, leader, ca})
				for end := time.Now().Add(patience / knocks); !counted() && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
			}
			if !counted() {
				t.Errorf("nobody was turned away as %q after %d knocks", one.why, knocks)
			}
			count = leader.store.Status().Refused
		})
	}
	if now := leader.store.Status(); now.Term != before.Term || !now.Self {
		t.Errorf("leadership went from %+v to %+v", before.Leadership, now.Leadership)
	}
	for _, m := range c.members {
		for _, note := range m.watch.lostNotes() {
			t.Errorf("node %s lost %x", m.cfg.name(m.cfg.Self), note.id)
		}
	}
	c.propose(leader, "still here")
	c.agree("still here")
}

func of(counts []door.Count, why door.Reason) uint64 {
	for _, c := range counts {
		if c.Reason == why {
			return c.Count
		}
	}
	return 0
}

func refusals(m *member, why door.Reason) uint64 { return of(m.store.Status().Refused, why) }

// TestStreamsOfOneConnectionAreBounded: a third stream has to wait for one of the first two.
func TestStreamsOfOneConnectionAreBounded(t *testing.T) {
	ca := newIssuer(t)
	c := newCluster(t, nil)
	for _, m := range c.members {
		m.cfg.TLS = ca.config(m.cfg.name(m.cfg.Self))
	}
	c.start(c.members[0])
	c.until("address", func() bool { return c.members[0].store.Addr() != "" })
	s := stranger{t, c.members[0], ca}
	client, end := s.speak(s.name())
	defer end()
	var opened int
	for i := range maxStreams + 1 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if i == maxStreams {
			time.AfterFunc(200*time.Millisecond, cancel)
		}
		stream, err := duoflowv1.NewPeerClient(client).Deliver(ctx)
		if err != nil {
			continue
		}
		if err := stream.Send(s.hello()); err != nil {
			t.Fatal(err)
		}
		if header, err := stream.Header(); err == nil && header != nil {
			opened++
		}
	}
	if opened != maxStreams {
		t.Errorf("%d streams", opened)
	}
}

// TestCrowdAtThePort: thousands of connections that say nothing take little memory, and a peer that comes back gets
// through: from another address at once, from theirs soon.
func TestCrowdAtThePort(t *testing.T) {
	for _, crowd := range []struct {
		from  string
		every time.Duration
	}{
		{"127.0.0.9", 0}, {"127.0.0.1", 10 * time.Millisecond},
	} {
		t.Run(crowd.from, func(t *testing.T) { crowded(t, crowd.from, crowd.every) })
	}
}

func crowded(t *testing.T, from string, every time.Duration) {
	t.Helper()
	ca := newIssuer(t)
	c := newCluster(t, nil)
	for _, m := range c.members {
		m.cfg.TLS = ca.config(m.cfg.name(m.cfg.Self))
	}
	c.startAll()
	leader := c.leader()
	c.connected()
	back := c.follower(leader)
	c.halt(back)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, crowd := make(chan struct{}), sync.WaitGroup{}
	for range 8 {
		crowd.Go(func() { knock(leader.store.Addr(), from, every, stop) })
	}
	c.until("two thousand refusals", func() bool { return refusals(leader, door.Busy) > 2000 })
	began, count := time.Now(), refusals(leader, door.Busy)
	c.start(back)
	c.connected()
	took := time.Since(began)
	t.Logf("the peer got through after %s, beside %.0f refusals a second", took,
		float64(refusals(leader, door.Busy)-count)/took.Seconds())
	runtime.ReadMemStats(&after)
	close(stop)
	crowd.Wait()
	grown := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	t.Logf("memory grew by %d KiB", grown>>10)
	if grown > 64<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if now := leader.store.Status(); !now.Self {
		t.Errorf("the leader lost its office: %+v", now)
	}
}

// knock opens one connection after the other until stop, keeping the last fifty.
func knock(addr, from string, every time.Duration, stop <-chan struct{}) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(every):
		}
		conn, err := dialer.Dial("tcp", addr)
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			continue
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		if open = append(open, conn); len(open) > 50 {
			_ = open[0].Close()
			open = open[1:]
		}
	}
}
