package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// Forest is all process trees of one job on this node. New makes it; it needs no closing, a life
// has its own goroutines and they end with it.
type Forest struct {
	name string
	mode Mode
	told func() // Config.Started
	base string // in cgroup mode: the directory familyDir is made in
	log  *slog.Logger

	// gate keeps Start out while Clear works, so that nil from Clear means something.
	gate  sync.Mutex
	swept bool // the whole cgroup hierarchy was searched once; guarded by gate

	mu    sync.Mutex
	lives map[string]*Life // those not yet known to be empty, by label
}

// New checks the Config and finds out what this machine allows. In cgroup mode it makes and
// removes a directory; for the other modes it runs this program's MaybeInit once, to see whether
// such a process can be started.
func New(cfg Config) (*Forest, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("proc config: %w", err)
	}
	if startedAsInit() {
		return nil, ErrNoInit // without this check such a program would start itself for ever
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Started == nil {
		cfg.Started = func() {}
	}
	f := &Forest{name: cfg.Name, log: log, told: cfg.Started, lives: make(map[string]*Life)}
	modes := []Mode{ModeCgroup, ModePIDNS, ModeGroup}
	if cfg.ForceMode != "" {
		modes = []Mode{cfg.ForceMode}
	}
	var problems []error
	for _, mode := range modes {
		err := f.adopt(mode)
		if err == nil {
			f.noteDegraded(problems)
			return f, nil
		}
		problems = append(problems, fmt.Errorf("mode %s: %w", mode, err))
	}
	return nil, fmt.Errorf("hold process trees: %w", errors.Join(problems...))
}

// adopt takes the mode if it works here.
func (f *Forest) adopt(mode Mode) error {
	f.mode = mode
	if mode != ModeCgroup {
		return probeInit(mode, f.name)
	}
	h, err := readHierarchy()
	if err != nil {
		return err
	}
	f.base, err = h.findBase(f.name)
	return err
}

func (f *Forest) noteDegraded(problems []error) {
	if len(problems) > 0 {
		f.log.Warn("process trees are held in mode "+string(f.mode), "reason", errors.Join(problems...))
	}
}

// Mode is how this Forest holds its trees; "group" is degraded.
func (f *Forest) Mode() Mode { return f.mode }

// Start starts one life. The error is also what the kernel said about the command itself, as
// os.ErrNotExist; nothing is left behind then. ErrExists: a life of this label is not empty yet.
func (f *Forest) Start(spec Spec) (*Life, error) {
	cmd, err := spec.command()
	if err != nil {
		return nil, fmt.Errorf("start life %s: %w", spec.Label, err)
	}
	f.gate.Lock()
	defer f.gate.Unlock()
	life, err := f.start(spec, cmd)
	if err != nil {
		return nil, fmt.Errorf("start life %s: %w", spec.Label, err)
	}
	return life, nil
}

func (f *Forest) start(spec Spec, cmd command) (*Life, error) {
	wires, err := wire(spec)
	if err != nil {
		return nil, err
	}
	life := newLife(spec, f.log, wires)
	if err := f.remember(life); err != nil {
		wires.closeChild()
		wires.closeOurs()
		return nil, err
	}
	if f.mode == ModeCgroup {
		err = f.startCgroup(life, cmd)
	} else {
		err = f.startInit(life, cmd)
	}
	f.told()
	wires.closeChild()
	if err != nil {
		life.forget()
		wires.closeOurs()
		return nil, err
	}
	life.pump(spec)
	return life, nil
}

func (f *Forest) remember(life *Life) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lives[life.label] != nil {
		return ErrExists
	}
	f.lives[life.label] = life
	life.forget = func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.lives[life.label] == life {
			delete(f.lives, life.label)
		}
	}
	return nil
}

func (f *Forest) known() []*Life {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lives []*Life
	for _, label := range slices.Sorted(maps.Keys(f.lives)) {
		lives = append(lives, f.lives[label])
	}
	return lives
}

// Clear kills every tree of this Forest's name: those of earlier daemons in any mode, and the
// lives of this Forest too. nil means that none is left. In group mode it cannot see what
// outlived its init (ErrLost while this daemon lives, nothing later).
func (f *Forest) Clear(ctx context.Context) error {
	f.gate.Lock()
	defer f.gate.Unlock()
	var problems []error
	for _, life := range f.known() {
		problems = append(problems, life.Kill(ctx))
	}
	problems = append(problems, f.sweepCgroups(ctx), f.sweepInits(ctx))
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("clear trees of %s: %w", f.name, err)
	}
	return nil
}
