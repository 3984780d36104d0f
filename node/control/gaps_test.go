package control

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// TestGapBuckets: every gap falls into the bucket whose edges enclose it, and no edge is more than a sixteenth off.
func TestGapBuckets(t *testing.T) {
	if last := gapBucket(time.Hour); last != gapBuckets-1 || gapEdge(last) != gapLongest {
		t.Fatalf("an hour is in bucket %d of %d, edge %s", last, gapBuckets, gapEdge(last))
	}
	for ms := range int(gapLongest / time.Millisecond) {
		gap := time.Duration(ms) * time.Millisecond
		i := gapBucket(gap)
		if edge := gapEdge(i); gap > edge || (i > 0 && gap <= gapEdge(i-1)) || 16*(edge-gap) > gap {
			t.Fatalf("%s is in bucket %d, edge %s", gap, i, edge)
		}
	}
}

func TestDetectionTime(t *testing.T) {
	const lan = 300 * time.Millisecond
	for _, c := range []struct {
		name    string
		profile time.Duration
		gaps    []time.Duration // each a thousand times but for the last
		last    int
		silence int
		want    time.Duration
		reason  string
	}{
		{name: "never heard twice", profile: lan, want: lan},
		{name: "regular beats", profile: lan, gaps: []time.Duration{50 * time.Millisecond}, last: 5000, want: lan},
		{name: "too few to say", profile: lan, gaps: []time.Duration{time.Second}, last: 999, want: lan},
		{
			name: "late all the time", profile: lan, gaps: []time.Duration{200 * time.Millisecond}, last: 1000, want: 621 * time.Millisecond,
			reason: "raised from 300ms to 621ms: its beats come up to 207ms apart (p99.9 of 1000)",
		},
		{name: "late once in a thousand", profile: lan, gaps: []time.Duration{50 * time.Millisecond, time.Second}, last: 1, want: lan},
		{
			name: "late twice in a thousand", profile: lan, gaps: []time.Duration{50 * time.Millisecond, 150 * time.Millisecond}, last: 2,
			want: 453 * time.Millisecond, reason: "raised from 300ms to 453ms: its beats come up to 151ms apart (p99.9 of 1002)",
		},
		{
			name: "in deep trouble", profile: lan, gaps: []time.Duration{5 * time.Second}, last: 2000, want: 2 * time.Second,
			reason: "raised from 300ms to 2s: its beats come up to 5.119s apart (p99.9 of 2000)",
		},
		{name: "fast has a limit of its own", profile: lan / 2, gaps: []time.Duration{5 * time.Second}, last: 2000, want: 1200 * time.Millisecond},
		{name: "so has wan", profile: 2 * time.Second, gaps: []time.Duration{5 * time.Second}, last: 2000, want: 8 * time.Second},
		{name: "the first silence is answered", profile: lan, silence: 1, want: lan},
		{name: "the second doubles", profile: lan, silence: 2, want: 2 * lan, reason: "doubled: 2 failovers by silence lately"},
		{name: "up to eightfold", profile: lan, silence: 9, want: 8 * lan},
		{
			name: "doubled from where it was raised to", profile: lan, gaps: []time.Duration{200 * time.Millisecond}, last: 1000, silence: 2,
			want:   1242 * time.Millisecond,
			reason: "raised from 300ms to 621ms: its beats come up to 207ms apart (p99.9 of 1000); doubled: 2 failovers by silence lately",
		},
		{name: "both at their limits", profile: lan, gaps: []time.Duration{5 * time.Second}, last: 2000, silence: 9, want: 8 * lan},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := GranterConfig{Timing: DefaultTiming()}
			cfg.Timing.Silence = c.profile
			g := NewGranter(cfg)
			for range c.silence {
				g.silences = append(g.silences, g.now)
			}
			g.peer("a").gaps = &gaps{}
			for i, gap := range c.gaps {
				n := 1000
				if i == len(c.gaps)-1 {
					n = c.last
				}
				for range n {
					g.peer("a").gaps.note(0, gap)
				}
			}
			g.peer("a").gaps.look()
			d := g.Detection("a")
			if d.After != c.want || (c.reason != "" && d.Reason() != c.reason) || (d.Reason() == "") != (d.After == c.profile) {
				t.Errorf("after %s because %q; want %s because %q", d.After, d.Reason(), c.want, c.reason)
			}
		})
	}
}

// FuzzGaps holds what is remembered in buckets against all the gaps in a sorted list, and the detection time against
// its promises: never below the profile's, never above its limit, never shorter for longer gaps, and forgetting.
func FuzzGaps(f *testing.F) {
	f.Add([]byte{50, 0, 60, 0, 70, 0}, uint16(400), uint16(10))
	f.Add([]byte{50, 0, 232, 3, 255, 255, 10, 0}, uint16(1000), uint16(300))
	f.Add([]byte{200, 0}, uint16(2000), uint16(0))
	f.Fuzz(func(t *testing.T, raw []byte, times, longer uint16) {
		if len(raw) > 64 {
			return
		}
		var exact []time.Duration
		heard, late := &gaps{}, &gaps{}
		at := Instant(time.Hour)
		for range times % 3000 {
			for i := 0; i+1 < len(raw); i += 2 {
				gap := time.Duration(binary.LittleEndian.Uint16(raw[i:])) * time.Millisecond
				if len(exact) >= 5000 {
					break
				}
				exact = append(exact, gap)
				heard.note(at, gap)
				late.note(at, gap+time.Duration(int(longer)*(i%3))*time.Millisecond)
			}
		}
		heard.look()
		late.look()
		compare(t, heard.at(at), exact)
		promises(t, heard, late, at)
	})
}

func compare(t *testing.T, got Gaps, exact []time.Duration) {
	t.Helper()
	slices.SortFunc(exact, cmp.Compare)
	if len(exact) == 0 {
		return
	}
	for _, q := range []struct {
		got  time.Duration
		rest int
	}{{got.P50, len(exact) / 2}, {got.P99, len(exact) / 100}, {got.P999, len(exact) / 1000}} {
		want := min(exact[len(exact)-1-q.rest], gapLongest)
		if q.got < want || q.got-want > want/16+time.Millisecond {
			t.Fatalf("all but %d of %d gaps: %s, exactly %s", q.rest, len(exact), q.got, want)
		}
	}
	if got.Count != len(exact) || got.Longest != exact[len(exact)-1] {
		t.Fatalf("%+v of %d gaps, the longest %s", got, len(exact), exact[len(exact)-1])
	}
}

func promises(t *testing.T, heard, late *gaps, at Instant) {
	t.Helper()
	for _, profile := range []time.Duration{150 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second} {
		a := Detection{Profile: profile, Gaps: heard.at(at)}.raised()
		b := Detection{Profile: profile, Gaps: late.at(at)}.raised()
		if a < profile || b < a || b > 8*profile || b > max(2*time.Second, 4*profile) {
			t.Fatalf("profile %s: %s for some gaps, %s for longer ones", profile, a, b)
		}
		later := *late
		if got := (Detection{Profile: profile, Gaps: later.at(at.Add(2 * gapEra))}).raised(); got != profile {
			t.Fatalf("profile %s: still %s after two eras", profile, got)
		}
	}
}

// TestGapsLookedAtAnyTime: what is known does not depend on how often somebody looked.
func TestGapsLookedAtAnyTime(t *testing.T) {
	var often, never gaps
	at := Instant(7 * time.Hour)
	for i := range 40_000 {
		at = at.Add(50 * time.Millisecond)
		gap := time.Duration(40+i%60) * time.Millisecond
		often.note(at, gap)
		never.note(at, gap)
		often.at(at)
	}
	if often.at(at) != never.at(at) || often.at(at).Count < 12_000 || often.at(at).Count > 24_000 {
		t.Errorf("%+v, %+v", often.at(at), never.at(at))
	}
}
