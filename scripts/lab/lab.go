package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Options say what lab to build; the zero value is one with all hosts in a temporary folder.
type Options struct {
	Dir    string       // logs, data and configuration; "" = a temporary one, removed by Down
	Hosts  []string     // among a, b, c, t, u, d; empty = a, b, t, d
	Logger *slog.Logger // nil = discard

	Loopback bool // no network namespaces, as where they cannot be made
	Relay    bool // Net.Disturb works
}

// Lab is a set of hosts on one network. Services and nodes are started on it by its other methods,
// which are not safe for concurrent use unless they say so.
type Lab struct {
	Net *Net
	Dir string

	claim  *claim
	temp   bool
	top    *cgroup
	hosts  map[string]*Host
	logger *slog.Logger
	stops  []func(context.Context) error // in reverse order
}

// Up makes the network and the hosts. Down must be called; when the process ends without it, the
// watcher cleans up.
func Up(ctx context.Context, options Options) (*Lab, error) {
	if len(options.Hosts) == 0 {
		options.Hosts = []string{"a", "b", "t", "d"}
	}
	for _, host := range options.Hosts {
		if _, ok := lastByte[host]; !ok || host == Hub {
			return nil, fmt.Errorf("make host %q: use a, b, c, t, u or d", host)
		}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("build lab: needs root for network namespaces and cgroups")
	}
	l := &Lab{logger: options.Logger, hosts: map[string]*Host{}, Dir: options.Dir, temp: options.Dir == ""}
	if err := l.build(ctx, options); err != nil {
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context, options Options) error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	if l.claim, err = newClaim(); err != nil {
		return err
	}
	if err := l.makeDir(); err != nil {
		return err
	}
	sweepable := ""
	if l.temp {
		sweepable = l.Dir
	}
	path := filepath.Join(root, "duoflow-lab", strconv.Itoa(l.claim.number))
	if err := l.claim.guard(sweepable, path, options.Hosts); err != nil {
		return err
	}
	if l.top, err = newCgroup(path); err != nil {
		return err
	}
	l.Net = newNet(ctx, l.claim, options)
	for _, name := range append([]string{Hub}, options.Hosts...) {
		node, err := newCgroup(filepath.Join(path, name))
		if err != nil {
			return err
		}
		l.hosts[name] = &Host{Name: name, Addr: l.Net.Addr(name), net: l.Net, dir: l.logDir(), node: node}
	}
	return nil
}

// makeDir makes a folder that the users of Postgres and RabbitMQ can enter too.
func (l *Lab) makeDir() error {
	var err error
	if l.temp {
		if l.Dir, err = os.MkdirTemp("", "duoflow-lab-"); err != nil {
			return fmt.Errorf("make lab folder: %w", err)
		}
	}
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return fmt.Errorf("make lab folder: %w", err)
	}
	if err := os.MkdirAll(l.logDir(), 0o755); err != nil {
		return fmt.Errorf("make lab folder: %w", err)
	}
	return os.Chmod(l.Dir, 0o755)
}

func (l *Lab) logDir() string { return filepath.Join(l.Dir, "logs") }

// Host returns a host by name, Hub included; nil when there is none.
func (l *Lab) Host(name string) *Host { return l.hosts[name] }

// Hub returns the machine itself.
func (l *Lab) Hub() *Host { return l.hosts[Hub] }

// onDown makes Down call stop before everything is killed, the last one first.
func (l *Lab) onDown(stop func(context.Context) error) { l.stops = append(l.stops, stop) }

// Down kills everything that runs, removes the network and, if it is a temporary one, the folder. It
// may be called twice.
func (l *Lab) Down(ctx context.Context) error {
	var errs []error
	for _, stop := range slices.Backward(l.stops) {
		errs = append(errs, stop(ctx))
	}
	l.stops = nil
	if l.claim == nil {
		return errors.Join(errs...)
	}
	for _, host := range l.hosts {
		errs = append(errs, host.node.close())
	}
	if l.top != nil {
		errs = append(errs, l.top.close())
	}
	if l.Net != nil {
		errs = append(errs, l.Net.close())
	}
	errs = append(errs, l.claim.release())
	l.claim = nil
	if l.temp {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}
