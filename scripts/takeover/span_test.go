package takeover

import (
	"slices"
	"testing"
	"time"
)

func TestSpanText(t *testing.T) {
	for _, c := range []struct {
		span Span
		want string
	}{
		{Span{}, "0.00 s"},
		{Span{Seconds: 0.734}, "0.73 s"},
		{Span{Seconds: 12.34}, "12.3 s"},
		{Span{Seconds: 302.96}, "303 s"},
		{Span{Seconds: 330, Over: true}, "> 330 s"},
	} {
		if got := c.span.String(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.span, got, c.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	over := LongerThan(330 * time.Second)
	for _, c := range []struct {
		name     string
		values   []Span
		p50, max Span
		text     string
	}{
		{"none", nil, Span{}, Span{}, "-"},
		{"one", []Span{{Seconds: 2}}, Span{Seconds: 2}, Span{Seconds: 2}, "2.00 s"},
		{"two: the longer one", []Span{{Seconds: 3}, {Seconds: 1}}, Span{Seconds: 3}, Span{Seconds: 3}, "3.00 s / 3.00 s"},
		{"three", []Span{{Seconds: 3}, {Seconds: 1}, {Seconds: 2}}, Span{Seconds: 2}, Span{Seconds: 3}, "2.00 s / 3.00 s"},
		{"an open one is the longest", []Span{over, {Seconds: 330}, {Seconds: 1}}, Span{Seconds: 330}, over, "330 s / > 330 s"},
		{"most are open", []Span{over, over, {Seconds: 1}}, over, over, "> 330 s / > 330 s"},
	} {
		given := slices.Clone(c.values)
		s := Summarize(c.values)
		if s.N != len(c.values) || s.P50 != c.p50 || s.Max != c.max || s.String() != c.text {
			t.Errorf("%s: %+v as %q, want p50 %v max %v as %q", c.name, s, s.String(), c.p50, c.max, c.text)
		}
		if !slices.Equal(s.All, given) {
			t.Errorf("%s: the order of the values became %v", c.name, s.All)
		}
	}
}
