package main

import (
	"context"
	"math/rand/v2"

	"github.com/duoflow/duoflow/scripts/lab"
)

var metastoreTroubles = []trouble{
	{name: "metastore-restart", where: onMetastore, moves: may, instant: true, begin: metastoreRestart},
}

func metastoreRestart(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return nil, s.Store.Restart(ctx)
}
