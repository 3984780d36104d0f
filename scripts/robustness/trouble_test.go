package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNamesOfTroublesAreTheirOwn(t *testing.T) {
	var names []string
	for _, trouble := range allTroubles() {
		if trouble.begin == nil || strings.ContainsAny(trouble.name, ",+ ") {
			t.Errorf("trouble %+v", trouble)
		}
		names = append(names, trouble.name)
	}
	slices.Sort(names)
	if all := len(names); len(slices.Compact(names)) != all || all == 0 {
		t.Errorf("a name is there twice: %v", names)
	}
	if some, err := chosenTroubles("kill-host,switchover"); err != nil || len(some) != 2 {
		t.Errorf("chosen: %v, %v", some, err)
	}
	if _, err := chosenTroubles("earthquake"); err == nil {
		t.Error("an unknown trouble is accepted")
	}
}

func TestHoldsAreMostlyShort(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 1))
	var all []time.Duration
	for range 10000 {
		all = append(all, trouble{}.hold(dice))
	}
	slices.Sort(all)
	if first, last := all[0], all[len(all)-1]; first < shortestHold || first > 2*shortestHold || last > longestHold || last < longestHold/2 {
		t.Errorf("from %s to %s", first, last)
	}
	if median := all[len(all)/2]; median < 100*time.Millisecond || median > 400*time.Millisecond {
		t.Errorf("median %s", median)
	}
	if d := (trouble{instant: true}).hold(dice); d != 0 {
		t.Errorf("an instant one is held for %s", d)
	}
}

func TestExpectations(t *testing.T) {
	freeze := trouble{where: onAny, moves: must, elsewhere: mustNot, surely: time.Second, hardly: time.Millisecond}
	for _, test := range []struct {
		active bool
		held   time.Duration
		want   expectation
	}{{true, time.Minute, must}, {true, time.Second / 2, may}, {true, 0, mustNot}, {false, time.Minute, mustNot}} {
		if got := freeze.expects(test.active, test.held); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// TestEveryTroubleHasItsTurn: none comes again before all others have come, and the seed alone decides.
func TestEveryTroubleHasItsTurn(t *testing.T) {
	deck := allTroubles()
	deal := func(seed uint64) []string {
		p := player{seed: seed, deck: deck}
		var names []string
		for range 2 * len(deck) {
			names = append(names, p.draw().name)
		}
		return names
	}
	first := deal(7)
	if !slices.Equal(first, deal(7)) {
		t.Error("the same seed deals otherwise")
	}
	if slices.Equal(first, deal(8)) {
		t.Error("another seed deals the same")
	}
	once := slices.Clone(first[:len(deck)])
	slices.Sort(once)
	if len(slices.Compact(once)) != len(deck) {
		t.Errorf("the first round lacks some: %v", once)
	}
}

func TestPairsAreNotOfTheMetastoreAlone(t *testing.T) {
	p := player{seed: 3, deck: allTroubles(), pairs: true}
	dice := rand.New(rand.NewPCG(3, 3))
	pairs := 0
	for range 1000 {
		plan := p.plan(dice)
		if len(plan) == 1 {
			continue
		}
		pairs++
		if plan[0].alone || plan[1].alone || plan[0].where == onMetastore && plan[1].where == onMetastore || plan[0].name == plan[1].name {
			t.Fatalf("a pair of %s and %s", plan[0].name, plan[1].name)
		}
	}
	if pairs < 100 {
		t.Errorf("%d pairs of 1000", pairs)
	}
}

func TestArguments(t *testing.T) {
	var errs strings.Builder
	o := &options{}
	if _, err := o.program().Parse([]string{"-seed", "7", "-only", "kill-host,power-off", "-sabotage", "stale"}, &errs); err != nil || o.seed != 7 {
		t.Fatalf("options %+v, %v", o, err)
	}
	o = &options{}
	if _, err := o.program().Parse(nil, &errs); err != nil || o.seed == 0 {
		t.Errorf("no seed was drawn: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"-only", "earthquake"}, {"-sabotage", "x"}, {"extra"}, {"check"}} {
		if code := run(t.Context(), args, &errs, &errs); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
}
