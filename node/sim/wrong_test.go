package sim

import (
	"maps"
	"slices"
	"testing"
	"testing/cryptotest"
)

// wrongWithin is how many worlds it may take until something that is done wrong is found.
const wrongWithin = 400

// TestWrongs does what must be right wrong, and wants it found.
func TestWrongs(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(wrongs)) {
		found := uint64(0)
		var broken string
		for seed := range uint64(wrongWithin) {
			cryptotest.SetGlobalRandom(t, seed)
			if broken = runWith(seed, false, wrongs[name]).Broken; broken != "" {
				found = seed + 1
				break
			}
		}
		if found == 0 {
			t.Errorf("%s: not found in %d worlds", name, wrongWithin)
			continue
		}
		t.Logf("%-24s found after %3d worlds: %s", name, found, broken)
	}
}
