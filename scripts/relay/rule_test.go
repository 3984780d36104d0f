package relay

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		rule Rule
		want string // "" = it is fine
	}{
		"nothing":       {Rule{}, ""},
		"everything":    {Rule{Loss: 1, Duplicate: 1, Ahead: 1, Delay: time.Minute, Jitter: time.Minute, Seed: 7}, ""},
		"too probable":  {Rule{Loss: 1.1}, "Loss is 1.1"},
		"negative":      {Rule{Duplicate: -0.1}, "Duplicate is -0.1"},
		"no number":     {Rule{Ahead: math.NaN()}, "Ahead is NaN"},
		"too long":      {Rule{Delay: time.Hour}, "Delay is 1h0m0s"},
		"negative time": {Rule{Jitter: -1}, "Jitter is -1ns"},
		"two at once":   {Rule{Loss: 2, Delay: -1}, "Delay is -1ns"},
	} {
		err := tt.rule.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if err := (Rule{Loss: 2, Delay: -1}).Validate(); !strings.Contains(err.Error(), "Loss") {
		t.Errorf("%v: only one of two problems is told", err)
	}
}

func TestHarmless(t *testing.T) {
	for rule, want := range map[Rule]bool{
		{}: true, {Seed: 1, Ahead: 1}: true, {Loss: 0.01}: false, {Duplicate: 0.01}: false, {Delay: 1}: false, {Jitter: 1}: false,
	} {
		if got := rule.harmless(); got != want {
			t.Errorf("%+v: harmless %v, want %v", rule, got, want)
		}
	}
}

// fates draws n packets' fates.
func fates(rule Rule, n int) [][]time.Duration {
	c := newCourse(rule)
	var out [][]time.Duration
	for range n {
		out = append(out, c.fate())
	}
	return out
}

func TestFatesComeFromTheSeed(t *testing.T) {
	rule := Rule{Loss: 0.3, Duplicate: 0.3, Delay: time.Second, Jitter: time.Second, Seed: 1}
	first, again := fates(rule, 1000), fates(rule, 1000)
	rule.Seed = 2
	other, differs := fates(rule, 1000), 0
	for i := range first {
		if len(first[i]) != len(again[i]) || (len(first[i]) > 0 && first[i][0] != again[i][0]) {
			t.Fatalf("packet %d: %v, and %v by the same seed", i, first[i], again[i])
		}
		if len(first[i]) != len(other[i]) {
			differs++
		}
	}
	if differs == 0 {
		t.Error("another seed decides the same")
	}
}

func TestFatesAreWhatTheRuleSays(t *testing.T) {
	const n = 20_000
	lost, doubled, ahead := 0, 0, 0
	least, most := time.Hour, time.Duration(0)
	for _, fate := range fates(Rule{Loss: 0.2, Duplicate: 0.1, Ahead: 0.05, Delay: 100, Jitter: 50}, n) {
		switch len(fate) {
		case 0:
			lost++
		case 2:
			doubled++
		}
		for _, wait := range fate {
			if wait == 0 {
				ahead++
				continue
			}
			least, most = min(least, wait), max(most, wait)
		}
	}
	// By the same seed these are always the same numbers.
	if lost < n*19/100 || lost > n*21/100 || doubled < n*7/100 || doubled > n*9/100 || ahead < n*3/100 || ahead > n*6/100 {
		t.Errorf("of %d packets %d are lost, %d doubled, %d ahead", n, lost, doubled, ahead)
	}
	if least < 50 || most > 150 || least > 55 || most < 145 {
		t.Errorf("held for %d to %d, want 50 to 150", least, most)
	}
	for _, fate := range fates(Rule{Loss: 1, Duplicate: 1}, 100) {
		if len(fate) != 0 {
			t.Fatalf("a packet passes a cut: %v", fate)
		}
	}
}
