package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// passed marks packets that come from a relay, so that they are not taken a second time.
	passed = 0x6475
	// tableName is that of the rules that take packets, in a host's namespace.
	tableName = "relay"
	// maxFrame is larger than any frame of an Ethernet device: the kernel cuts segments to the device's size for us.
	maxFrame = 1 << 16
	// tapQueue is how many packets may wait for us to read them.
	tapQueue = 10000
	ipv4Type = 0x0800
)

// takeTable takes what a host sends to an address of the set and hands it to our own device, a TAP: for that device the kernel
// fills in checksums and cuts up what is longer than a frame, as it does for any device that can do neither itself. The hook
// is at the device, below IP, where a pulled cable would be. It comes after the lab's cuts (priority 0).
const takeTable = `table netdev %[1]s
delete table netdev %[1]s
table netdev %[1]s {
  set to { type ipv4_addr; }
  chain out { type filter hook egress device "%[2]s" priority 10; meta mark %[4]d accept; ip daddr @to fwd to "%[3]s"; }
}`

// gate is the relay's end in one host: where packets are taken, and put back.
type gate struct {
	host  Host
	table string
	tap   *os.File // frames that were taken are read from it
	raw   int      // socket that puts frames on the host's device, past takeTable
	index int      // of the host's device
}

// openGate makes the host's TAP and its rules, which take nothing yet. It is called on a thread in the host's network.
func openGate(ctx context.Context, host Host) (*gate, error) {
	g := &gate{host: host, table: host.table(), raw: -1}
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open relay at %s: %w", host.Name, err), g.release())
	}
	return g, nil
}

func (g *gate) open(ctx context.Context) error {
	device, err := net.InterfaceByName(g.host.Device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", g.host.Device, err)
	}
	g.index = device.Index
	if g.tap, err = newTap(g.host.Tap); err != nil {
		return err
	}
	if g.raw, err = newRaw(); err != nil {
		return err
	}
	if err := run(ctx, "", "ip", "link", "set", g.host.Tap, "txqueuelen", fmt.Sprint(tapQueue), "up"); err != nil {
		return err
	}
	return run(ctx, fmt.Sprintf(takeTable, g.table, g.host.Device, g.host.Tap, passed), "nft", "-f", "-")
}

// newTap makes a TAP device, which lives as long as its file.
func newTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open TAP: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("name TAP %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make TAP %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newRaw makes a socket that sends frames as they are, and receives none.
func newRaw() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, passed); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mark packet socket: %w", err)
	}
	return fd, nil
}

// take has the kernel hand us, or not any more, what the host sends to addr.
func (g *gate) take(ctx context.Context, addr netip.Addr, on bool) error {
	text := fmt.Sprintf("add element netdev %s to { %s }\n", g.table, addr)
	if !on { // deleting what is not there is an error, adding twice is not
		text += fmt.Sprintf("delete element netdev %s to { %s }\n", g.table, addr)
	}
	return run(ctx, text, "nft", "-f", "-")
}

// put sends a frame on. One that the device does not take is lost, as on any network.
func (g *gate) put(frame []byte) {
	to := &unix.SockaddrLinklayer{Ifindex: g.index, Protocol: binary.NativeEndian.Uint16([]byte{ipv4Type >> 8, ipv4Type & 0xff})}
	_ = unix.Sendto(g.raw, frame, 0, to)
}

// close ends the gate: the rules first, so that nothing is taken that nobody reads. It is called in the host's network.
func (g *gate) close(ctx context.Context) error {
	return errors.Join(run(ctx, "delete table netdev "+g.table, "nft", "-f", "-"), g.release())
}

func (g *gate) release() error {
	var errs []error
	if g.tap != nil {
		if err := g.tap.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if g.raw >= 0 {
		errs = append(errs, unix.Close(g.raw))
		g.raw = -1
	}
	return errors.Join(errs...)
}

// receiver is whom an Ethernet frame with IPv4 is for.
func receiver(frame []byte) (netip.Addr, bool) {
	const header, destination = 14, 14 + 16
	if len(frame) < header+20 || binary.BigEndian.Uint16(frame[12:]) != ipv4Type {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(frame[destination : destination+4])
}

// run runs a short command with text as its input; its output becomes part of the error.
func run(ctx context.Context, text string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(text)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %v: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}
