package main

import (
	"context"
	"math/rand/v2"

	"github.com/duoflow/duoflow/scripts/lab"
)

var networkTroubles = []trouble{
	{name: "isolate", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: isolate},
	{name: "isolate-any", where: onAny, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, elsewhere: mustNot, begin: isolate},
	{name: "cut-peers", where: onActive, moves: must, surely: surelyNoticed, hardly: hardlyNoticed, begin: cutPeers},
	{name: "cut-metastore", where: onActive, moves: must, surely: 2 * surelyNoticed, hardly: hardlyNoticed, begin: cutMetastore},
	{name: "cut-one-way", where: onAny, moves: may, elsewhere: may, begin: cutOneWay},
}

func isolate(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return s.Lab.Net.HealAll, s.Lab.Net.Isolate(ctx, n.Name)
}

func cutPeers(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	for _, other := range othersThan(n.Name) {
		if err := s.Lab.Net.Cut(ctx, n.Name, other); err != nil {
			return s.Lab.Net.HealAll, err
		}
	}
	return s.Lab.Net.HealAll, nil
}

func cutMetastore(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return s.Lab.Net.HealAll, s.Lab.Net.Cut(ctx, n.Name, lab.Hub)
}

func cutOneWay(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	others := othersThan(n.Name)
	return s.Lab.Net.HealAll, s.Lab.Net.CutOneWay(ctx, n.Name, others[dice.IntN(len(others))])
}
