package main

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/relay"
)

// TestTroublesShareLinks: of two rules on a link the worse counts, and the end of one leaves the other.
func TestTroublesShareLinks(t *testing.T) {
	now := map[link]relay.Rule{}
	l := &links{laid: map[int]map[link]relay.Rule{}, disturb: func(_ context.Context, from, to string, rule relay.Rule) error {
		now[link{from, to}] = rule
		return nil
	}}
	lay := func(rules map[link]relay.Rule) func(context.Context) error {
		lift, err := l.lay(t.Context(), rules)
		failed(t, err)
		return lift
	}
	want := func(rules map[link]relay.Rule) {
		t.Helper()
		if !maps.Equal(now, rules) {
			t.Errorf("the links are %v, want %v", now, rules)
		}
	}
	ab, ba := link{"a", "b"}, link{"b", "a"}
	first := lay(map[link]relay.Rule{ab: {Loss: 1}, ba: {Loss: 1}})
	second := lay(map[link]relay.Rule{ab: {Loss: 0.2, Delay: time.Second}})
	want(map[link]relay.Rule{ab: {Loss: 1, Delay: time.Second}, ba: {Loss: 1}})
	failed(t, first(t.Context()))
	want(map[link]relay.Rule{ab: {Loss: 0.2, Delay: time.Second}, ba: {}})
	failed(t, first(t.Context())) // twice is once
	want(map[link]relay.Rule{ab: {Loss: 0.2, Delay: time.Second}, ba: {}})
	failed(t, second(t.Context()))
	want(map[link]relay.Rule{ab: {}, ba: {}})

	l.disturb = func(context.Context, string, string, relay.Rule) error { return lab.ErrNoRelay }
	if lift, err := l.lay(t.Context(), map[link]relay.Rule{ab: {Loss: 1}}); !errors.Is(err, lab.ErrNoRelay) || lift == nil {
		t.Errorf("a network that cannot be disturbed: %v", err)
	}
}

// TestLinksOfTroubles: each shape has as many directions as it has to, between hosts that there are, and none twice.
func TestLinksOfTroubles(t *testing.T) {
	for name, tt := range map[string]struct {
		links []link
		want  int
	}{
		"all of a": {withAll("a"), 6}, "peers of t": {withPeers(witness), 4}, "to peers": {toPeers("b"), 2}, "from peers": {fromPeers("b"), 2},
		"metastore": {withMetastore("a"), 2}, "both metastore": {allMetastore(""), 4}, "others": {betweenOthers("a"), 2},
		"ring": {againstRing(""), 3}, "peers": {amongPeers(""), 6}, "everywhere": {everywhere(""), 12},
	} {
		seen := map[link]bool{}
		for _, l := range tt.links {
			if l.from == l.to || seen[l] {
				t.Errorf("%s: %v is no link, or there twice", name, l)
			}
			seen[l] = true
		}
		if len(seen) != tt.want {
			t.Errorf("%s: %v, want %d directions", name, tt.links, tt.want)
		}
	}
	if seen := betweenOthers("a"); seen[0] != (link{"b", witness}) {
		t.Errorf("between the others of a: %v", seen)
	}
	dice := rand.New(rand.NewPCG(1, 1))
	for _, what := range []drawn{nothing, lossy5, lossy20, lossy50, late, aLittleLate, outOfOrder, twice} {
		for range 100 {
			if rule := what(dice); rule.Validate() != nil || rule == (relay.Rule{}) {
				t.Fatalf("rule %+v: %v", rule, rule.Validate())
			}
		}
	}
}
