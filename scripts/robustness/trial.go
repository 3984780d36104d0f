package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/figures"
	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	// recoverWithin is how long after the end of a trouble an instance has to be active and writing and every node well. It is
	// a limit for being stuck, not a measurement.
	recoverWithin = 90 * time.Second
	// settleFor is how long after the end of a trouble the daemons have to notice what it was.
	settleFor = 500 * time.Millisecond
	// pairEvery: one trial of so many has two troubles.
	pairEvery = 4
)

// player makes trials.
type player struct {
	*stage
	seed uint64
	deck []trouble
	hand []trouble // what is left of the shuffled deck
	deal uint64    // how often it was shuffled
	last time.Time // the end of the trial before

	pairs bool
	marks map[string]int64 // lengths of logs before a trial
}

// draw deals the next trouble. Every one comes once before any comes again.
func (p *player) draw() trouble {
	if len(p.hand) == 0 {
		p.hand = slices.Clone(p.deck)
		dice := rand.New(rand.NewPCG(p.seed, p.deal|1<<63)) // #nosec: this is chance, not secrecy
		dice.Shuffle(len(p.hand), func(i, j int) { p.hand[i], p.hand[j] = p.hand[j], p.hand[i] })
		p.deal++
	}
	next := p.hand[0]
	p.hand = p.hand[1:]
	return next
}

// planned is a trouble with the time that was drawn for it.
type planned struct {
	trouble
	after, hold time.Duration
}

// plan draws one trouble, or two that overlap.
func (p *player) plan(dice *rand.Rand) []planned {
	first := planned{trouble: p.draw()}
	first.hold = first.trouble.hold(dice)
	pair := dice.IntN(pairEvery) == 0 && p.pairs
	if !pair || first.alone || len(p.deck) < 2 {
		return []planned{first}
	}
	second := planned{trouble: p.draw()}
	if second.alone || second.name == first.name || first.where == onMetastore && second.where == onMetastore {
		p.hand = append(p.hand, second.trouble)
		return []planned{first}
	}
	second.hold = second.trouble.hold(dice)
	if first.hold > 0 {
		second.after = time.Duration(dice.Int64N(int64(first.hold)))
	}
	return []planned{first, second}
}

// trial makes one. The error says that it could not be carried out; that the cluster did not recover is the trial's Stuck.
func (p *player) trial(ctx context.Context, number int) (Trial, error) {
	dice := rand.New(rand.NewPCG(p.seed, uint64(number))) // #nosec: this is chance, not secrecy
	t := Trial{Number: number, Load: load()}
	began := time.Now()
	plan := p.plan(dice)
	active, err := p.await(ctx, dice.IntN(4) > 0)
	if err != nil {
		return p.stuck(ctx, t, plan, err)
	}
	// Let it run for a while, so that troubles do not only ever hit a fresh start.
	if err := lab.Pause(ctx, between(dice, 0, time.Second)); err != nil {
		return t, err
	}
	if !p.last.IsZero() {
		t.Since = time.Since(p.last).Seconds()
	}
	t.Node, t.Epoch = active.Node, active.Epoch
	refused := p.thieves.refused.Load()
	from, err := p.Clock(ctx)
	if err != nil {
		return t, err
	}
	t.Harms, err = p.harm(ctx, plan, active.Node, dice)
	if unserved := (*unservedError)(nil); errors.As(err, &unserved) {
		return p.stuck(ctx, t, nil, err)
	}
	if err != nil {
		return t, err
	}
	after, err := p.recover(ctx, t)
	if err != nil {
		return p.stuck(ctx, t, nil, err)
	}
	t.AfterNode, t.After, p.last = after.Node, after.Epoch, time.Now()
	t.Late = p.pulse.read().Seconds()
	t.Ended, p.ended = p.ended, nil
	t.Refused = p.thieves.refused.Load() - refused
	t.Took = time.Since(began).Seconds()
	return t, p.measure(ctx, &t, from)
}

func (p *player) stuck(ctx context.Context, t Trial, plan []planned, err error) (Trial, error) {
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	for _, h := range plan {
		t.Harms = append(t.Harms, Harm{Trouble: h.name, Moves: may.String()})
	}
	t.Stuck = err.Error()
	t.Ended, p.ended = p.ended, nil
	return t, nil
}

// harm carries out the plan: what is to begin and what is to be mended comes when it is due, one after the other.
func (p *player) harm(ctx context.Context, plan []planned, active string, dice *rand.Rand) (harms []Harm, err error) {
	type step struct {
		due   time.Duration
		mends bool
		do    func(ctx context.Context) error
	}
	began := time.Now()
	var steps []step
	harms = make([]Harm, len(plan))
	for i, h := range plan {
		name := h.target(active, dice)
		harms[i] = Harm{Trouble: h.name, Node: name}
		steps = append(steps, step{h.after, false, func(ctx context.Context) error {
			begun := time.Now()
			harms[i].Begun = begun.Sub(began).Seconds()
			mend, err := h.begin(ctx, p.stage, p.Cluster.Nodes[name], dice)
			mended := func(ctx context.Context) error {
				held := time.Since(begun)
				harms[i].Held = held.Seconds()
				harms[i].Moves = h.expects(name == active, held).String()
				if mend == nil {
					return nil
				}
				return mend(ctx)
			}
			if errors.Is(err, errMissed) {
				harms[i].Missed, harms[i].Moves = err.Error(), may.String()
				return nil
			}
			steps = append(steps, step{time.Since(began) + h.hold, true, mended})
			if err != nil {
				return fmt.Errorf("%s on %s: %w", h.name, name, err)
			}
			return nil
		}})
	}
	for len(steps) > 0 && err == nil {
		slices.SortStableFunc(steps, func(x, y step) int { return cmp.Compare(x.due, y.due) })
		next := steps[0]
		steps = steps[1:]
		if err = lab.Pause(ctx, next.due-time.Since(began)); err == nil {
			err = next.do(ctx)
		}
	}
	for _, s := range steps { // after an error
		if s.mends {
			err = errors.Join(err, s.do(context.WithoutCancel(ctx)))
		}
	}
	return harms, err
}

// recover waits until the cluster is well again, and until the job has moved where it must.
func (p *player) recover(ctx context.Context, t Trial) (lab.Active, error) {
	if err := lab.Pause(ctx, settleFor); err != nil {
		return lab.Active{}, err
	}
	for limit := time.Now().Add(recoverWithin); ; {
		active, err := p.await(ctx, false)
		if err != nil || active.Epoch > t.Epoch || t.expects() != must {
			return active, err
		}
		if time.Now().After(limit) {
			return active, fmt.Errorf("epoch %d is still active though it has to move", active.Epoch)
		}
	}
}

// measure reads the committed rows of the trial, and from the table the longest time without one of the job.
func (p *player) measure(ctx context.Context, t *Trial, from time.Time) error {
	to, err := p.Clock(ctx)
	if err != nil {
		return err
	}
	err = p.Pool.QueryRow(ctx, `
		SELECT coalesce(max(extract(epoch FROM at - before)), 0) FROM (
		  SELECT at, lag(at) OVER (ORDER BY at) AS before FROM public.probe
		  WHERE pid > 0 AND at BETWEEN $1::timestamptz - interval '200 milliseconds' AND $2) AS steps`,
		from, to).Scan(&t.Gap)
	if err != nil {
		return fmt.Errorf("measure the gap: %w", err)
	}
	commits, err := p.keep(ctx)
	if err != nil {
		return err
	}
	t.Rows += len(commits)
	for _, c := range commits {
		if c.PID > 0 && c.Epoch > t.Epoch && !slices.Contains(t.Served, c.Epoch) {
			t.Served = append(t.Served, c.Epoch)
		}
	}
	if t.Moved() {
		t.Why = p.why(ctx, t.Epoch)
	}
	return nil
}

// keep writes to the folder what was committed since the last time.
func (p *player) keep(ctx context.Context) ([]commitorder.Commit, error) {
	commits, err := p.tail.Next(ctx, p.Pool)
	if err != nil {
		return nil, err
	}
	if err := p.out.writeCommits(commitsName, commits, ""); err != nil {
		return nil, err
	}
	commits, p.kept = append(p.kept, commits...), nil
	return commits, p.tail.Forget(ctx, p.Pool)
}

// load is the machine's load average over one minute; below 0 when it is not known.
func load() float64 {
	value, err := figures.Load()
	if err != nil {
		return -1
	}
	return value
}
