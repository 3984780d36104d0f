package control

import (
	"math/bits"
	"time"
)

// Gaps describes the time between one beat and the next of a node, as this node heard them in the last ten to twenty
// minutes. Values are upper edges of buckets, at most a sixteenth too large, but for Longest. The zero value is a node
// that was never heard twice.
type Gaps struct {
	Count                   int
	P50, P99, P999, Longest time.Duration
}

// gapEra is how long gaps are collected before the era before last is forgotten: an opinion rests on one to two eras.
// Eras are counted from boot, so what is remembered does not depend on who looked when.
const gapEra = 10 * time.Minute

// gapsEnough gaps, 50 s of beats, are an opinion; with fewer a single late beat would be one.
const gapsEnough = 1000

// gapsLook is after how many new gaps the opinion is made anew.
const gapsLook = 16

// Buckets are whole milliseconds up to 31 ms, then sixteen to each doubling, up to gapLongest.
const (
	gapFine    = 16
	gapLongest = 16383 * time.Millisecond
	gapBuckets = 176
)

// gaps remembers in bounded memory how regularly one node is heard.
type gaps struct {
	era         int64
	now, before gapCounts
	// told is the opinion, fresh the number of gaps that it does not know of.
	told  Gaps
	fresh int
}

type gapCounts struct {
	of      [gapBuckets]uint32
	total   int
	longest time.Duration
}

// note counts a gap that ended at an instant.
func (g *gaps) note(at Instant, gap time.Duration) {
	g.turn(at)
	g.now.of[gapBucket(gap)]++
	g.now.total++
	g.now.longest = max(g.now.longest, gap)
	if g.fresh++; g.fresh >= gapsLook {
		g.look()
	}
}

// turn forgets what is too old at an instant.
func (g *gaps) turn(at Instant) {
	era := int64(at) / int64(gapEra)
	if era == g.era {
		return
	}
	if era == g.era+1 {
		g.before = g.now
	} else {
		g.before = gapCounts{}
	}
	g.era, g.now = era, gapCounts{}
	g.look()
}

// at returns the opinion at an instant.
func (g *gaps) at(now Instant) Gaps {
	if g == nil {
		return Gaps{}
	}
	g.turn(now)
	return g.told
}

// look makes the opinion anew, walking down from the longest gaps.
func (g *gaps) look() {
	n := g.now.total + g.before.total
	g.fresh, g.told = 0, Gaps{Count: n, Longest: max(g.now.longest, g.before.longest)}
	above := 0
	for i := gapBuckets - 1; i >= 0 && above <= n/2; i-- {
		above += int(g.now.of[i]) + int(g.before.of[i])
		edge := gapEdge(i)
		fill(&g.told.P999, edge, above > n/1000)
		fill(&g.told.P99, edge, above > n/100)
		fill(&g.told.P50, edge, above > n/2)
	}
}

// fill sets a quantile once, when the walk has reached it.
func fill(quantile *time.Duration, edge time.Duration, reached bool) {
	if reached && *quantile == 0 {
		*quantile = edge
	}
}

func gapBucket(gap time.Duration) int {
	ms := uint64((min(max(gap, 0), gapLongest) + time.Millisecond - 1) / time.Millisecond)
	halvings := max(bits.Len64(ms)-5, 0)
	return gapFine*halvings + int(ms>>halvings)
}

// gapEdge is the longest gap that falls into a bucket.
func gapEdge(bucket int) time.Duration {
	halvings := max(bucket/gapFine-1, 0)
	top := (bucket-gapFine*halvings+1)<<halvings - 1
	return time.Duration(top) * time.Millisecond
}
