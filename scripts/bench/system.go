package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// System is something that keeps one writer running on two hosts, with a third for those that vote.
type System interface {
	// About says what it is and how it is set.
	About() About
	// Start starts it on all hosts from scratch; the writer runs some time later.
	Start(ctx context.Context) error
	// Active waits until it is settled and would survive a fault, and names the host that it believes active. The
	// judge of who writes is the database, not this.
	Active(ctx context.Context) (string, error)
	// Revive starts again what a fault has ended on a host.
	Revive(ctx context.Context, host string) error
	// Down says that a host is about to die, so that nothing is started again on it until Revive.
	Down(host string)
	// Managers are the processes on a host that decide about the writer there; none when it is down.
	Managers(host string) []int
	// Switchover moves the writer away from a host as the system's manual would have it.
	Switchover(ctx context.Context, from string) error
	// Stop ends it on all hosts, and everything that was ever started on them.
	Stop(ctx context.Context) error
}

// About describes a system in the report.
type About struct {
	Name, Version, Settings string
	// Detection is the time after which it takes a silent host for dead, as set; a frozen manager is frozen for three
	// times as long.
	Detection time.Duration
}

// restartAfter is when a dead manager is started again, by a supervisor that touches nothing else of the host (as
// systemd with KillMode=process does).
const restartAfter = time.Second

// keeper is the supervisor of one program on one host.
type keeper struct {
	start func() (*lab.Process, error)

	mu      sync.Mutex
	process *lab.Process
	down    chan struct{} // closed by stop
	joined  sync.WaitGroup
}

// run starts the program, and again whenever it has ended, until stop.
func (k *keeper) run() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return nil
	}
	p, err := k.start()
	if err != nil {
		return err
	}
	down := make(chan struct{})
	k.process, k.down = p, down
	k.joined.Go(func() { k.keep(p, down) })
	return nil
}

func (k *keeper) keep(p *lab.Process, down chan struct{}) {
	for {
		select {
		case <-p.Done():
		case <-down:
			return
		}
		select {
		case <-time.After(restartAfter):
		case <-down:
			return
		}
		next, err := k.again(down)
		if err != nil {
			continue // the next try is a second away
		}
		if next == nil {
			return
		}
		p = next
	}
}

// again starts the program unless it is not wanted any more.
func (k *keeper) again(down chan struct{}) (*lab.Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != down {
		return nil, nil
	}
	p, err := k.start()
	if err == nil {
		k.process = p
	}
	return p, err
}

// stop leaves the program alone and starts it no more.
func (k *keeper) stop() {
	k.mu.Lock()
	if k.down != nil {
		close(k.down)
		k.down = nil
	}
	k.mu.Unlock()
	k.joined.Wait()
}

func (k *keeper) pid() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return 0
	}
	return k.process.PID()
}

// fleet is what all systems have in common: supervised programs on hosts.
type fleet struct {
	lab   *lab.Lab
	order []string             // of starting
	runs  map[string][]*keeper // by host; the last one is the manager
}

var hosts = []string{"a", "b", "t"}

func newFleet(l *lab.Lab) fleet { return fleet{lab: l, order: hosts, runs: map[string][]*keeper{}} }

// add puts a program under supervision; what is added last to a host is its manager.
func (f *fleet) add(host string, spec func() (lab.Spec, error)) {
	f.runs[host] = append(f.runs[host], &keeper{start: func() (*lab.Process, error) {
		s, err := spec()
		if err != nil {
			return nil, err
		}
		return f.lab.Host(host).Start(s)
	}})
}

func (f *fleet) Start(ctx context.Context) error {
	var errs []error
	for _, host := range f.order {
		errs = append(errs, f.Revive(ctx, host))
	}
	return errors.Join(errs...)
}

func (f *fleet) Revive(_ context.Context, host string) error {
	var errs []error
	for _, k := range f.runs[host] {
		errs = append(errs, k.run())
	}
	return errors.Join(errs...)
}

func (f *fleet) Down(host string) {
	for _, k := range f.runs[host] {
		k.stop()
	}
}

func (f *fleet) Managers(host string) []int {
	all := f.runs[host]
	if len(all) == 0 {
		return nil
	}
	if pid := all[len(all)-1].pid(); pid > 0 {
		return []int{pid}
	}
	return nil
}

func (f *fleet) Stop(ctx context.Context) error {
	for _, host := range hosts {
		f.Down(host)
	}
	errs := []error{f.lab.Net.HealAll(ctx)}
	for _, host := range hosts {
		errs = append(errs, f.lab.Host(host).Thaw(ctx), f.lab.Host(host).Kill(ctx))
	}
	return errors.Join(errs...)
}

// terminate asks the manager of a host to end, as its supervisor's "stop" would.
func (f *fleet) terminate(host string) error {
	pids := f.Managers(host)
	if len(pids) == 0 {
		return fmt.Errorf("stop manager on %s: it does not run", host)
	}
	return syscall.Kill(pids[0], syscall.SIGTERM)
}

// scratch is an empty folder for a system's files.
func scratch(l *lab.Lab, name string) (string, error) {
	dir := filepath.Join(l.Dir, "bench", name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", fmt.Errorf("make folder of %s: %w", name, err)
	}
	return dir, nil
}
