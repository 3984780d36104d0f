package sim

import (
	"maps"
	"slices"
	"testing"
)

// named is a world in which a bug was seen, or is when a rule is taken out.
type named struct {
	seed uint64
	mix  string
	// keep are the troubles of the seed that matter; nil: all.
	keep []int
	// bug is what was wrong, shows what is seen of it.
	bug, shows string
}

// TestNamed wants every named world to be well; mutants.txt brings each bug back and wants its world to show it. What a seed
// does changes with the code: HUNT=n looks at n seeds more, from the world's own on, for one that is to take its place.
func TestNamed(t *testing.T) {
	hunt, _ := number(t, "HUNT")
	for _, name := range slices.Sorted(maps.Keys(worlds)) {
		w := worlds[name]
		t.Run(name, func(t *testing.T) {
			o := Options{Mix: w.mix, Keep: w.keep}
			if o.Mix != "" && mixes[o.Mix] == nil {
				t.Fatalf("there is no mix %q", o.Mix)
			}
			r := run(t, w.seed, o)
			for seed := w.seed; r.Broken == "" && seed < w.seed+hunt; seed++ {
				o.Keep = nil
				r = run(t, seed, o)
			}
			if r.Broken == "" {
				return
			}
			if o.Keep == nil && hunt > 0 {
				o.Keep = shrink(t, r, o)
			}
			t.Errorf("seed %d: %s; %s tells the story", r.Seed, r.Broken, retell(r.Seed, o))
		})
	}
}
