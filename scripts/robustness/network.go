package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/relay"
)

// networkTroubles are laid on links between hosts by the relay; the metastore is the hub. What only touches a node without the job
// must not move it where the raft leader still hears the job's node, or hears nobody. A leader on whose own links packets
// are late hears that node late, and may think it lost: there a move is no mistake.
var networkTroubles = []trouble{
	{name: "isolate", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: cut(withAll)},
	{name: "isolate-any", where: onAny, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, elsewhere: mustNot, begin: cut(withAll)},
	{name: "cut-peers", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: cut(withPeers)},
	{name: "cut-peers-any", where: onAny, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, elsewhere: mustNot, begin: cut(withPeers)},
	{name: "mute", where: onAny, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, elsewhere: mustNot, begin: cut(toPeers)},
	{name: "deaf", where: onAny, moves: may, hardly: hardlyNoticed, elsewhere: mustNot, begin: cut(fromPeers)},
	{name: "cut-one-way", where: onAny, moves: may, elsewhere: may, begin: cutOneWay},
	{name: "ring", where: onAny, moves: may, elsewhere: may, begin: cut(againstRing)},
	{name: "bridge", where: onAny, moves: mustNot, elsewhere: may, begin: cut(betweenOthers)},
	{name: "all-apart", where: onActive, moves: may, begin: cut(amongPeers)},
	{name: "flap", where: onAny, moves: may, elsewhere: may, begin: flap},

	{name: "cut-metastore", where: onActive, moves: must, surely: 2 * surelyNoticed, hardly: hardlyNoticed, begin: cut(withMetastore)},
	{name: "cut-metastore-standby", where: onStandby, moves: mustNot, begin: cut(withMetastore)},
	{name: "mute-metastore", where: onActive, moves: must, surely: 2 * surelyNoticed, hardly: hardlyNoticed, begin: cut(toMetastore)},
	{name: "deaf-metastore", where: onActive, moves: must, surely: 2 * surelyNoticed, hardly: hardlyNoticed, begin: cut(fromMetastore)},
	{name: "cut-metastore-all", where: onMetastore, moves: may, begin: cut(allMetastore)},
	{name: "slow-metastore", where: onActive, moves: may, begin: laid(late, withMetastore)},
	{name: "slow-metastore-standby", where: onStandby, moves: mustNot, begin: laid(late, withMetastore)},

	{name: "loss-5", where: onAny, moves: may, elsewhere: may, begin: laid(lossy5, withAll)},
	{name: "loss-20", where: onAny, moves: may, elsewhere: may, begin: laid(lossy20, withAll)},
	{name: "loss-50", where: onAny, moves: may, elsewhere: may, begin: laid(lossy50, withAll)},
	{name: "loss-all", where: onMetastore, moves: may, begin: laid(lossy20, everywhere)},
	{name: "delay", where: onAny, moves: may, elsewhere: may, begin: laid(late, withAll)},
	{name: "delay-all", where: onMetastore, moves: may, begin: laid(late, everywhere)},
	{name: "delay-20ms-all", where: onMetastore, moves: mustNot, begin: laid(aLittleLate, everywhere)},
	{name: "jitter", where: onAny, moves: may, elsewhere: may, begin: laid(outOfOrder, withAll)},
	{name: "jitter-all", where: onMetastore, moves: may, begin: laid(outOfOrder, everywhere)},
	{name: "duplicate-all", where: onMetastore, moves: mustNot, begin: laid(twice, everywhere)},
}

// link is one direction between two hosts, lab.Hub among them.
type link struct{ from, to string }

func both(a, b string) []link { return []link{{a, b}, {b, a}} }

func toPeers(n string) (out []link) {
	for _, other := range othersThan(n) {
		out = append(out, link{n, other})
	}
	return out
}

func fromPeers(n string) (out []link) {
	for _, other := range othersThan(n) {
		out = append(out, link{other, n})
	}
	return out
}

func withPeers(n string) []link     { return append(toPeers(n), fromPeers(n)...) }
func withMetastore(n string) []link { return both(n, lab.Hub) }
func toMetastore(n string) []link   { return []link{{n, lab.Hub}} }
func fromMetastore(n string) []link { return []link{{lab.Hub, n}} }
func withAll(n string) []link       { return append(withPeers(n), withMetastore(n)...) }

// allMetastore is the way to the metastore from both nodes that may have the job.
func allMetastore(string) []link { return append(withMetastore("a"), withMetastore("b")...) }

// betweenOthers leaves n as the only one whom both others see.
func betweenOthers(n string) []link {
	others := othersThan(n)
	return both(others[0], others[1])
}

// againstRing leaves each node hearing one neighbour.
func againstRing(string) []link { return []link{{"b", "a"}, {witness, "b"}, {"a", witness}} }

func amongPeers(string) []link {
	return append(both("a", "b"), append(both("b", witness), both(witness, "a")...)...)
}

func everywhere(string) []link {
	return append(amongPeers(""), append(allMetastore(""), withMetastore(witness)...)...)
}

// drawn is a rule by the dice.
type drawn func(dice *rand.Rand) relay.Rule

func nothing(*rand.Rand) relay.Rule      { return relay.Rule{Loss: 1} }
func lossy5(dice *rand.Rand) relay.Rule  { return relay.Rule{Loss: 0.05, Seed: dice.Uint64()} }
func lossy20(dice *rand.Rand) relay.Rule { return relay.Rule{Loss: 0.2, Seed: dice.Uint64()} }
func lossy50(dice *rand.Rand) relay.Rule { return relay.Rule{Loss: 0.5, Seed: dice.Uint64()} }
func aLittleLate(*rand.Rand) relay.Rule  { return relay.Rule{Delay: 20 * time.Millisecond} }
func twice(dice *rand.Rand) relay.Rule   { return relay.Rule{Duplicate: 0.5, Seed: dice.Uint64()} }
func late(dice *rand.Rand) relay.Rule {
	return relay.Rule{Delay: between(dice, 50*time.Millisecond, time.Second)}
}

func outOfOrder(dice *rand.Rand) relay.Rule {
	most := between(dice, 5*time.Millisecond, 200*time.Millisecond)
	return relay.Rule{Delay: most, Jitter: most, Ahead: 0.05, Seed: dice.Uint64()}
}

// cut lets no packet pass on the links.
func cut(where func(n string) []link) beginning { return laid(nothing, where) }

// laid gives each of the links the same kind of rule, with a seed of its own.
func laid(what drawn, where func(n string) []link) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		rules := map[link]relay.Rule{}
		rule := what(dice)
		for _, l := range where(n.Name) {
			rules[l] = rule
			rule.Seed++
		}
		return s.links.lay(ctx, rules)
	}
}

func cutOneWay(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	others := othersThan(n.Name)
	return s.links.lay(ctx, map[link]relay.Rule{{n.Name, others[dice.IntN(len(others))]}: {Loss: 1}})
}

// flap cuts a node off and lets it come back, again and again.
func flap(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	dice = rand.New(rand.NewPCG(dice.Uint64(), 0)) // #nosec: this is chance, not secrecy
	var flapping sync.WaitGroup
	var err error
	flapping.Go(func() {
		for ctx.Err() == nil && err == nil {
			err = s.flapOnce(ctx, n, dice)
		}
	})
	return func(context.Context) error {
		cancel()
		flapping.Wait()
		return err
	}, nil
}

func (s *stage) flapOnce(ctx context.Context, n *lab.Node, dice *rand.Rand) error {
	lift, err := cut(withAll)(ctx, s, n, dice)
	down, up := between(dice, 20*time.Millisecond, 600*time.Millisecond), between(dice, 20*time.Millisecond, 600*time.Millisecond)
	if err == nil {
		_ = lab.Pause(ctx, down) // the end of ctx is the end of flapping
	}
	if err = errors.Join(err, lift(context.WithoutCancel(ctx))); ctx.Err() != nil {
		return lift(context.WithoutCancel(ctx))
	}
	_ = lab.Pause(ctx, up)
	return err
}

// prepareLinks makes troubles of links possible.
func prepareLinks(_ context.Context, s *stage) (func() error, error) {
	s.links = &links{disturb: s.Lab.Net.Disturb, laid: map[int]map[link]relay.Rule{}}
	return nil, nil
}

// links are the rules of all troubles under way. Two of them may be on one link: then the worse of each counts, and the end of one leaves
// the other's.
type links struct {
	disturb func(ctx context.Context, from, to string, rule relay.Rule) error

	mu   sync.Mutex
	next int
	laid map[int]map[link]relay.Rule
}

// lay adds rules. lift takes them away, once or more often; it is never nil.
func (l *links) lay(ctx context.Context, rules map[link]relay.Rule) (lift func(context.Context) error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	number := l.next
	l.laid[number] = rules
	lift = func(ctx context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.laid, number)
		return l.apply(ctx, rules)
	}
	return lift, l.apply(ctx, rules)
}

// apply has the network do on some links what all that is laid there comes to.
func (l *links) apply(ctx context.Context, changed map[link]relay.Rule) error {
	var errs []error
	for at := range changed {
		var worst relay.Rule
		for _, rules := range l.laid {
			worst = worse(worst, rules[at])
		}
		errs = append(errs, l.disturb(ctx, at.from, at.to, worst))
	}
	return errors.Join(errs...)
}

// worse is a rule with the larger of each figure.
func worse(a, b relay.Rule) relay.Rule {
	return relay.Rule{
		Loss: max(a.Loss, b.Loss), Duplicate: max(a.Duplicate, b.Duplicate), Delay: max(a.Delay, b.Delay),
		Jitter: max(a.Jitter, b.Jitter), Ahead: max(a.Ahead, b.Ahead), Seed: max(a.Seed, b.Seed),
	}
}
