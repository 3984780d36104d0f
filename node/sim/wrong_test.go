package sim

import (
	"maps"
	"slices"
	"testing"
)

// wrongWithin is how many worlds it may take until something that is done wrong is found.
const wrongWithin = 1500

// TestWrongs does wrong what must be right, and wants it found. What is found seldom is looked for when SEEDS says that there is
// time for many worlds.
func TestWrongs(t *testing.T) {
	_, all := number(t, "SEEDS")
	for _, name := range slices.Sorted(maps.Keys(wrongs)) {
		w := wrongs[name]
		if w.rare && !all {
			continue
		}
		seed, broken := find(t, w)
		if broken == "" {
			t.Errorf("%s: not found in %d worlds from seed %d on", name, wrongWithin, w.seed)
			continue
		}
		t.Logf("%-24s found by seed %4d: %s", name, seed, broken)
	}
}

func find(t *testing.T, w wrong) (seed uint64, broken string) {
	t.Helper()
	for seed = w.seed; seed < w.seed+wrongWithin; seed++ {
		if r := run(t, seed, Options{wrong: w.faulty}); r.Broken != "" {
			return seed, r.Broken
		}
	}
	return seed, ""
}
