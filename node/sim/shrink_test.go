package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shrink leaves out troubles of a broken world, many at a time and then one by one, as long as the same kind of thing is
// still broken. It returns those that matter.
func shrink(t *testing.T, r Result, o Options) (keep []int) {
	t.Helper()
	o.Keep = []int{}
	for n := range r.Troubles {
		if n++; !slices.Contains(o.Mute, n) {
			o.Keep = append(o.Keep, n)
		}
	}
	o.Mute = nil
	for size := len(o.Keep); size > 0; size /= 2 {
		for end := len(o.Keep); end > 0; end -= size {
			without := o
			without.Keep = slices.Delete(slices.Clone(o.Keep), max(0, end-size), end)
			if kind(run(t, r.Seed, without).Broken) == kind(r.Broken) {
				o = without
			}
		}
	}
	return o.Keep
}

// kind is what sort of thing is broken: instants and numbers are others in each world.
func kind(broken string) string {
	_, what, _ := strings.Cut(broken, ": ")
	sort, _, _ := strings.Cut(what, ":")
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, sort)
}

// retell is how to be told the story of a world, with the troubles that matter.
func retell(seed uint64, o Options) string {
	text := fmt.Sprintf("make sim SEED=%d", seed)
	if o.Keep != nil {
		text += " KEEP=" + numbers(o.Keep)
	}
	if o.Mix != "" {
		text += " MIX=" + o.Mix
	}
	return text
}

// numbers writes a list as MUTE and KEEP have it; 0 is no trouble's number.
func numbers(list []int) string {
	if len(list) == 0 {
		return "0"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}
