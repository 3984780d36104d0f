package main

import (
	"context"
	"math/rand/v2"

	"github.com/duoflow/duoflow/scripts/lab"
)

// plannedTroubles are what operators do.
var plannedTroubles = []trouble{
	{name: "switchover", where: onActive, moves: may, instant: true, begin: switchover},
	{name: "switchover-to", where: onActive, moves: may, instant: true, begin: switchoverTo},
}

// switchover asks for it. A refusal is an answer too: beside another trouble there may be nobody to switch over to.
func switchover(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	_, _, err := s.Cluster.Ctl(ctx, "switchover", "--yes", "--timeout", "5s")
	return nil, err
}

func switchoverTo(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	_, _, err := s.Cluster.Ctl(ctx, "switchover", "--yes", "--to", standbyOf(n.Name), "--timeout", "5s")
	return nil, err
}
