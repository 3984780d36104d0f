package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// bystanderPace is the wait between two rows of the bystander.
const bystanderPace = 20 * time.Millisecond

// watch is a run that is going on.
type watch struct {
	*stage
	o        options
	progress io.Writer
	first    lab.Active
	window   window
	load     *load

	mu  sync.Mutex // guards run's Events and Samples
	run *Run
}

// play sets the stage, watches, and judges.
func play(ctx context.Context, o options, progress io.Writer) (*Run, error) {
	fmt.Fprintln(progress, "steady: setting up hosts, Postgres and three nodes")
	s, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	w := &watch{stage: s, o: o, progress: progress, run: &Run{Seed: o.seed, Minutes: o.minutes, Faults: o.faults, Load: o.load, Bound: o.gap.Seconds()}}
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	if err := w.watch(ctx); err != nil {
		return nil, err
	}
	if err := w.end(ctx); err != nil {
		return nil, err
	}
	w.run.Broken = w.run.judge()
	return w.run, nil
}

// begin waits until the cluster is whole and settled, and notes from when on nothing may happen any more.
func (w *watch) begin(ctx context.Context) error {
	var err error
	if w.first, err = w.whole(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, 2*time.Second); err != nil { // the writer connects and the raft leader settles
		return err
	}
	if w.window.from, err = w.Clock(ctx); err != nil {
		return err
	}
	w.run.Started, w.run.Node, w.run.Epoch = time.Now(), w.first.Node, w.first.Epoch
	if w.o.load > 0 {
		w.load, err = startLoad(w.Lab.Hub(), w.o.load)
	}
	return err
}

// watch lets the time go by: troubles, looks, a bystander and a line a minute.
func (w *watch) watch(ctx context.Context) error {
	deadline := time.Now().Add(time.Duration(w.o.minutes * float64(time.Minute)))
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var errs [4]error
	var all sync.WaitGroup
	for i, part := range []func(context.Context) error{w.stand, w.look, w.report, w.trouble} {
		all.Go(func() {
			if errs[i] = part(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if time.Now().Before(deadline) {
		return errors.New("ended before its time")
	}
	return nil
}

// stand is the bystander: it commits, and has nothing to do with duoflow.
func (w *watch) stand(ctx context.Context) error {
	for {
		_, err := w.Pool.Exec(context.WithoutCancel(ctx), `INSERT INTO public.bystander DEFAULT VALUES`)
		if err != nil {
			return fmt.Errorf("commit as bystander: %w", err)
		}
		if lab.Pause(ctx, bystanderPace) != nil {
			return nil
		}
	}
}

func (w *watch) look(ctx context.Context) error {
	for {
		sample := w.eye.look(ctx, w.first.Node)
		w.mu.Lock()
		if sample.Term > 0 {
			w.run.Samples = append(w.run.Samples, sample)
		}
		w.mu.Unlock()
		if lab.Pause(ctx, lookEvery) != nil {
			return nil
		}
	}
}

// trouble makes all troubles in an order that chance decides, then again in another, until the time is over.
func (w *watch) trouble(ctx context.Context) error {
	if !w.o.faults {
		return nil
	}
	dice := rand.New(rand.NewPCG(w.o.seed, 0)) // #nosec: this is chance, not secrecy
	deadline, _ := ctx.Deadline()
	for {
		for _, i := range dice.Perm(len(troubles)) {
			left := time.Until(deadline)
			if left < time.Second {
				return nil
			}
			// A trouble that has begun is brought to its end, or the cluster could not be whole afterwards.
			e, err := w.inject(context.WithoutCancel(ctx), troubles[i], troubles[i].lasts(dice, left))
			if err != nil {
				return err
			}
			w.mu.Lock()
			w.run.Events = append(w.run.Events, e)
			w.mu.Unlock()
			if e.Moved != "" || e.Stuck != "" {
				fmt.Fprintf(w.progress, "steady: %s for %.1f s, raft leader %s: moved %q, stuck %q\n", e.Trouble, e.Lasted, e.Leader, e.Moved, e.Stuck)
			}
			if e.Stuck != "" || lab.Pause(ctx, time.Duration(dice.Int64N(int64(2*time.Second)))) != nil {
				return nil
			}
		}
	}
}

func (w *watch) inject(ctx context.Context, t trouble, d time.Duration) (Event, error) {
	status, err := w.Cluster.Status(ctx)
	if err != nil {
		return Event{}, err
	}
	at := place{active: w.first.Node, leader: status.GetLeader(), d: d}
	e := Event{Trouble: t.name, At: time.Now(), Leader: at.leader, Lasted: d.Seconds()}
	if err := t.do(ctx, w.stage, at); err != nil {
		return e, fmt.Errorf("%s: %w", t.name, err)
	}
	healed := time.Now()
	active, err := w.whole(ctx)
	if err != nil {
		e.Stuck = err.Error()
	}
	e.Whole, e.Epoch = time.Since(healed).Seconds(), active.Epoch
	if active != w.first {
		e.Moved = fmt.Sprintf("from epoch %d on %s to epoch %d on %s", w.first.Epoch, w.first.Node, active.Epoch, active.Node)
		w.first = active // the rest of the run leaves the new one alone; the verdict is spoken already
	}
	return e, nil
}

// report writes a line a minute.
func (w *watch) report(ctx context.Context) error {
	for minute := 1; lab.Pause(ctx, time.Minute) == nil; minute++ {
		now, err := w.Clock(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		last := window{now.Add(-time.Minute), now}
		commits, err := w.commits(context.WithoutCancel(ctx), last)
		if err != nil {
			return err
		}
		w.mu.Lock()
		fmt.Fprintln(w.progress, w.run.minute(minute, last, commits))
		w.mu.Unlock()
	}
	return nil
}

// end closes the window, reads what happened in it, and asks for one switchover.
func (w *watch) end(ctx context.Context) error {
	var err error
	if w.load != nil {
		w.run.Busy = w.load.alive()
	}
	if _, err = w.whole(ctx); err != nil {
		w.run.Events = append(w.run.Events, Event{Trouble: "end of the run", At: time.Now(), Stuck: err.Error()})
	}
	if w.window.to, err = w.Clock(ctx); err != nil {
		return err
	}
	commits, err := w.commits(ctx, w.window)
	if err != nil {
		return err
	}
	others, err := w.bystander(ctx, window{w.window.from, w.run.lastOf(w.window)})
	if err != nil {
		return err
	}
	w.run.measure(w.window, commits, others, w.o.gap)
	if err := w.history(ctx); err != nil {
		return err
	}
	if err := w.switchover(ctx); err != nil {
		return err
	}
	rows, err := commitorder.Read(ctx, w.Pool, probe.Table)
	w.run.Order = commitorder.Examine(rows)
	return err
}

// history counts what the log has seen since the run began.
func (w *watch) history(ctx context.Context) error {
	output, code, err := w.Cluster.Ctl(ctx, "history", "--limit", "1000", "-o", "json")
	if err != nil || code != 0 {
		return fmt.Errorf("read history: exit code %d: %w: %s", code, err, output)
	}
	var answer struct{ Entries []HistoryEntry }
	if err := json.Unmarshal([]byte(output), &answer); err != nil {
		return fmt.Errorf("decode history: %w", err)
	}
	if len(answer.Entries) == 0 {
		return errors.New("read history: empty, though the job was granted")
	}
	for _, e := range answer.Entries {
		if e.Epoch > w.run.Epoch || (e.Epoch == w.run.Epoch && e.Kind != "grant") {
			w.run.History = append(w.run.History, e)
		}
	}
	return nil
}

// switchover asks for one and waits until the other node commits.
func (w *watch) switchover(ctx context.Context) error {
	began := time.Now()
	output, code, err := w.Cluster.Ctl(ctx, "switchover", "--yes", "--timeout", "30s")
	if err != nil {
		return err
	}
	if code != 0 {
		w.run.Switchover = fmt.Sprintf("refused, exit code %d: %s", code, output)
		return nil
	}
	within, cancel := context.WithTimeout(ctx, wholeWithin)
	defer cancel()
	for {
		var rows int
		err := w.Pool.QueryRow(within, `SELECT count(*) FROM public.probe WHERE epoch > $1 AND node <> $2`,
			w.first.Epoch, w.first.Node).Scan(&rows)
		if err == nil && rows > 0 {
			w.run.SwitchoverTook = time.Since(began).Seconds()
			return nil
		}
		if lab.Pause(within, 20*time.Millisecond) != nil {
			w.run.Switchover = "asked for, and the other node commits nothing"
			return nil
		}
	}
}
