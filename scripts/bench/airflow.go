package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// Ways to have a real Airflow scheduler run, in the order of the report.
const (
	warm   = "duoflow, warm"
	cold   = "duoflow, cold"
	native = "two native schedulers"
)

var airflowSystems = []string{warm, cold, native}

// What goes on all the time before a kill: a run of two independent tasks every 1.5 s, which is little enough that
// nothing piles up on two cores. At the kill one more run is triggered, so that there is something to queue at once.
const (
	perRun   = 2
	runEvery = 1500 * time.Millisecond
)

const (
	// aimWithin is how long a task may let itself be waited for: the first one of a kill, and the one that is aimed at.
	aimWithin = 2 * time.Minute
	// overWithin is how long duoflow's tasks are waited for; native ones are waited for as -cap says.
	overWithin = time.Minute
	// orphanInterval is Airflow's default for orphaned_tasks_check_interval.
	orphanInterval = 300 * time.Second
	// firstLook and lookStep spread the native kills over that interval: how long a kill has to wait for the survivor's
	// next look is chance for a site, and must not be the same for all kills here.
	firstLook = 30 * time.Second
	lookStep  = 60 * time.Second
	// misses is how often a native kill that left nothing unsent is repeated.
	misses = 8
)

// Kill is one kill of a scheduler's host, at the moment at which it has committed that tasks are queued and may not have
// sent them yet. Times are from the kill.
type Kill struct {
	System string
	World  time.Time // the beginning of its laboratory: kills with the same one share it
	At     time.Time
	From   string
	To     string  `json:",omitempty"` // duoflow's new active host
	Epoch  uint64  `json:",omitempty"` // duoflow's new one
	Load   float64 // of the machine, one minute
	Missed int     `json:",omitempty"` // native kills before this one that left nothing unsent
	// Look is when the native survivor was due to look for orphans, in seconds.
	Look float64 `json:",omitempty"`
	// JobRow is when the new scheduler's row in table job began; natively the other one has had its row all the time.
	JobRow *takeover.Span `json:",omitempty"`
	// First is when another scheduler queued a task.
	First takeover.Span
	// Left are tasks that the dead scheduler had queued and that were not over, Unsent those of them that it had not sent.
	Left, Unsent int
	// Adopted is when the last of Left was over or another scheduler's, Again when the last of Unsent was queued again.
	Adopted, Again *takeover.Span `json:",omitempty"`
	// Phases are of duoflow's own account.
	Phases []takeover.Phase `json:",omitempty"`
	// Tasks of the runs triggered for this kill, Twice and Never of them that began twice, and not at all within the limit;
	// Failed are runs.
	Tasks, Twice, Never, Failed int
	// Rows are commits of the schedulers since the beginning of the world, Stale those of an old epoch after a newer one's
	// first; natively there are no epochs.
	Rows, Stale int
	Took        float64 // seconds that all this took
	Note        string  `json:",omitempty"` // why duoflow gave no account of itself

	prefix string
}

// killer carries out the kills.
type killer struct {
	options
	*record
	turn chan struct{} // held by the laboratory in which there is work; the others wait for timers
}

// playAirflow makes the kills that are missing. A laboratory that cannot go on is given up, written down, and followed by
// another one, up to a limit.
func playAirflow(ctx context.Context, o options, r *record) error {
	k := &killer{options: o, record: r, turn: make(chan struct{}, 1)}
	for _, system := range airflowSystems {
		for failed := 0; ; failed++ {
			err := k.kill(ctx, system)
			if err == nil {
				break
			}
			if ctx.Err() != nil || failed == tries {
				return fmt.Errorf("%s: %w", system, err)
			}
			if err := r.addVoid(Void{Fault: "airflow", System: system, Why: err.Error()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// kill makes the missing kills of a system.
func (k *killer) kill(ctx context.Context, system string) error {
	have := k.count(airflowKey(system))
	missing := k.want(airflowKey(system)) - have
	if missing <= 0 {
		return nil
	}
	labs := 1
	if system == native {
		labs = min(k.labs, missing)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range labs {
		var numbers []int
		for n := i; n < missing; n += labs {
			numbers = append(numbers, have+n)
		}
		group.Go(func() error { return k.world(ctx, system, numbers) })
	}
	return group.Wait()
}

// theatre is one laboratory with a way to have a scheduler run.
type theatre struct {
	*killer
	system  string
	began   time.Time
	world   *takeover.World
	side    takeover.Side
	managed *takeover.Managed // nil: native
	kills   []*Kill
}

// world makes kills, which have numbers among those of the whole benchmark, in one laboratory.
func (k *killer) world(ctx context.Context, system string, numbers []int) (err error) {
	t := &theatre{killer: k, system: system, began: time.Now()}
	if err := k.enter(ctx); err != nil {
		return err
	}
	k.say("%s: setting up hosts, Postgres, RabbitMQ and Airflow", system)
	err = t.setUp(ctx)
	k.leave()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.world.Close()) }()
	for _, n := range numbers {
		if err := t.hit(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (k *killer) enter(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *killer) leave() { <-k.turn }

func (t *theatre) setUp(ctx context.Context) error {
	places := hosts
	if t.system == native {
		places = hosts[:2]
	}
	var err error
	t.world, err = takeover.New(ctx, takeover.Options{Hosts: places, Chains: perRun, Length: 1, Concurrency: 8})
	if err != nil {
		return err
	}
	if t.system == native {
		t.side = takeover.NewNative(t.world, places...)
	} else {
		t.managed, err = takeover.NewManaged(ctx, t.world, t.system == warm, nil)
		t.side = t.managed
	}
	if err == nil {
		_, err = t.side.Ready(ctx)
	}
	if err == nil {
		err = t.describe(ctx)
	}
	if err != nil {
		return errors.Join(err, t.world.Close())
	}
	return nil
}

func (t *theatre) describe(ctx context.Context) error {
	versions, err := t.world.Versions(ctx)
	if err != nil {
		return err
	}
	t.setVersions(versions, t.cap)
	return nil
}

// hit makes one kill; a native one again when it left nothing unsent, since that is what is asked about there.
func (t *theatre) hit(ctx context.Context, number int) error {
	for missed := 0; missed <= misses; missed++ {
		began := time.Now()
		kill := &Kill{System: t.system, World: t.began, Missed: missed, prefix: fmt.Sprintf("kill-%d-%d-", number, missed)}
		if err := t.perform(ctx, kill, number); err != nil {
			return err
		}
		kill.Took = time.Since(began).Seconds()
		if t.managed == nil && kill.Unsent == 0 {
			t.say("%s: missed: the victim left %d tasks and had sent all of them", t.system, kill.Left)
			continue
		}
		t.kills = append(t.kills, kill)
		if err := t.recount(ctx); err != nil {
			return err
		}
		return t.addKill(kill)
	}
	return fmt.Errorf("%d kills in a row left nothing unsent", misses+1)
}

// perform works, kills, and watches what comes of it. Only one laboratory works at a time.
func (t *theatre) perform(ctx context.Context, kill *Kill, number int) error {
	if err := t.awaitLook(ctx, number); err != nil {
		return err
	}
	if err := t.enter(ctx); err != nil {
		return err
	}
	victim, dead, err := t.strike(ctx, kill)
	t.leave()
	if err != nil {
		return err
	}
	limit := overWithin
	if t.managed == nil {
		limit = t.cap
	}
	if err := t.await(ctx, kill, victim, dead, limit); err != nil {
		return err
	}
	if t.managed == nil {
		return nil
	}
	if err := t.account(ctx, kill, victim); err != nil {
		if ctx.Err() != nil {
			return err
		}
		kill.Note = err.Error()
	}
	return nil
}

// awaitLook waits for the time of a native kill within the interval at which the survivor looks for orphans. It is late
// when there has been a kill before, and then it does not wait for the next interval.
func (t *theatre) awaitLook(ctx context.Context, number int) error {
	victim, err := t.side.Ready(ctx)
	if err != nil || victim.Other.IsZero() {
		return err
	}
	return lab.Pause(ctx, untilPhase(time.Since(victim.Other), number))
}

// untilPhase is how long the kill with a number has to wait when the survivor is of some age.
func untilPhase(age time.Duration, number int) time.Duration {
	want := (firstLook + time.Duration(number)*lookStep) % orphanInterval
	wait := (want - age%orphanInterval + orphanInterval) % orphanInterval
	if wait > orphanInterval-lookStep {
		return 0 // a little late
	}
	return wait
}

// strike kills the victim's host while work goes on, and returns when another scheduler has queued a task.
func (t *theatre) strike(ctx context.Context, kill *Kill) (victim takeover.Target, dead time.Time, err error) {
	if victim, err = t.side.Ready(ctx); err != nil {
		return victim, dead, err
	}
	stop := t.world.Work(ctx, runEvery, kill.prefix, func(err error) { t.say("%s: trigger a run: %v", t.system, err) })
	defer stop()
	aim, cancel := context.WithTimeout(ctx, aimWithin)
	defer cancel()
	if err := t.warmUp(aim, kill); err != nil {
		return victim, dead, err
	}
	kill.From, kill.Load = victim.Host.Name, load()
	blow, err := takeover.KillQueuer(aim, ctx, t.world, victim)
	if err != nil {
		return victim, dead, err
	}
	kill.At, dead = blow.At, blow.At.Add(blow.Took)
	if !victim.Other.IsZero() {
		kill.Look = (orphanInterval - blow.At.Sub(victim.Other)%orphanInterval).Seconds()
	}
	if err := t.world.Airflow.Trigger(ctx, kill.prefix+"next"); err != nil {
		return victim, dead, fmt.Errorf("trigger a run: %w", err)
	}
	if err := t.side.Struck(ctx); err != nil {
		return victim, dead, err
	}
	return victim, dead, t.first(ctx, kill, victim)
}

// warmUp lets work go on until a first task has begun, which takes longer than the later ones, and some chance more.
func (t *theatre) warmUp(ctx context.Context, kill *Kill) error {
	for {
		count, err := t.world.Count(ctx, kill.prefix, perRun)
		if err != nil {
			return err
		}
		if count.Tasks > count.Never {
			return lab.Pause(ctx, runEvery+rand.N(runEvery))
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the first task: %w", err)
		}
	}
}

func (t *theatre) first(ctx context.Context, kill *Kill, victim takeover.Target) error {
	waiting, cancel := context.WithTimeout(ctx, overWithin)
	defer cancel()
	queued, row, err := t.world.FirstQueued(waiting, victim.Job, kill.At)
	switch {
	case err == nil:
		kill.First = takeover.Took(queued.Sub(kill.At))
		if t.managed != nil {
			span := takeover.Took(row.Sub(kill.At))
			kill.JobRow = &span
		}
	case ctx.Err() == nil && waiting.Err() != nil:
		kill.First = takeover.LongerThan(overWithin)
	default:
		return err
	}
	return nil
}

// await waits, up to the limit after the kill, until everything that the dead scheduler left is over or queued again and
// all runs have ended.
func (t *theatre) await(ctx context.Context, kill *Kill, victim takeover.Target, dead time.Time, limit time.Duration) error {
	next := kill.At.Add(30 * time.Second)
	for {
		since := time.Since(kill.At)
		tasks, err := t.world.Unfinished(ctx, victim.Job, kill.At, dead)
		if err != nil {
			return err
		}
		count, err := t.world.Count(ctx, kill.prefix, perRun)
		if err != nil {
			return err
		}
		open := kill.left(tasks, limit)
		if open == 0 && count.Open == 0 || since > limit {
			return nil
		}
		if time.Now().After(next) {
			next = next.Add(time.Minute)
			t.say("%s: %.0f s after the kill %d of the dead scheduler's %d tasks wait", t.system, since.Seconds(), open, len(tasks))
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// left fills in what the dead scheduler's tasks say, and counts those that still wait: to be over or another's, and if
// unsent to be queued again.
func (k *Kill) left(tasks []takeover.Task, limit time.Duration) (open int) {
	k.Left, k.Unsent, k.Adopted, k.Again = len(tasks), 0, nil, nil
	later := func(span *takeover.Span, at time.Time) *takeover.Span {
		s := takeover.LongerThan(limit)
		if !at.IsZero() {
			s = takeover.Took(at.Sub(k.At))
		}
		if span == nil || s.Over && !span.Over || s.Over == span.Over && s.Seconds > span.Seconds {
			return &s
		}
		return span
	}
	for _, task := range tasks {
		waits := task.Gone.IsZero()
		k.Adopted = later(k.Adopted, task.Gone)
		if !task.Sent {
			k.Unsent++
			k.Again = later(k.Again, task.Again)
			waits = waits || task.Again.IsZero()
		}
		open += count(waits)
	}
	return open
}

// account asks duoflow for its own.
func (t *theatre) account(ctx context.Context, kill *Kill, victim takeover.Target) error {
	ctx, cancel := context.WithTimeout(ctx, overWithin)
	defer cancel()
	active, err := t.managed.Cluster.AwaitActive(ctx, takeover.Job, victim.Epoch)
	if err != nil {
		return err
	}
	kill.To, kill.Epoch = active.Node, active.Epoch
	kill.Phases, err = t.managed.Phases(ctx, active.Epoch)
	return err
}

// recount looks again at all kills of this laboratory: a task can run a second time long after its kill.
func (t *theatre) recount(ctx context.Context) error {
	order, err := t.world.CommitOrder(ctx)
	if err != nil {
		return err
	}
	for _, kill := range t.kills {
		c, err := t.world.Count(ctx, kill.prefix, perRun)
		if err != nil {
			return err
		}
		t.change(func() { kill.Tasks, kill.Twice, kill.Never, kill.Failed = c.Tasks, c.Twice, c.Never, c.Failed })
	}
	last := t.kills[len(t.kills)-1]
	last.Rows, last.Stale = order.Rows, order.Stale+order.Shared
	return nil
}

// String is the line of progress.
func (k *Kill) String() string {
	text := fmt.Sprintf("%s, first task queued %s", k.From, k.First)
	if k.JobRow != nil {
		text = fmt.Sprintf("%s -> %s, job row %s, first task queued %s", k.From, k.To, k.JobRow, k.First)
	}
	if k.Adopted != nil {
		text += fmt.Sprintf("; %d tasks left, adopted %s", k.Left, k.Adopted)
	}
	if k.Again != nil {
		text += fmt.Sprintf("; %d unsent, queued again %s", k.Unsent, k.Again)
	}
	if k.Look > 0 {
		text += fmt.Sprintf(", look due after %.0f s", math.Round(k.Look))
	}
	return text + fmt.Sprintf("; twice %d, never %d, stale %d", k.Twice, k.Never, k.Stale)
}
