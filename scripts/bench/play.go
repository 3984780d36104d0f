package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/scripts/figures"
	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	settleWithin = time.Minute
	// chanceFrom and chanceFor are how long a settled system is left alone before the fault, drawn anew for each run: more
	// than the longest period of any of the systems, the third of etcd's second.
	chanceFrom = 200 * time.Millisecond
	chanceFor  = 400 * time.Millisecond
	// watchAfter is how long a run is watched after the fault is healed; when nobody writes then, the watch goes on for
	// up to recoverWithin.
	watchAfter    = 2 * time.Second
	recoverWithin = 5 * time.Second
	// tries is how often a void run is repeated.
	tries = 3
	// turn is how many runs of a fault a system makes before it is the next one's turn. A system that is settled again after
	// a run stays up for the next one; if it is not settled within againWithin it starts from scratch.
	turn        = 5
	againWithin = 3 * time.Second
)

// errVoid is a run that says nothing: the system was not settled, or the fault did not come about.
type errVoid struct{ why string }

func (e errVoid) Error() string { return e.why }

// systems in the order of the report.
var systems = []struct {
	name string
	make func(context.Context, *stage) (System, error)
}{
	{ours, newDuoflow}, {oursFast, newDuoflowFast}, {"etcd", newEtcd}, {"keepalived", newKeepalived}, {"advisory", newAdvisory},
}

// player makes runs in one laboratory. There may be several; then each has a fault of its own.
type player struct {
	*record
	stage   *stage
	systems []System
	// window is held by the player that makes a fault and watches what comes of it, until the fault is undone: that time is
	// measured, and no other fault may fall into it.
	window chan struct{}
	// up is the system that runs and has settled again after a run; nil: none.
	up System
}

// playStubs makes the runs that are missing, in as many laboratories side by side as wanted.
func playStubs(ctx context.Context, o options, r *record) error {
	todo := make(chan fault, len(o.faults))
	for _, f := range o.faults {
		if slices.ContainsFunc(o.systems, func(system string) bool {
			key := stubKey(f.name, system)
			return r.count(key) < r.want(key)
		}) {
			todo <- f
		}
	}
	close(todo)
	if len(todo) == 0 {
		return nil
	}
	window := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	for range min(o.parallel, len(todo)) {
		group.Go(func() error {
			p, err := newPlayer(ctx, o, r)
			if err != nil {
				return err
			}
			defer p.stage.close()
			p.window = window
			for f := range todo {
				if err := p.play(ctx, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func newPlayer(ctx context.Context, o options, r *record) (*player, error) {
	r.say("setting up hosts, Postgres and %s", strings.Join(o.systems, ", "))
	s, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	p := &player{record: r, stage: s}
	r.setPostgres(s.store.Version())
	for _, name := range o.systems {
		for _, known := range systems {
			if known.name != name {
				continue
			}
			system, err := known.make(ctx, s)
			if err != nil {
				s.close()
				return nil, fmt.Errorf("prepare %s: %w", name, err)
			}
			p.systems = append(p.systems, system)
			r.addSystem(system.About())
		}
	}
	return p, nil
}

// play makes the runs of a fault that are missing; the systems take turns, so that a change of the machine's load meets
// all of them.
func (p *player) play(ctx context.Context, f fault) error {
	for missing := true; missing; {
		missing = false
		for _, system := range p.systems {
			key := stubKey(f.name, system.About().Name)
			for range min(turn, p.want(key)-p.count(key)) {
				before := p.count(key)
				err := p.repeat(ctx, f, system)
				if err != nil {
					return errors.Join(err, p.rest(context.WithoutCancel(ctx)))
				}
				if p.count(key) == before {
					break // it cannot be brought to a valid run: left out, loudly; the verdict says what is missing
				}
				missing = missing || p.count(key) < p.want(key)
			}
			if err := p.rest(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest stops what runs.
func (p *player) rest(ctx context.Context) error {
	if p.up == nil {
		return nil
	}
	system := p.up
	p.up = nil
	return system.Stop(ctx)
}

// repeat makes one run, again when it was void.
func (p *player) repeat(ctx context.Context, f fault, system System) error {
	name := system.About().Name
	for range tries {
		run, err := p.run(ctx, f, system)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			return p.addRun(run)
		}
		if saved := p.addVoid(Void{Fault: f.name, System: name, Why: err.Error()}); saved != nil {
			return saved
		}
		var void errVoid
		if !errors.As(err, &void) {
			return fmt.Errorf("%s on %s: %w", f.name, name, err)
		}
	}
	return nil
}

// run is one fault, from a settled system to the last row.
func (p *player) run(ctx context.Context, f fault, system System) (Run, error) {
	began := time.Now()
	run := Run{Fault: f.name, System: system.About().Name}
	w, err := p.perform(ctx, f, system, &run)
	if err != nil {
		return run, errors.Join(err, p.rest(context.WithoutCancel(ctx)))
	}
	rows, err := p.stage.read(ctx)
	if err != nil {
		return run, errors.Join(err, p.rest(context.WithoutCancel(ctx)))
	}
	run.measure(rows, w)
	if run.Writers != 1 {
		err = p.rest(ctx)
	}
	run.Took = time.Since(began).Seconds()
	if run.Rows == 0 && err == nil {
		return run, errVoid{"nobody wrote"}
	}
	return run, err
}

func (p *player) perform(ctx context.Context, f fault, system System, run *Run) (w window, err error) {
	c := &scene{stage: p.stage, system: system}
	defer func() { err = errors.Join(err, continueBackend(c)) }()
	if err := p.begin(ctx, system); err != nil {
		return w, err
	}
	if err := p.strike(ctx, f, c, run, &w); err != nil {
		return w, err
	}
	w.end, err = p.watch(ctx)
	return w, err
}

// begin waits until the system is settled with one writer. It starts from scratch unless it is up and settles again.
func (p *player) begin(ctx context.Context, system System) error {
	if p.up != nil {
		if err := p.stage.fresh(ctx); err != nil {
			return err
		}
		err := p.settle(ctx, system, againWithin)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := p.rest(ctx); err != nil {
			return err
		}
	}
	if err := p.stage.reset(ctx); err != nil {
		return err
	}
	p.up = system
	if err := system.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := p.settle(ctx, system, settleWithin); err != nil {
		return errVoid{err.Error()}
	}
	return nil
}

func (p *player) settle(ctx context.Context, system System, limit time.Duration) error {
	settling, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := p.stage.awaitSole(settling); err != nil {
		return err
	}
	_, err := system.Active(settling)
	return err
}

// strike makes the fault after some chance, waits for a takeover, and undoes the fault. Only one player does so at a time.
func (p *player) strike(ctx context.Context, f fault, c *scene, run *Run, w *window) error {
	select {
	case p.window <- struct{}{}:
		defer func() { <-p.window }()
	case <-ctx.Done():
		return ctx.Err()
	}
	old, err := p.chance(ctx, c.system)
	if err != nil {
		return err
	}
	c.host, run.Host, run.Old, run.Load = old.Node, old.Node, old.Epoch, load()
	w.fault = time.Now()
	if err := f.strike(ctx, c); err != nil {
		return fmt.Errorf("strike: %w", err)
	}
	if f.name == "queued-statement" {
		w.fault = time.Now() // stopping a session may have taken several tries
	}
	newer, err := p.stage.awaitNewer(ctx, old.Epoch, f.hold)
	if err != nil {
		return err
	}
	if newer {
		if err := lab.Pause(ctx, f.linger); err != nil {
			return err
		}
	}
	if f.heal == nil {
		return nil
	}
	w.healed = time.Now()
	if err := f.heal(ctx, c); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	return nil
}

// chance leaves a settled system alone for a while, and makes sure that nothing has changed in it meanwhile.
func (p *player) chance(ctx context.Context, system System) (owner, error) {
	settling, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	believed, err := system.Active(settling)
	if err != nil {
		return owner{}, errVoid{err.Error()}
	}
	first, err := p.stage.awaitSole(settling)
	if err != nil {
		return owner{}, errVoid{err.Error()}
	}
	if err := lab.Pause(ctx, chanceFrom+rand.N(chanceFor)); err != nil {
		return owner{}, err
	}
	second, err := p.stage.awaitSole(settling)
	if err != nil {
		return owner{}, errVoid{err.Error()}
	}
	if first != second || believed != "" && believed != second.Node {
		return owner{}, errVoid{fmt.Sprintf("not settled: %+v, then %+v, active %q", first, second, believed)}
	}
	return second, nil
}

// watch lets time pass until the end of the observation.
func (p *player) watch(ctx context.Context) (time.Time, error) {
	if err := lab.Pause(ctx, watchAfter); err != nil {
		return time.Time{}, err
	}
	for limit := time.Now().Add(recoverWithin); ; {
		owners, _, err := p.stage.writing(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if len(owners) > 0 || time.Now().After(limit) {
			return time.Now(), nil
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return time.Time{}, err
		}
	}
}

// load is the machine's load average over one minute; below 0 when it is not known.
func load() float64 {
	value, err := figures.Load()
	if err != nil {
		return -1
	}
	return value
}
