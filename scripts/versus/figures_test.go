package main

import (
	"slices"
	"testing"
	"time"
)

func TestSpanText(t *testing.T) {
	for _, c := range []struct {
		span span
		want string
	}{
		{span{}, "0.00 s"},
		{span{Seconds: 0.734}, "0.73 s"},
		{span{Seconds: 12.34}, "12.3 s"},
		{span{Seconds: 302.96}, "303 s"},
		{span{Seconds: 330, Over: true}, "> 330 s"},
	} {
		if got := c.span.String(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.span, got, c.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	over := longerThan(330 * time.Second)
	for _, c := range []struct {
		name     string
		values   []span
		p50, max span
		text     string
	}{
		{"none", nil, span{}, span{}, "-"},
		{"one", []span{{Seconds: 2}}, span{Seconds: 2}, span{Seconds: 2}, "2.00 s"},
		{"two: the longer one", []span{{Seconds: 3}, {Seconds: 1}}, span{Seconds: 3}, span{Seconds: 3}, "3.00 s / 3.00 s"},
		{"three", []span{{Seconds: 3}, {Seconds: 1}, {Seconds: 2}}, span{Seconds: 2}, span{Seconds: 3}, "2.00 s / 3.00 s"},
		{"an open one is the longest", []span{over, {Seconds: 330}, {Seconds: 1}}, span{Seconds: 330}, over, "330 s / > 330 s"},
		{"most are open", []span{over, over, {Seconds: 1}}, over, over, "> 330 s / > 330 s"},
	} {
		given := slices.Clone(c.values)
		s := summarize(c.values)
		if s.N != len(c.values) || s.P50 != c.p50 || s.Max != c.max || s.String() != c.text {
			t.Errorf("%s: %+v as %q, want p50 %v max %v as %q", c.name, s, s.String(), c.p50, c.max, c.text)
		}
		if !slices.Equal(s.All, given) {
			t.Errorf("%s: the order of the values became %v", c.name, s.All)
		}
	}
}

func TestRatio(t *testing.T) {
	one := func(s span) summary { return summarize([]span{s}) }
	for _, c := range []struct {
		name        string
		native, own summary
		want        string
	}{
		{"measured", one(span{Seconds: 3}), one(span{Seconds: 2}), "1.5 x"},
		{"duoflow is slower", one(span{Seconds: 1}), one(span{Seconds: 2}), "0.5 x"},
		{"native never ended", one(span{Seconds: 330, Over: true}), one(span{Seconds: 2}), "> 165 x"},
		{"duoflow never ended", one(span{Seconds: 3}), one(span{Seconds: 330, Over: true}), ""},
		{"nothing on one side", summary{}, one(span{Seconds: 2}), ""},
		{"nothing on the other", one(span{Seconds: 2}), summary{}, ""},
		{"no time at all", one(span{Seconds: 2}), one(span{}), ""},
	} {
		if got := ratio(c.native, c.own); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLongestGap(t *testing.T) {
	base := time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	at := func(seconds ...int) []time.Time {
		var out []time.Time
		for _, s := range seconds {
			out = append(out, base.Add(time.Duration(s)*time.Second))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		events []time.Time
		want   int
	}{
		{"no event: the whole window", nil, 10},
		{"the ends count", at(4), 6},
		{"between", at(1, 2, 7, 9), 5},
		{"order does not matter", at(9, 1, 7, 2), 5},
		{"outside does not count", at(-3, 12), 10},
		{"at the ends", at(0, 10), 10},
	} {
		got := longestGap(c.events, base, base.Add(10*time.Second))
		if got != time.Duration(c.want)*time.Second {
			t.Errorf("%s: %s, want %d s", c.name, got, c.want)
		}
	}
}

func TestSettle(t *testing.T) {
	at := time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	limit := 330 * time.Second
	in := func(seconds float64) time.Time { return at.Add(time.Duration(seconds * float64(time.Second))) }
	for _, c := range []struct {
		name          string
		orphans       []task
		started, left span
		stuck, unsent int
	}{
		{"the last one counts", []task{{Began: in(4), Left: in(2)}, {Began: in(1), Left: in(3), Sent: true}},
			span{Seconds: 4}, span{Seconds: 3}, 0, 1},
		{"one never began", []task{{Began: in(4), Left: in(2)}, {Left: in(220)}}, longerThan(limit), span{Seconds: 220}, 1, 2},
		{"one was never let go", []task{{}}, longerThan(limit), longerThan(limit), 1, 1},
	} {
		got := &trial{At: at, Orphans: c.orphans}
		got.settle(limit)
		if got.Started != c.started || got.Left != c.left || got.stuck() != c.stuck || got.unsent() != c.unsent {
			t.Errorf("%s: started %v, left %v, stuck %d, unsent %d; want %+v", c.name, got.Started, got.Left, got.stuck(), got.unsent(), c)
		}
	}
}
