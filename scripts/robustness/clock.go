package main

import (
	"context"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// clockTroubles are what one host's clock can do here alone. The clock since boot, which all of the product's decisions are made
// by, can be another one for each start of a daemon (time_namespaces(7)). It cannot step while a daemon runs, and the wall clock
// is the whole machine's: neither is shown.
var clockTroubles = []trouble{
	{name: "clock-of-another-boot", where: onAny, moves: must, elsewhere: mustNot, longest: time.Second, begin: anotherBoot},
}

// farApart is the longest that a host is taken to have been up for.
const farApart = 10 * 365 * 24 * time.Hour

// anotherBoot kills a daemon; the next one finds a machine that has been up for years longer, or not.
func anotherBoot(_ context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	s.excuse(n)
	n.Wrap = nil
	if dice.IntN(4) > 0 {
		up := strconv.Itoa(int(between(dice, time.Hour, farApart).Seconds()))
		n.Wrap = []string{"unshare", "--time", "--boottime", up, "--monotonic", up}
	}
	return s.reviver(n), n.Process().Signal(syscall.SIGKILL)
}
