package main

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

func TestRatio(t *testing.T) {
	one := func(s takeover.Span) takeover.Summary { return takeover.Summarize([]takeover.Span{s}) }
	for _, c := range []struct {
		name        string
		native, own takeover.Summary
		want        string
	}{
		{"measured", one(takeover.Span{Seconds: 3}), one(takeover.Span{Seconds: 2}), "1.5 x"},
		{"duoflow is slower", one(takeover.Span{Seconds: 1}), one(takeover.Span{Seconds: 2}), "0.5 x"},
		{"native never ended", one(takeover.Span{Seconds: 330, Over: true}), one(takeover.Span{Seconds: 2}), "> 165 x"},
		{"duoflow never ended", one(takeover.Span{Seconds: 3}), one(takeover.Span{Seconds: 330, Over: true}), ""},
		{"nothing on one side", takeover.Summary{}, one(takeover.Span{Seconds: 2}), ""},
		{"nothing on the other", one(takeover.Span{Seconds: 2}), takeover.Summary{}, ""},
		{"no time at all", one(takeover.Span{Seconds: 2}), one(takeover.Span{}), ""},
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
		started, left takeover.Span
		stuck, unsent int
	}{
		{"the last one counts", []task{{Began: in(4), Left: in(2)}, {Began: in(1), Left: in(3), Sent: true}},
			takeover.Span{Seconds: 4}, takeover.Span{Seconds: 3}, 0, 1},
		{"one never began", []task{{Began: in(4), Left: in(2)}, {Left: in(220)}}, takeover.LongerThan(limit), takeover.Span{Seconds: 220}, 1, 2},
		{"one was never let go", []task{{}}, takeover.LongerThan(limit), takeover.LongerThan(limit), 1, 1},
	} {
		got := &trial{At: at, Orphans: c.orphans}
		got.settle(limit)
		if got.Started != c.started || got.Left != c.left || got.stuck() != c.stuck || got.unsent() != c.unsent {
			t.Errorf("%s: started %v, left %v, stuck %d, unsent %d; want %+v", c.name, got.Started, got.Left, got.stuck(), got.unsent(), c)
		}
	}
}
