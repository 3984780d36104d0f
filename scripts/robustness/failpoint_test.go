package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/duoflow/duoflow/scripts/failpoints"
	"github.com/duoflow/duoflow/scripts/lab"
)

// TestEveryFailpointIsTried: the table names each of the product's once, and no other.
func TestEveryFailpointIsTried(t *testing.T) {
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	points, err := failpoints.Points(root)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, p := range points {
		want = append(want, p.Name)
	}
	for _, some := range pointsOf {
		for _, p := range some {
			got = append(got, p.name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("table: %v\nproduct: %v", got, want)
	}
}

func TestPointsAreDealtInTurn(t *testing.T) {
	f := &failing{hands: map[string][]point{}}
	dice := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 3 * len(pointsOf["fence"]) {
		seen[f.deal("fence", dice).name]++
	}
	for _, p := range pointsOf["fence"] {
		if seen[p.name] != 3 {
			t.Errorf("%s came %d times of 3", p.name, seen[p.name])
		}
	}
}

// TestAPointThatIsNeverHitIsToldOf: one that is tried often and never passed proves nothing.
func TestAPointThatIsNeverHitIsToldOf(t *testing.T) {
	for text, want := range map[string]int{
		"":                                   0,
		"x kill a missed\nx kill a hit\n":    0,
		"x kill a missed\nx late b missed\n": 0,
		"x kill a missed\nx late b missed\nx freeze t missed\n": 1,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, pointsName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if wrong, err := checkFailpoints(dir); err != nil || len(wrong) != want {
			t.Errorf("%q: %v, %v", text, wrong, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, pointsName), []byte("x kill\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checkFailpoints(dir); err == nil {
		t.Error("half a line is accepted")
	}
}

func TestTerms(t *testing.T) {
	s := &shot{what: "late", late: 1500000000, skips: 3}
	if got := s.term(); got != `3*off->1*sleep("1.5s")` {
		t.Error(got)
	}
	if got := (&shot{what: "kill"}).term(); got != "1*kill" {
		t.Error(got)
	}
}
