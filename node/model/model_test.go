package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMutantsAndModelsMeet: each fault that a model can have is searched for, and each that is searched for is in a model.
func TestMutantsAndModelsMeet(t *testing.T) {
	var text string
	for _, file := range []string{"server.pml", fence, active} {
		data, err := models.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text += string(data)
	}
	macro := regexp.MustCompile(`\bM_[A-Z_]+\b`)
	inModels := macro.FindAllString(text, -1)
	var searched []string
	for _, m := range mutants {
		for _, d := range m.world {
			if macro.MatchString(d) {
				searched = append(searched, d)
				if !slices.Contains(inModels, d) {
					t.Errorf("%s: %s is in no model", m.name, d)
				}
			}
		}
		if m.breaks == kept {
			t.Errorf("%s breaks nothing", m.name)
		}
		if m.live() != (m.breaks == served) {
			t.Errorf("%s: liveness is asked of %s only", m.name, active)
		}
	}
	for _, m := range inModels {
		if !slices.Contains(searched, m) {
			t.Errorf("nobody searches for %s", m)
		}
	}
}

func TestSearchesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range chosen("") {
		if seen[s.name] {
			t.Errorf("%s: twice", s.name)
		}
		seen[s.name] = true
		for _, d := range s.world {
			if s.breaks == kept && strings.HasPrefix(d, "M_") {
				t.Errorf("%s: a world has no mutant", s.name)
			}
		}
	}
	if len(chosen("REVOKE")) == 0 || len(chosen("no such name")) != 0 {
		t.Error("-only chooses by name")
	}
}

// What pan prints, and what a search makes of it.
func TestJudge(t *testing.T) {
	const (
		holds   = "State-vector 88 byte, depth reached 125, errors: 0\n   309882 states, stored\n"
		broke   = "pan:1: assertion violated (1==0) (at depth 79)\nState-vector 88 byte, depth reached 79, errors: 1\n 42 states, stored\n"
		cycle   = "pan:1: acceptance cycle (at depth 148)\nState-vector 8 byte, depth reached 249, errors: 1\n 5534 states, stored (44803 visited)\n"
		strange = "pan:1: VECTORSZ is too small\nState-vector 8 byte, depth reached 1, errors: 1\n 1 states, stored\n"
		shallow = "error: max search depth too small\n" + holds
	)
	for _, c := range []struct {
		said   string
		breaks property
		ok     bool
	}{
		{holds, kept, true}, {holds, promise, false}, {holds, served, false},
		{broke, promise, true}, {broke, kept, false}, {broke, oneMember, false},
		{cycle, served, true}, {cycle, kept, false},
		{strange, kept, false}, {strange, promise, false},
		{shallow, kept, false}, {"", kept, false}, {"", promise, false},
	} {
		var r result
		err := r.read(c.said)
		if err == nil {
			err = search{breaks: c.breaks}.judge(c.said)
		}
		if (err == nil) != c.ok {
			t.Errorf("breaks %q, said %q: %v", c.breaks, c.said, err)
		}
	}
}

func TestSummary(t *testing.T) {
	sum := sumOf([]result{
		{Kind: "world", OK: true, States: 5, Depth: 3}, {Kind: "mutant", OK: true, States: 2, Depth: 9}, {Kind: "mutant", States: 1},
	})
	want := summary{Worlds: 1, Mutants: 2, Violated: 1, States: 8, Depth: 9, Properties: 8, Failed: 1}
	if sum != want {
		t.Errorf("%+v, want %+v", sum, want)
	}
	if got := named("VIOLATED: property 4"); got != "violated: I3" {
		t.Errorf("%q", got)
	}
}
