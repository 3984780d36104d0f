package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	settleWithin = time.Minute
	// watchAfter is how long a run is watched after the fault is healed; when nobody writes then, the watch goes on for
	// up to recoverWithin.
	watchAfter    = 3 * time.Second
	recoverWithin = 10 * time.Second
	// tries is how often a void run is repeated.
	tries = 3
)

// errVoid is a run that says nothing: the system was not settled, or the fault did not come about.
type errVoid struct{ why string }

func (e errVoid) Error() string { return e.why }

// systems in the order of the report.
var systems = []struct {
	name string
	make func(context.Context, *stage) (System, error)
}{
	{"duoflow", newDuoflow}, {"etcd", newEtcd}, {"keepalived", newKeepalived}, {"advisory", newAdvisory},
}

// player carries out a benchmark.
type player struct {
	stage    *stage
	systems  []System
	report   *Report
	progress io.Writer
	save     func(*Report) error
}

func newPlayer(ctx context.Context, o options, progress io.Writer) (*player, error) {
	fmt.Fprintln(progress, "bench: setting up hosts, Postgres and", strings.Join(o.systems, ", "))
	s, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	p := &player{stage: s, progress: progress, report: newReport(s.store.Version()), save: o.save}
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
			p.report.Systems = append(p.report.Systems, system.About())
		}
	}
	return p, nil
}

// play goes through the faults; within one, the systems take turns, so that a change of the machine's load meets all.
func (p *player) play(ctx context.Context, chosen []fault, runs int) error {
	for _, f := range chosen {
		for n := range runs {
			for _, system := range p.systems {
				if err := p.repeat(ctx, f, system, fmt.Sprintf("%d/%d", n+1, runs)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// repeat makes one run, again when it was void. A system that cannot be brought to a valid run is left out, loudly.
func (p *player) repeat(ctx context.Context, f fault, system System, count string) error {
	name := system.About().Name
	for range tries {
		run, err := p.run(ctx, f, system)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			p.report.Runs = append(p.report.Runs, run)
			fmt.Fprintf(p.progress, "bench: %-16s %-10s %6s  %s\n", f.name, name, count, run)
			return p.save(p.report)
		}
		p.report.Void = append(p.report.Void, Void{Fault: f.name, System: name, Why: err.Error()})
		fmt.Fprintf(p.progress, "bench: %-16s %-10s %6s  void: %v\n", f.name, name, count, err)
		var void errVoid
		if !errors.As(err, &void) {
			return fmt.Errorf("%s on %s: %w", f.name, name, err)
		}
	}
	return p.save(p.report)
}

// run is one fault from a fresh start to the last row.
func (p *player) run(ctx context.Context, f fault, system System) (Run, error) {
	run := Run{Fault: f.name, System: system.About().Name}
	w, err := p.perform(ctx, f, system, &run)
	if stopped := system.Stop(context.WithoutCancel(ctx)); stopped != nil || err != nil {
		return run, errors.Join(err, stopped)
	}
	rows, err := p.stage.read(ctx)
	if err != nil {
		return run, err
	}
	run.measure(rows, w)
	if run.Rows == 0 {
		return run, errVoid{"nobody wrote"}
	}
	return run, nil
}

func (p *player) perform(ctx context.Context, f fault, system System, run *Run) (w window, err error) {
	if err := p.stage.reset(ctx); err != nil {
		return w, err
	}
	c := &scene{stage: p.stage, system: system}
	defer func() { err = errors.Join(err, continueBackend(c)) }()
	old, err := p.begin(ctx, system)
	if err != nil {
		return w, err
	}
	c.host, run.Host, run.Old, run.Load = old.Node, old.Node, old.Epoch, load()
	w.fault = time.Now()
	if err := f.strike(ctx, c); err != nil {
		return w, fmt.Errorf("strike: %w", err)
	}
	if f.name == "queued-statement" {
		w.fault = time.Now() // stopping a session may have taken several tries
	}
	newer, err := p.stage.awaitNewer(ctx, old.Epoch, f.hold)
	if err != nil {
		return w, err
	}
	if newer {
		if err := lab.Pause(ctx, f.linger); err != nil {
			return w, err
		}
	}
	if f.heal != nil {
		w.healed = time.Now()
		if err := f.heal(ctx, c); err != nil {
			return w, fmt.Errorf("heal: %w", err)
		}
	}
	w.end, err = p.watch(ctx)
	return w, err
}

// begin starts the system and waits until it is settled with one writer, and some chance more.
func (p *player) begin(ctx context.Context, system System) (owner, error) {
	settling, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if err := system.Start(settling); err != nil {
		return owner{}, fmt.Errorf("start: %w", err)
	}
	believed, err := system.Active(settling)
	if err != nil {
		return owner{}, errVoid{err.Error()}
	}
	first, err := p.stage.awaitSole(settling)
	if err != nil {
		return owner{}, errVoid{err.Error()}
	}
	if err := lab.Pause(ctx, 300*time.Millisecond+rand.N(time.Second)); err != nil {
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
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	value, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return value
}
