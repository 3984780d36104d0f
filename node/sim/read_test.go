package sim

import "testing"

// TestReadsAreNeverOld asks all nodes in the midst of the trouble. Where reads are answered without asking the others, an old one
// has to be found.
func TestReadsAreNeverOld(t *testing.T) {
	reads := 0
	for seed := range uint64(12) {
		r := run(t, seed, Options{reads: true})
		if r.Broken != "" {
			t.Errorf("seed %d: %s", seed, r.Broken)
		}
		reads += r.reads
	}
	if reads < 2000 {
		t.Errorf("only %d reads were answered", reads)
	}
	t.Logf("%d reads", reads)
	for seed := range uint64(100) {
		if r := run(t, seed, Options{reads: true, wrong: faulty{ownReads: true}}); r.Broken != "" {
			t.Logf("found by seed %d: %s", seed, r.Broken)
			return
		}
	}
	t.Error("reads that ask nobody are not found")
}
