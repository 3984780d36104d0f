package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Hub is the name of the machine itself: Postgres, RabbitMQ and Airflow's services listen on its
// address of the bridge.
const Hub = "hub"

// netPrefix is the second byte of all addresses.
const netPrefix = 77

// lastByte is the last byte of each host's address.
var lastByte = map[string]int{Hub: 1, "a": 11, "b": 12, "c": 13, "t": 14, "u": 15, "d": 20}

// Net is the private network of a lab. Its methods are safe for concurrent use.
type Net struct {
	claim *claim
	hosts []string // without the hub
	real  bool
	dirs  map[string]*os.File // network namespaces, by host
	bad   *badNetwork         // nil without Options.Relay
}

// newNet makes the bridge and one namespace per host, or falls back to loopback addresses.
func newNet(ctx context.Context, c *claim, options Options) *Net {
	n := &Net{claim: c, hosts: options.Hosts, dirs: map[string]*os.File{}}
	if options.Loopback {
		return n
	}
	err := n.build(ctx)
	if err == nil && options.Relay {
		n.bad, err = n.startRelay(ctx)
	}
	if err == nil {
		n.real = true
		return n
	}
	options.Logger.Warn("no network namespaces here; hosts get loopback addresses and cannot be cut off", "err", err)
	_ = n.close()
	return n
}

// Real tells whether hosts are network namespaces, so that Cut works.
func (n *Net) Real() bool { return n.real }

// Addr is the IP address of a host; "" for one that does not exist.
func (n *Net) Addr(host string) string {
	last, ok := lastByte[host]
	if !ok {
		return ""
	}
	first := 127
	if n.real {
		first = 10
	}
	return n.address(first, last)
}

func (n *Net) address(first, last int) string {
	return fmt.Sprintf("%d.%d.%d.%d", first, netPrefix, n.claim.number, last)
}

func (n *Net) namespace(host string) string { return n.claim.bridge() + "-" + host }

func (n *Net) build(ctx context.Context) error {
	bridge := n.claim.bridge()
	err := errors.Join(
		run(ctx, "", "ip", "link", "add", bridge, "type", "bridge"),
		run(ctx, "", "ip", "address", "add", n.address(10, lastByte[Hub])+"/24", "dev", bridge),
		run(ctx, "", "ip", "link", "set", bridge, "up"))
	if err != nil {
		return err
	}
	for _, host := range n.hosts {
		if err := n.buildHost(ctx, host); err != nil {
			return err
		}
	}
	return nil
}

func (n *Net) buildHost(ctx context.Context, host string) error {
	name := n.namespace(host)
	for _, args := range [][]string{
		{"ip", "netns", "add", name},
		{"ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"ip", "link", "set", name, "master", n.claim.bridge(), "up"},
		{"ip", "-n", name, "address", "add", n.address(10, lastByte[host]) + "/24", "dev", "eth0"},
		{"ip", "-n", name, "link", "set", "lo", "up"},
		{"ip", "-n", name, "link", "set", "eth0", "up"},
	} {
		if err := run(ctx, "", args...); err != nil {
			return err
		}
	}
	dir, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return fmt.Errorf("open namespace of %s: %w", host, err)
	}
	n.dirs[host] = dir
	return n.nft(ctx, host, cutTable)
}

func (n *Net) close() error {
	err := n.bad.stop()
	for _, dir := range n.dirs {
		dir.Close()
	}
	clear(n.dirs)
	return err
}

// enter moves the calling thread, which must be locked and never unlocked, to the host. It is not
// done with "ip netns exec", which mounts a new /sys and so hides the cgroups.
func (n *Net) enter(host string) error {
	dir, ok := n.dirs[host]
	if !ok {
		return nil // the hub, or no namespaces at all
	}
	if err := unix.Setns(int(dir.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network of %s: %w", host, err)
	}
	return nil
}

// Do calls f on a thread inside the host's network: sockets that f itself opens belong to the host.
// f must not hand the work to other goroutines.
func (n *Net) Do(host string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := n.enter(host); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// run runs a short command with text as its input; its output becomes part of the error.
func run(ctx context.Context, text string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %v: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}
