package relay_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/relay"
)

// patience is a limit for being stuck.
const patience = 2 * time.Minute

func up(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Up(t.Context(), lab.Options{Hosts: []string{"a", "b"}, Relay: true})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, l.Down(ctx))
	})
	if !l.Net.Real() {
		t.Fatal("this machine cannot make network namespaces, or no relay between them")
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is a UDP socket on each of two hosts.
type wire struct {
	t        *testing.T
	from, to *net.UDPConn
}

func newWire(t *testing.T, l *lab.Lab, from, to string) wire {
	t.Helper()
	w := wire{t: t}
	must(t, l.Net.Do(to, func() (err error) {
		w.to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(l.Net.Addr(to))})
		return err
	}))
	raw, err := w.to.SyscallConn()
	must(t, err)
	var forced error // beyond the machine's limit: what a busy machine is late to read must not be lost
	must(t, raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	}))
	must(t, forced)
	must(t, l.Net.Do(from, func() (err error) {
		w.from, err = net.DialUDP("udp4", nil, w.to.LocalAddr().(*net.UDPAddr))
		return err
	}))
	t.Cleanup(func() { w.from.Close(); w.to.Close() })
	return w
}

const last = ^uint32(0)

// send sends numbered packets, a few at a time so that no queue of the kernel overflows, and returns the numbers that come
// out in their order. finish is called when the last has been sent, and has to see to it that the packet called last comes.
func (w wire) send(n int, finish func()) []uint32 {
	w.t.Helper()
	done := make(chan []uint32, 1)
	go func() {
		var got []uint32
		buffer := make([]byte, 16)
		for {
			must(w.t, w.to.SetReadDeadline(time.Now().Add(patience)))
			if _, err := w.to.Read(buffer); err != nil {
				w.t.Error(err)
				break
			}
			number := binary.BigEndian.Uint32(buffer)
			if number == last {
				break
			}
			got = append(got, number)
		}
		done <- got
	}()
	for i := range n {
		w.one(uint32(i))
		if i%50 == 49 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	finish()
	w.one(last)
	return <-done
}

func (w wire) one(number uint32) {
	_, err := w.from.Write(binary.BigEndian.AppendUint32(nil, number))
	must(w.t, err)
}

// settle takes the rule from a to b away when all that it held has come.
func settle(t *testing.T, l *lab.Lab, held time.Duration) func() {
	t.Helper()
	return func() {
		must(t, lab.Pause(t.Context(), held))
		must(t, l.Net.Disturb(t.Context(), "a", "b", relay.Rule{}))
	}
}

// TestLossAndDuplicates: the packets that come are exactly those that the seed lets through.
func TestLossAndDuplicates(t *testing.T) {
	l := up(t)
	w := newWire(t, l, "a", "b")
	const n = 2000
	for _, rule := range []relay.Rule{
		{Loss: 0.05, Seed: 1}, {Loss: 0.2, Seed: 2}, {Loss: 0.5, Seed: 3}, {Duplicate: 0.3, Seed: 4}, {Loss: 0.5, Duplicate: 0.5, Seed: 5},
	} {
		before := l.Net.Disturbed("a")
		must(t, l.Net.Disturb(t.Context(), "a", "b", rule))
		got := w.send(n, settle(t, l, time.Second))
		count := l.Net.Disturbed("a")
		lost, doubled := int(count.Lost-before.Lost), int(count.Doubled-before.Doubled)
		if taken := int(count.Taken - before.Taken); taken != n {
			t.Errorf("%+v: the relay took %d packets of %d", rule, taken, n)
		}
		if len(got) != n-lost+doubled {
			t.Errorf("%+v: %d packets came, but of %d the relay lost %d and doubled %d", rule, len(got), n, lost, doubled)
		}
		// 2000 packets: five standard deviations are less than 0.06.
		if off := float64(lost)/n - rule.Loss; off < -0.06 || off > 0.06 {
			t.Errorf("%+v: %d of %d were lost", rule, lost, n)
		}
		if off := float64(doubled)/n - rule.Duplicate*(1-rule.Loss); off < -0.06 || off > 0.06 {
			t.Errorf("%+v: %d of %d were doubled", rule, doubled, n)
		}
		if !slices.IsSorted(got) {
			t.Errorf("%+v: packets that nobody delays come out of order", rule)
		}
	}
}

// TestDelay: packets come later, in their order without jitter and in another with it.
func TestDelay(t *testing.T) {
	l := up(t)
	w := newWire(t, l, "a", "b")
	for _, tt := range []struct {
		rule   relay.Rule
		sorted bool
	}{
		{relay.Rule{Delay: 300 * time.Millisecond}, true},
		{relay.Rule{Delay: 300 * time.Millisecond, Jitter: 200 * time.Millisecond}, false},
		{relay.Rule{Delay: 300 * time.Millisecond, Ahead: 0.2}, false},
	} {
		must(t, l.Net.Disturb(t.Context(), "a", "b", tt.rule))
		got := w.send(200, settle(t, l, 3*time.Second))
		if len(got) != 200 || slices.IsSorted(got) != tt.sorted {
			t.Errorf("%+v: %d packets of 200 came, in order: %v", tt.rule, len(got), slices.IsSorted(got))
		}
	}
	must(t, l.Net.Disturb(t.Context(), "a", "b", relay.Rule{Delay: 300 * time.Millisecond}))
	began := time.Now()
	w.one(last)
	if w.send(0, func() {}); time.Since(began) < 300*time.Millisecond {
		t.Errorf("a packet that is held for 300ms came after %s", time.Since(began))
	}
}

// TestOneWay: what is cut in one direction flows in the other; the hub is a host like any other.
func TestOneWay(t *testing.T) {
	l := up(t)
	for _, pair := range [][2]string{{"a", "b"}, {"a", lab.Hub}, {lab.Hub, "a"}} {
		there, back := newWire(t, l, pair[0], pair[1]), newWire(t, l, pair[1], pair[0])
		must(t, l.Net.Disturb(t.Context(), pair[0], pair[1], relay.Rule{Loss: 1}))
		healed := func() { must(t, l.Net.Calm(t.Context())) }
		if got := back.send(50, func() {}); len(got) != 50 {
			t.Errorf("%v: %d of 50 packets came in the direction that is not cut", pair, len(got))
		}
		if got := there.send(50, healed); len(got) != 0 {
			t.Errorf("%v: %d packets passed the cut", pair, len(got))
		}
		if got := there.send(50, func() {}); len(got) != 50 {
			t.Errorf("%v: %d of 50 packets came after the heal", pair, len(got))
		}
	}
}

// transfer sends 50 MB over TCP and compares what comes.
func transfer(t *testing.T, l *lab.Lab, from, to string) {
	t.Helper()
	var listener net.Listener
	must(t, l.Net.Do(to, func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(l.Net.Addr(to), "0"))
		return err
	}))
	defer listener.Close()
	sums := make(chan [sha256.Size]byte, 1)
	go func() {
		defer close(sums)
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, conn); err != nil {
			t.Error(err)
		}
		sums <- [sha256.Size]byte(sum.Sum(nil))
	}()
	data := make([]byte, 50_000_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	var conn net.Conn
	must(t, l.Net.Do(from, func() (err error) {
		conn, err = net.DialTimeout("tcp4", listener.Addr().String(), patience)
		return err
	}))
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err := conn.Write(data)
	must(t, errors.Join(err, conn.Close()))
	if got := <-sums; got != sha256.Sum256(data) {
		t.Errorf("%s to %s: what came is not what was sent", from, to)
	}
}

// TestTCP: 50 MB pass unharmed beside the relay, and through it.
func TestTCP(t *testing.T) {
	l := up(t)
	for _, pair := range [][2]string{{"a", "b"}, {"a", lab.Hub}, {lab.Hub, "a"}} {
		before := l.Net.Disturbed(pair[0]).Taken
		transfer(t, l, pair[0], pair[1])
		if taken := l.Net.Disturbed(pair[0]).Taken - before; taken != 0 {
			t.Errorf("%v: %d packets without a rule went through the relay", pair, taken)
		}
		must(t, l.Net.Disturb(t.Context(), pair[0], pair[1], relay.Rule{Delay: time.Microsecond}))
		must(t, l.Net.Disturb(t.Context(), pair[1], pair[0], relay.Rule{Delay: time.Microsecond}))
		transfer(t, l, pair[0], pair[1])
		// 50 MB are no fewer frames than this, cut to the size of an Ethernet device.
		if taken := l.Net.Disturbed(pair[0]).Taken - before; taken < 50_000_000/1500 {
			t.Errorf("%v: only %d packets went through the relay", pair, taken)
		}
		must(t, l.Net.Calm(t.Context()))
	}
	must(t, l.Net.Disturb(t.Context(), "a", "b", relay.Rule{Loss: 0.01, Duplicate: 0.05, Delay: time.Millisecond, Jitter: time.Millisecond}))
	transfer(t, l, "a", "b")
}

// TestWithoutARelay: who asks for trouble in a lab that was not made for it is told.
func TestWithoutARelay(t *testing.T) {
	l, err := lab.Up(t.Context(), lab.Options{Hosts: []string{"a", "b"}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	if err := l.Net.Disturb(t.Context(), "a", "b", relay.Rule{Loss: 1}); !errors.Is(err, lab.ErrNoRelay) {
		t.Errorf("got %v, want ErrNoRelay", err)
	}
}
