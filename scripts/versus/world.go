package main

import (
	"context"
	"errors"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// What is done all the time while a case goes on: a run of two independent tasks every 1.5 s. It is little enough that
// nothing piles up on two cores.
const (
	chains   = 2
	length   = 1
	perRun   = chains * length
	runEvery = 1500 * time.Millisecond
)

// world is a laboratory for one side.
type world struct {
	*progress
	*takeover.World
}

func newWorld(ctx context.Context, p *progress, hosts ...string) (*world, error) {
	w, err := takeover.New(ctx, takeover.Options{Hosts: hosts, Chains: chains, Length: length, Concurrency: 8})
	return &world{p, w}, err
}

// work triggers runs, whose ids begin with prefix, until the returned function is called.
func (w *world) work(ctx context.Context, who, prefix string) (stop func()) {
	return w.Work(ctx, runEvery, prefix, func(err error) { w.say(who, "trigger a run: %v", err) })
}

// sideOf is the way to have a scheduler run that a side stands for, and the hosts it needs.
func sideOf(ctx context.Context, name string, p *progress) (*world, takeover.Side, error) {
	hosts := map[string][]string{pair: {"a", "b"}, restart: {"a"}, duoflow: {"a", "b", "t"}}[name]
	w, err := newWorld(ctx, p, hosts...)
	if err != nil {
		return nil, nil, err
	}
	if name != duoflow {
		return w, takeover.NewNative(w.World, hosts...), nil
	}
	managed, err := takeover.NewManaged(ctx, w.World, true, nil)
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return w, managed, nil
}
