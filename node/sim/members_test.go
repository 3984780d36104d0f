package sim

import "testing"

// TestMembersChange has worlds in which one node after the other is replaced while all else goes wrong, and in which somebody starts
// the old ones again.
func TestMembersChange(t *testing.T) {
	removed := 0
	for seed := range uint64(8) {
		r := run(t, seed, Options{Mix: "members"})
		if r.Broken != "" {
			t.Errorf("seed %d: %s; %s tells the story", seed, r.Broken, retell(seed, Options{Mix: "members"}))
		}
		removed += r.removed
	}
	if removed < 8 {
		t.Errorf("%d nodes were removed in 8 worlds", removed)
	}
}
