package door

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() Config {
	return Config{Port: "test", Within: time.Minute, Bytes: 100, Unproven: 8, PerSource: 4}
}

// port is a listener behind a door, with what it has accepted.
type port struct {
	*Door
	t    *testing.T
	addr string

	mu     sync.Mutex
	guests []*Guest
}

func open(t *testing.T, cfg Config) *port {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &port{Door: d, t: t, addr: inner.Addr().String()}
	l := d.Wrap(inner)
	var joined sync.WaitGroup
	joined.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.guests = append(p.guests, conn.(*Guest))
			p.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		joined.Wait()
		for _, g := range p.guests {
			_ = g.Close()
		}
	})
	return p
}

// dial connects from a loopback address of its own and waits until the guest is there.
func (p *port) dial(last int) (net.Conn, *Guest) {
	p.t.Helper()
	p.mu.Lock()
	before := len(p.guests)
	p.mu.Unlock()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(last))}}
	conn, err := dialer.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	var guest *Guest
	p.until("the guest", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.guests) > before {
			guest = p.guests[before]
		}
		return guest != nil
	})
	return conn, guest
}

func (p *port) until(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s; refused %v", what, p.Refused())
		}
	}
}

func (p *port) refused(reason Reason) uint64 {
	for _, c := range p.Refused() {
		if c.Reason == reason {
			return c.Count
		}
	}
	p.t.Fatalf("no reason %s", reason)
	return 0
}

// ended tells whether the other side has closed the connection.
func ended(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
}

func TestSilentGuestHasToGo(t *testing.T) {
	cfg := config()
	cfg.Within = 50 * time.Millisecond
	p := open(t, cfg)
	conn, _ := p.dial(1)
	stays, guest := p.dial(1)
	guest.Admit("b")
	p.until("end", func() bool { return ended(conn) })
	if got := p.refused(Silent); got != 1 {
		t.Errorf("%d silent", got)
	}
	if ended(stays) {
		t.Error("the admitted guest had to go too")
	}
	guest.Refuse(Message, errors.New("nonsense"))
	p.until("end of the refused", func() bool { return ended(stays) })
	if got := p.refused(Message); got != 1 {
		t.Errorf("%d for a message", got)
	}
}

func TestCrowdLeavesRoomForOthers(t *testing.T) {
	p := open(t, config())
	var crowd []net.Conn
	for range 10 {
		conn, _ := p.dial(2)
		crowd = append(crowd, conn)
	}
	p.dial(3)
	left := func() (n int) {
		for _, conn := range crowd {
			if !ended(conn) {
				n++
			}
		}
		return n
	}
	p.until("four of the crowd", func() bool { return left() == 4 })
	for last := range 6 {
		p.dial(10 + last)
	}
	if got := p.refused(Busy); got != 9 { // six of the crowd, and three when eight waited
		t.Errorf("%d for the crowd", got)
	}
}

// TestFloodCostsNoMoreThanItsArrival: when swaps are used up, who comes goes.
func TestFloodCostsNoMoreThanItsArrival(t *testing.T) {
	p := open(t, config())
	p.Door.mu.Lock()
	p.tally.now = func() time.Time { return time.Unix(1000, 0) }
	p.Door.mu.Unlock()
	for range 4 {
		p.dial(1)
	}
	dialed := swaps + 50
	for range dialed {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}
	p.until("all to be counted", func() bool { return p.refused(Busy) == uint64(dialed) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := len(p.guests); got != 4+swaps {
		t.Errorf("%d guests were let in, want %d", got, 4+swaps)
	}
}

func TestTotalAndPerName(t *testing.T) {
	cfg := config()
	cfg.Total, cfg.PerName = 8, 2
	p := open(t, cfg)
	first, guest := p.dial(1)
	guest.Admit("b")
	for range 2 {
		_, g := p.dial(1)
		g.Admit("b")
	}
	p.until("end of the oldest of the name", func() bool { return ended(first) })
	for i := range 6 {
		_, g := p.dial(1)
		g.Admit(fmt.Sprint(i))
	}
	if last, err := net.Dial("tcp", p.addr); err == nil { // else it was turned away before it knew
		defer last.Close()
		p.until("end of the ninth", func() bool { return ended(last) })
	}
	p.until("count", func() bool { return p.refused(Busy) >= 2 })
	if got := p.refused(Busy); got != 2 {
		t.Errorf("%d busy", got)
	}
}

func TestUnprovenMayNotSendMuch(t *testing.T) {
	p := open(t, config())
	conn, guest := p.dial(1)
	if _, err := conn.Write(make([]byte, 101)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(guest, make([]byte, 101)); err == nil {
		t.Errorf("%d bytes read", n)
	}
	p.until("end", func() bool { return ended(conn) })
	if got := p.refused(Protocol); got != 1 {
		t.Errorf("%d for the protocol", got)
	}
	conn, guest = p.dial(1)
	guest.Admit("b")
	if _, err := conn.Write(make([]byte, 101)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(guest, make([]byte, 101)); err != nil {
		t.Error(err)
	}
}

// TestOneAtATime: what unproven guests send is handed out to one of them; the next one's turn comes when that one
// reads on, leaves, is admitted or answers.
func TestOneAtATime(t *testing.T) {
	p := open(t, config())
	got := make(chan *Guest, 4)
	var reading sync.WaitGroup
	for range 4 {
		conn, guest := p.dial(1)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			if _, err := guest.Read(make([]byte, 1)); err == nil {
				got <- guest
			}
		})
	}
	for i, next := range []func(*Guest){
		func(g *Guest) { reading.Go(func() { _, _ = g.Read(make([]byte, 1)) }) },
		func(g *Guest) { _ = g.Close() },
		func(g *Guest) { g.Admit("b") },
		func(g *Guest) { _, _ = g.Write([]byte("y")) },
	} {
		guest := <-got
		if len(got) > 0 {
			t.Errorf("two have the turn, at %d", i)
		}
		next(guest)
	}
	p.mu.Lock()
	for _, g := range p.guests {
		_ = g.Close()
	}
	p.mu.Unlock()
	reading.Wait()
	p.until("end of the last turn", func() bool { return len(p.turn) == 0 })
}

// TestStrangersGetAFifth: much work is done for a crowd slowly.
func TestStrangersGetAFifth(t *testing.T) {
	p := open(t, config())
	const work, rounds = 5 * time.Millisecond, 10
	var reading sync.WaitGroup
	began := time.Now()
	for range 4 {
		conn, guest := p.dial(1)
		if _, err := conn.Write(make([]byte, rounds)); err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			for range rounds {
				if _, err := guest.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				time.Sleep(work)
			}
			guest.Admit("b")
		})
	}
	reading.Wait()
	if took, least := time.Since(began), 4*rounds*work*restTimes; took < least {
		t.Errorf("%s of work took %s, want at least %s", 4*rounds*work, took, least)
	}
}

func TestLeavingIsCountedOnce(t *testing.T) {
	p := open(t, config())
	_, guest := p.dial(1)
	_ = guest.Close()
	_ = guest.Close()
	guest.Refuse(Message, errors.New("late"))
	guest.Admit("late")
	_, proven := p.dial(1)
	proven.Admit("b")
	_ = proven.Close()
	total := uint64(0)
	for _, c := range p.Refused() {
		total += c.Count
	}
	if total != 1 || p.refused(Closed) != 1 {
		t.Errorf("refused %v", p.Refused())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Door.mu.Lock()
	defer p.Door.mu.Unlock()
	if p.Door.open != 0 || len(p.waiting) != 0 || len(p.inside) != 0 {
		t.Errorf("the books say %d %v %v", p.Door.open, p.waiting, p.inside)
	}
}

func TestLogCannotBeFlooded(t *testing.T) {
	var text bytes.Buffer
	now := time.Unix(1000, 0)
	l := tally{
		port: "peer", log: slog.New(slog.NewTextHandler(&text, nil)), now: func() time.Time { return now },
		counts: map[Reason]*count{},
	}
	from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
	long := errors.New(strings.Repeat("x", 1<<20))
	for range 1000 {
		l.note(Plain, from, long)
		l.note(Closed, from, long)
	}
	now = now.Add(tellEvery)
	l.note(Plain, from, long)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 || text.Len() > 1000 {
		t.Fatalf("%d lines, %d bytes", len(lines), text.Len())
	}
	if !strings.Contains(lines[0], "count=1 ") || !strings.Contains(lines[1], "count=1000 ") {
		t.Errorf("log says %s", text.String())
	}
}

func TestUnackedReachesTheSocket(t *testing.T) {
	cfg := config()
	cfg.Unacked = 2 * time.Second
	p := open(t, cfg)
	_, guest := p.dial(1)
	raw, err := guest.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := raw.Control(func(fd uintptr) {
		got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || got != 2000 {
		t.Errorf("%d ms, %v", got, err)
	}
}

func TestSource(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1:5":                "10.0.0.1/32",
		"[::ffff:10.0.0.1]:5":       "10.0.0.1/32",
		"[2001:db8:1:2:3:4:5:6]:70": "2001:db8:1:2::/64",
		"[fe80::1%lo]:70":           "fe80::/64",
	} {
		addr, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceOf(addr).String(); got != want {
			t.Errorf("%s is of %s, want %s", text, got, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"port":       func(c *Config) { c.Port = "" },
		"within":     func(c *Config) { c.Within = 0 },
		"bytes":      func(c *Config) { c.Bytes = 0 },
		"per source": func(c *Config) { c.PerSource = 9 },
		"total":      func(c *Config) { c.Total = 7 },
	} {
		cfg := config()
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
